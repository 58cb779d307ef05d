package model

import (
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// watcher is one subscription of Watch.
type watcher struct{ fn func(fsapi.Change) }

// Watch implements vfs.FS. fn runs while the model's mutex is held.
func (f *FS) Watch(fn func(fsapi.Change)) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &watcher{fn}
	f.watchers = append(f.watchers, w)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers = slices.DeleteFunc(f.watchers, func(x *watcher) bool { return x == w })
	}
}

// notify tells what happened, at once or when the running batch succeeds.
func (f *FS) notify(c fsapi.Change) {
	c.Volume = f.o.Volume
	if f.inBatch {
		f.pending = append(f.pending, c)
		return
	}
	for _, w := range f.watchers {
		w.fn(c)
	}
}

func (f *FS) notifyContent(c *fsapi.Cred, n *node, off, length int64) {
	f.notify(fsapi.Change{
		Kind: fsapi.ChangeContent, Ino: n.attr.Ino, Type: n.attr.Type, Off: off, Len: length, Door: c.Door,
	})
}
