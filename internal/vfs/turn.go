package vfs

import "sync"

// turn is a lock that may be held for as long as drives take: those who wait get
// it in the order in which they came, so that nobody who takes it again and again
// keeps others from it. While they wait the clock of a test's bubble goes on,
// which it does not for a sync.Mutex. The zero turn is free.
type turn struct {
	mu   sync.Mutex
	held bool            // guarded by mu
	next []chan struct{} // of those who wait, closed when it is theirs; guarded by mu
}

// Lock waits until it is the caller's turn.
func (t *turn) Lock() {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	t.next = append(t.next, mine)
	t.mu.Unlock()
	<-mine
}

// TryLock reports whether it was the caller's turn at once.
func (t *turn) TryLock() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		return false
	}
	t.held = true
	return true
}

// Unlock hands it to who has waited longest.
func (t *turn) Unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.held {
		panic("vfs: unlock of a turn that nobody has")
	}
	if len(t.next) == 0 {
		t.held, t.next = false, nil
		return
	}
	close(t.next[0])
	t.next = t.next[1:]
}
