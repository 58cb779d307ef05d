package meta

import (
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// tops remembers of files that are appended to where their extents end, so that
// storing another need not look for what it replaces. An entry holds for one
// change number of the inode, as whatever writes an extent raises that. Safe for
// concurrent use.
type tops struct {
	mu sync.Mutex
	m  map[topKey]top // guarded by mu
}

type topKey struct {
	vol fsapi.VolumeID
	ino fsapi.Ino
}

// top is a bound on the extents of a file: none ends above end.
type top struct {
	change uint64 // of the inode as stored
	end    int64
}

// maxTops bounds the entries.
const maxTops = 8192

func (t *tops) get(k topKey, change uint64) (end int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.m[k]
	return e.end, ok && e.change == change
}

func (t *tops) put(k topKey, e top) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.m[k]
	switch {
	case ok && old.change > e.change:
		return
	case t.m == nil:
		t.m = make(map[topKey]top)
	case !ok && len(t.m) >= maxTops:
		for any := range t.m { // map order is as good as random
			delete(t.m, any)
			break
		}
	}
	t.m[k] = e
}

// foundTop is a bound that a transaction knows, with what it changed itself.
type foundTop struct {
	ino fsapi.Ino
	top
	stored bool // the inode was written with it
}

// above reports whether off is at or above the end of all extents of in. It
// looks for one where that is not known and off is where an append goes.
func (tx *Tx) above(in *Inode, off int64) (bool, error) {
	if f := tx.foundTop(in.Ino); f != nil {
		return off >= f.end, nil
	}
	end, ok := tx.s.tops.get(topKey{tx.vol, in.Ino}, in.Change)
	if !ok {
		if off < in.Size {
			return false, nil
		}
		if rest, _, err := tx.extentsAfter(in.Ino, off, 1); err != nil || len(rest) > 0 {
			return false, err
		}
		end = off
	}
	tx.foundTops = append(tx.foundTops, foundTop{ino: in.Ino, top: top{end: end}})
	return off >= end, nil
}

func (tx *Tx) foundTop(ino fsapi.Ino) *foundTop {
	for i := range tx.foundTops {
		if tx.foundTops[i].ino == ino {
			return &tx.foundTops[i]
		}
	}
	return nil
}

// raiseTop takes note of an extent that ends at end.
func (tx *Tx) raiseTop(ino fsapi.Ino, end int64) {
	if f := tx.foundTop(ino); f != nil {
		f.end = max(f.end, end)
	}
}

// keepTop takes note of an inode that was written.
func (tx *Tx) keepTop(in *Inode) {
	if f := tx.foundTop(in.Ino); f != nil {
		f.change, f.stored = in.Change, true
	}
}

func (tx *Tx) publishTops() {
	for i := range tx.foundTops {
		if f := &tx.foundTops[i]; f.stored {
			tx.s.tops.put(topKey{tx.vol, f.ino}, f.top)
		}
	}
}
