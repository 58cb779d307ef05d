package blob

// Settle waits until nothing goes on in the background.
func (s *Store) Settle() { s.wg.Wait() }
