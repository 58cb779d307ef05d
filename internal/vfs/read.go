package vfs

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// ReadAt implements File.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.usable(OpenRead | OpenExec); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "offset %d is negative", off)
	}
	seq, cold := f.sequential(off, len(p))
	if cold {
		f.readAhead(ctx, off, off+int64(len(p)))
	}
	n, stored, err := f.fs.read(ctx, f.n, p, off, seq)
	if err != nil {
		return 0, err
	}
	if seq && n > 0 && f.ahead.found(stored) && !cold {
		f.readAhead(ctx, off+int64(n), off+int64(n))
	}
	f.fs.stats.read.Add(int64(n))
	if len(p) > 0 && f.flags&OpenNoTime == 0 {
		f.fs.accessed(f.n)
	}
	return n, nil
}

// read fills p from off. seq says that the reader goes from one end to the
// other; the result says whether anything was not in memory as dirty data.
func (fs *Local) read(ctx context.Context, n *node, p []byte, off int64, seq bool) (int, bool, error) {
	for tries := 0; ; tries++ {
		got, stored, err := fs.readOnce(ctx, n, p, off, seq)
		if !errors.Is(err, errChanged) {
			return got, stored, err
		}
		if err := fs.renew(ctx, n.ino); err != nil {
			return 0, false, err
		}
		if tries == readTries {
			return 0, false, fsapi.Errorf(fsapi.Busy, "inode %d changes faster than it can be read", n.ino)
		}
	}
}

// readOnce is read of the state that the node is of: errChanged.
func (fs *Local) readOnce(ctx context.Context, n *node, p []byte, off int64, seq bool) (int, bool, error) {
	n.io.RLock()
	defer n.io.RUnlock()
	var gapBuf [4]gap
	n.mu.RLock()
	if off >= n.in.Size {
		n.mu.RUnlock()
		return 0, false, nil
	}
	p = p[:min(int64(len(p)), n.in.Size-off)]
	state := n.in.Change
	gaps := append(gapBuf[:0], gap{off, off + int64(len(p))})
	if n.data != nil {
		gaps = n.data.read(p, off, gapBuf[:0])
	}
	mask := n.mask()
	n.mu.RUnlock()
	for _, g := range gaps {
		stored := min(g.end, max(mask, g.off))
		if err := fs.readStored(ctx, n, p[g.off-off:stored-off], g.off, seq); err != nil {
			return 0, false, err
		}
		clear(p[stored-off : g.end-off])
	}
	if fs.o.ReadOnly && !n.isOf(state) {
		return 0, false, errChanged
	}
	return len(p), len(gaps) > 0, nil
}

// readStored fills p from stored extents, and with zeros where there are none.
func (fs *Local) readStored(ctx context.Context, n *node, p []byte, off int64, seq bool) error {
	for len(p) > 0 {
		exts, end, err := fs.extentsAt(ctx, n, off, off+int64(len(p)), seq)
		if err != nil {
			return err
		}
		part := p[:min(end-off, int64(len(p)))]
		if err := fs.readExtents(ctx, n, exts, part, off); err != nil {
			return err
		}
		p, off = p[len(part):], off+int64(len(part))
	}
	return nil
}

// readExtents fills p, whose range exts map wholly.
func (fs *Local) readExtents(ctx context.Context, n *node, exts []fsapi.Extent, p []byte, off int64) error {
	end := off + int64(len(p))
	if len(exts) > 1 {
		fs.o.Blob.Prefetch(fs.vol, exts[1:])
	}
	at := off
	for i := range exts {
		e := &exts[i]
		lo, hi := max(e.Off, off), min(e.End(), end)
		if lo >= hi {
			continue
		}
		clear(p[at-off : lo-off])
		at = hi
		if e.Kind == fsapi.ExtentUnwritten {
			clear(p[lo-off : hi-off])
			continue
		}
		if err := fs.readExtent(ctx, n, e, lo, p[lo-off:hi-off]); err != nil {
			return err
		}
	}
	clear(p[at-off:])
	return nil
}

// readExtent reads from one extent. One that was replaced since it was looked
// up may have lost its chunk, and one that was sealed anew its key: then it is
// looked up again.
func (fs *Local) readExtent(ctx context.Context, n *node, e *fsapi.Extent, at int64, p []byte) error {
	err := fs.o.Blob.ReadExtent(ctx, fs.vol, e, at-e.Off, p)
	if err == nil || ctx.Err() != nil {
		return err
	}
	now, lookErr := fs.lookExtents(ctx, n, at, at+int64(len(p)), 2)
	if fs.o.ReadOnly && lookErr == nil && len(now) == 1 && sameRecord(&now[0], e) {
		// What the other machine gave up, it gave up in a batch that is not shown yet.
		if lookErr = fs.catchUp(ctx); lookErr == nil {
			if err = fs.o.Blob.ReadExtent(ctx, fs.vol, e, at-e.Off, p); err == nil || ctx.Err() != nil {
				return err
			}
			now, lookErr = fs.lookExtents(ctx, n, at, at+int64(len(p)), 2)
		}
	}
	if errors.Is(lookErr, errChanged) || errors.Is(lookErr, fsapi.Stale) {
		return lookErr
	}
	if lookErr != nil || len(now) == 1 && sameRecord(&now[0], e) {
		return fsapi.Wrap(fsapi.KindOf(err), err, "read inode "+itoa(uint64(n.ino)))
	}
	n.mu.Lock()
	n.extents.clear()
	n.mu.Unlock()
	return fs.readStored(ctx, n, p, at, false)
}

