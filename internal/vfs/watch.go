package vfs

import (
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// watchers are told of every change.
type watchers struct {
	count atomic.Int32
	mu    sync.RWMutex
	fns   map[int]func(fsapi.Change)
	next  int
}

// Watch implements FS.
func (fs *Local) Watch(fn func(fsapi.Change)) (stop func()) {
	w := &fs.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fns == nil {
		w.fns = map[int]func(fsapi.Change){}
	}
	id := w.next
	w.next++
	w.fns[id] = fn
	w.count.Add(1)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, ok := w.fns[id]; ok {
			delete(w.fns, id)
			w.count.Add(-1)
		}
	}
}

// tell calls the watchers. Who changes names or attributes calls it while it
// holds the node's ns, so that an inode's changes come in order.
func (fs *Local) tell(c fsapi.Change) {
	w := &fs.watch
	if w.count.Load() == 0 {
		return
	}
	c.Volume = fs.vol
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, fn := range w.fns {
		fn(c)
	}
}
