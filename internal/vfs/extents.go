package vfs

import (
	"context"
	"sort"
	"strconv"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

const (
	windowMax   = 32  // windows of one node
	windowLook  = 256 // extents looked up at a time
	windowSpare = 64  // extents kept of a file that is not open
)

// windows caches stored extents of a node. Guarded by the node's mu.
type windows struct {
	ver uint64 // counts clears, so that what was read before one is not kept
	all []*window
	use int // the window to be replaced next
	cap int // extents to look up at a random place; falls when windows do not help
}

// window is the stored extents of [off, end), all of them, ascending. Nothing
// in it changes after it is made.
type window struct {
	off, end int64
	exts     []fsapi.Extent
}

func (w *windows) clear() {
	w.ver++
	w.all, w.use, w.cap = nil, 0, 0
}

// shrink drops what is much, when the last handle is closed.
func (w *windows) shrink() {
	n := 0
	for _, x := range w.all {
		n += len(x.exts)
	}
	if n > windowSpare {
		w.clear()
	}
}

func (w *windows) find(off int64) *window {
	for _, x := range w.all {
		if x.off <= off && off < x.end {
			return x
		}
	}
	return nil
}

func (w *windows) add(x *window) {
	if len(w.all) < windowMax {
		w.all = append(w.all, x)
		return
	}
	w.all[w.use] = x
	if w.use = (w.use + 1) % windowMax; w.use == 0 {
		w.cap = max(w.cap/2, 8)
	}
}

// extentsAt returns the stored extents from off to the result's end, which is
// above off and at most limit. They must not be changed.
func (fs *Local) extentsAt(ctx context.Context, n *node, off, limit int64, seq bool) ([]fsapi.Extent, int64, error) {
	n.mu.RLock()
	w := n.extents.find(off)
	ver, look := n.extents.ver, n.extents.cap
	n.mu.RUnlock()
	if w == nil {
		if look == 0 || seq {
			look = windowLook
		}
		var err error
		if w, err = fs.lookWindow(ctx, n, off, look); err != nil {
			return nil, 0, err
		}
		n.mu.Lock()
		if n.extents.ver == ver {
			if n.extents.cap == 0 {
				n.extents.cap = windowLook
			}
			n.extents.add(w)
		}
		n.mu.Unlock()
	}
	end := min(w.end, limit)
	i := sort.Search(len(w.exts), func(i int) bool { return w.exts[i].End() > off })
	j := i + sort.Search(len(w.exts)-i, func(j int) bool { return w.exts[i+j].Off >= end })
	return w.exts[i:j], end, nil
}

// lookWindow reads up to look extents from off on.
func (fs *Local) lookWindow(ctx context.Context, n *node, off int64, look int) (*window, error) {
	exts, err := fs.lookExtents(ctx, n, off, fsapi.MaxFileSize, look)
	if err != nil {
		return nil, err
	}
	return newWindow(off, exts, look), nil
}

// newWindow is what up to look extents, read from off on, say.
func newWindow(off int64, exts []fsapi.Extent, look int) *window {
	w := &window{off: off, end: fsapi.MaxFileSize, exts: exts}
	if len(exts) == look {
		w.end = exts[look-1].End()
	}
	if len(exts) > 0 {
		w.off = min(off, exts[0].Off)
	}
	return w
}

func (fs *Local) lookExtents(ctx context.Context, n *node, off, end int64, limit int) (exts []fsapi.Extent, err error) {
	err = fs.view(ctx, func(tx *meta.Tx) (err error) {
		if fs.o.ReadOnly {
			if err := fs.sameState(tx, n); err != nil {
				return err
			}
		}
		exts, err = tx.Extents(n.ino, off, end, limit)
		return err
	})
	return exts, err
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
