package provider

// Held is bytes in use, at most those of NewMemory.
func (m *Memory) Held() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}
