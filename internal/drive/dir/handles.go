package dir

import (
	"container/list"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/osfs"
)

// handles keeps files open for reading, the most recently used ones. Safe for
// concurrent use.
type handles struct {
	limit int

	mu     sync.Mutex
	byName map[string]*handle // guarded by mu
	recent *list.List         // of *handle, most recently used first; guarded by mu
	// forgotten counts calls of forget: a file opened before one of them may
	// be another than the name has now.
	forgotten uint64
}

// handle is an open file.
type handle struct {
	name string
	file osfs.File
	// Both are guarded by handles.mu.
	refs int           // readers at work
	elem *list.Element // nil: to be closed by the last reader
}

func newHandles(limit int) handles {
	return handles{limit: limit, byName: map[string]*handle{}, recent: list.New()}
}

// acquire gives the open file of a name, which open opens if need be. The
// caller gives it back with release.
func (h *handles) acquire(name string, open func() (osfs.File, error)) (*handle, error) {
	h.mu.Lock()
	if x := h.byName[name]; x != nil {
		x.refs++
		h.recent.MoveToFront(x.elem)
		h.mu.Unlock()
		return x, nil
	}
	forgotten := h.forgotten
	h.mu.Unlock()
	f, err := open()
	if err != nil {
		return nil, err
	}
	x := &handle{name: name, file: f, refs: 1}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName[name] == nil && h.forgotten == forgotten {
		x.elem = h.recent.PushFront(x)
		h.byName[name] = x
		_ = h.shrink(h.limit) // opened for reading: there is nothing to lose
	}
	return x, nil
}

// release gives a handle back.
func (h *handles) release(x *handle) {
	h.mu.Lock()
	x.refs--
	last := x.refs == 0 && x.elem == nil
	h.mu.Unlock()
	if last {
		x.file.Close() // opened for reading: there is nothing to lose
	}
}

// forget makes sure that later readers open the name anew.
func (h *handles) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgotten++
	if x := h.byName[name]; x != nil {
		_ = h.drop(x) // opened for reading: there is nothing to lose
	}
}

// shrink drops the least recently used beyond n. Requires mu.
func (h *handles) shrink(n int) (err error) {
	for h.recent.Len() > n {
		err = errors.Join(err, h.drop(h.recent.Back().Value.(*handle)))
	}
	return err
}

// drop takes x out of the cache. Requires mu.
func (h *handles) drop(x *handle) error {
	delete(h.byName, x.name)
	h.recent.Remove(x.elem)
	x.elem = nil
	if x.refs == 0 {
		return x.file.Close()
	}
	return nil
}

// closeAll empties the cache.
func (h *handles) closeAll() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgotten++
	return h.shrink(0)
}