// sameRecord reports whether an extent that was looked up again leads to the same
// sealed bytes.
func sameRecord(now, e *fsapi.Extent) bool {
	return now.Off == e.Off && now.Chunk == e.Chunk && now.Loc == e.Loc && bytes.Equal(now.Inline, e.Inline)
}

// readAhead watches a handle for reading from one end to the other.
type readAhead struct {
	mu   sync.Mutex
	next int64 // where a sequential read would go on
	runs int   // sequential reads up to here
	read int64 // bytes of them
	upto int64 // prefetched up to here
	cold bool  // the last of them read stored data
}

// sequential notes a read and says whether it goes on where another ended, and
// whether that one read stored data.
func (f *file) sequential(off int64, n int) (seq, cold bool) {
	a := &f.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	// The kernel's own read-ahead may arrive a little out of order.
	if off >= a.next-1<<20 && off <= a.next+1<<20 && (a.runs > 0 || off == a.next) {
		a.runs++
	} else {
		a.runs, a.read, a.upto, a.cold = 0, 0, 0, false
	}
	a.read += int64(n)
	a.next = off + int64(n)
	return a.runs > 0, a.cold
}

// found notes whether a sequential read read stored data, and returns it.
func (a *readAhead) found(stored bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cold = stored
	return stored
}

// minAhead is the window of a reader who has just begun, in bytes. It grows with
// what he has read, up to Options.ReadAhead: who stops early has not made a bucket
// send much for nothing, who goes on keeps several requests under way.
const minAhead = 4 << 20

// readAhead asks blob for the chunks of a read of [at, end) and for those that
// follow, when half of what was asked for before has been read. It comes before
// the read: several reads of one reader are under way at a time, and each would
// ask for its own few chunks.
func (f *file) readAhead(ctx context.Context, at, end int64) {
	if f.fs.o.ReadAhead <= 0 || f.flags&OpenDirect != 0 {
		return
	}
	a := &f.ahead
	a.mu.Lock()
	window := min(f.fs.o.ReadAhead, max(minAhead, 2*a.read))
	from, upto := max(a.upto, at), end+window
	if from-end > window/2 {
		a.mu.Unlock()
		return
	}
	a.upto = upto
	a.mu.Unlock()
	if got := f.prefetch(ctx, from, upto); got < upto {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.upto == upto { // the next read asks for the rest
			a.upto = got
		}
	}
}

// prefetch asks blob for the chunks of [at, end) and says how far it will load
// them.
func (f *file) prefetch(ctx context.Context, at, end int64) int64 {
	for at < end {
		exts, next, err := f.fs.extentsAt(ctx, f.n, at, end, true)
		if err != nil {
			return at
		}
		if n := f.fs.o.Blob.Prefetch(f.fs.vol, exts); n < len(exts) {
			return max(at, exts[n].Off)
		}
		at = next
	}
	return end
}

// accessed sets the access time as the policy says, in memory; it is stored
// with other changes, or by age.
func (fs *Local) accessed(n *node) {
	if fs.o.ReadOnly {
		return
	}
	now := fs.now()
	n.mu.RLock()
	pol := n.pol
	due := n.atimeDue(now)
	n.mu.RUnlock()
	if !due {
		return
	}
	if pol == nil || pol.gen != fs.policies.gen.Load() {
		var err error
		if pol, err = fs.effective(fs.ctx, n); err != nil {
			return
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || pol.Atime == policy.NoAtime || !n.atimeDue(now) {
		return
	}
	n.in.Atime = now
	n.pend |= fAtime
	fs.queue.pushLocked(n, now)
}

// atimeDue is relatime's rule (mount(8)), or, under strictatime, whether the
// time has changed at all. REQUIRES n.mu.
func (n *node) atimeDue(now time.Time) bool {
	a := n.in.Atime
	if n.pol != nil {
		switch n.pol.Atime {
		case policy.NoAtime:
			return false
		case policy.StrictAtime:
			return now.After(a)
		}
	}
	return !a.After(n.in.Mtime) || !a.After(n.in.Ctime) || now.Sub(a) >= 24*time.Hour
}
