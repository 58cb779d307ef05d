package vfs

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// lockEnd is the End of a lock that reaches to the end of any file.
const lockEnd = math.MaxInt64

// lockTable is every lock of the volume, whichever door took it.
type lockTable struct {
	mu      sync.Mutex
	inodes  map[fsapi.Ino]*inodeLocks
	waiting map[LockOwner][]*lockWait // of POSIX locks, for finding deadlocks
	closed  bool
}

// inodeLocks is the locks of one inode. It holds the node.
type inodeLocks struct {
	n     *node
	posix []Lock  // by owner not overlapping; sorted by Start
	flock []flock // at most one of an owner
	wake  chan struct{}
	waits int
}

// flock is a whole-file lock, and the handle that it was taken through last, which
// releases it when it is closed.
type flock struct {
	Lock
	via *file
}

// lockWait is a caller that waits for a lock.
type lockWait struct {
	l   Lock
	ino fsapi.Ino
}

func (t *lockTable) init() {
	t.inodes = map[fsapi.Ino]*inodeLocks{}
	t.waiting = map[LockOwner][]*lockWait{}
}

// close wakes everybody who waits; nothing is locked any more.
func (t *lockTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, il := range t.inodes {
		close(il.wake)
		il.wake = make(chan struct{})
	}
}

// of is the locks of n, made where there are none. REQUIRES t.mu.
func (t *lockTable) of(n *node) *inodeLocks {
	il := t.inodes[n.ino]
	if il == nil {
		n.hold()
		il = &inodeLocks{n: n, wake: make(chan struct{})}
		t.inodes[n.ino] = il
	}
	return il
}

// tidy forgets an inode without locks. REQUIRES t.mu.
func (t *lockTable) tidy(il *inodeLocks) {
	if len(il.posix) == 0 && len(il.flock) == 0 && il.waits == 0 {
		delete(t.inodes, il.n.ino)
		il.n.release()
	}
}

func (l *Lock) overlaps(o *Lock) bool { return l.Start <= o.End && o.Start <= l.End }

// refuses reports whether l, which is held, keeps o from being taken.
func (l *Lock) refuses(o *Lock) bool {
	return l.Owner != o.Owner && (o.Flock || l.overlaps(o)) && (l.Type == LockWrite || o.Type == LockWrite)
}

// conflict finds a lock that refuses l.
func (il *inodeLocks) conflict(l *Lock) *Lock {
	if l.Flock {
		for i := range il.flock {
			if h := &il.flock[i].Lock; h.refuses(l) {
				return h
			}
		}
		return nil
	}
	for i := range il.posix {
		if h := &il.posix[i]; h.refuses(l) {
			return h
		}
	}
	return nil
}

// refusers appends the owners of all POSIX locks that refuse l.
func (il *inodeLocks) refusers(l *Lock, to []LockOwner) []LockOwner {
	for i := range il.posix {
		if h := &il.posix[i]; h.refuses(l) {
			to = append(to, h.Owner)
		}
	}
	return to
}

// put takes or releases l, which conflicts with nothing, through via: ranges of the
// owner are replaced, split and joined as fcntl(2) says.
func (il *inodeLocks) put(l Lock, via *file) {
	if l.Flock {
		il.flock = slices.DeleteFunc(il.flock, func(h flock) bool { return h.Owner == l.Owner })
		if l.Type != LockNone {
			il.flock = append(il.flock, flock{l, via})
		}
		return
	}
	kept := make([]Lock, 0, len(il.posix)+2)
	for _, h := range il.posix {
		switch {
		case h.Owner != l.Owner:
			kept = append(kept, h)
		case h.Type == l.Type && l.Type != LockNone && touches(&h, &l):
			l.Start, l.End = min(l.Start, h.Start), max(l.End, h.End)
		case !h.overlaps(&l):
			kept = append(kept, h)
		default:
			kept = append(kept, h.without(&l)...)
		}
	}
	if l.Type != LockNone {
		kept = append(kept, l)
	}
	slices.SortFunc(kept, func(a, b Lock) int { return cmpInt(a.Start, b.Start) })
	il.posix = kept
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// touches reports whether two ranges overlap or adjoin.
func touches(a, b *Lock) bool {
	return (a.End == lockEnd || b.Start <= a.End+1) && (b.End == lockEnd || a.Start <= b.End+1)
}

// without is h with l's range taken out.
func (h Lock) without(l *Lock) []Lock {
	var out []Lock
	if h.Start < l.Start {
		left := h
		left.End = l.Start - 1
		out = append(out, left)
	}
	if h.End > l.End {
		right := h
		right.Start = l.End + 1
		out = append(out, right)
	}
	return out
}

// deadlock reports whether l waiting for the owners todo closes a ring of owners
// that wait for each other. REQUIRES t.mu.
func (t *lockTable) deadlock(l *Lock, todo []LockOwner) bool {
	seen := map[LockOwner]bool{}
	for len(todo) > 0 {
		o := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if o == l.Owner {
			return true
		}
		if seen[o] {
			continue
		}
		seen[o] = true
		for _, w := range t.waiting[o] {
			il := t.inodes[w.ino]
			if il == nil {
				continue
			}
			todo = il.refusers(&w.l, todo)
		}
	}
	return false
}

// set takes or releases a lock through a handle, waiting where wait is true.
func (t *lockTable) set(ctx context.Context, via *file, l Lock, wait bool) error {
	n := via.n
	t.mu.Lock()
	defer t.mu.Unlock()
	il := t.of(n)
	defer func() { t.tidy(il) }()
	for {
		if t.closed {
			return fsapi.Errorf(fsapi.Closed, "the volume is closed")
		}
		h := il.conflict(&l)
		if l.Type == LockNone || h == nil {
			il.put(l, via)
			il.wakeAll()
			return nil
		}
		if !wait {
			return fsapi.Errorf(fsapi.WouldBlock, "inode %d is locked by another (%s, pid %d)", n.ino, h.Owner.Door, h.Pid)
		}
		if !l.Flock && t.deadlock(&l, il.refusers(&l, nil)) {
			return fsapi.Errorf(fsapi.Deadlock, "the holder of a lock on inode %d waits for the caller", n.ino)
		}
		if err := t.sleep(ctx, il, l); err != nil {
			return err
		}
	}
}

// wakeAll lets everybody who waits look again. A lock that was changed, not
// only released, may let others in: a writer that becomes a reader.
func (il *inodeLocks) wakeAll() {
	if il.waits > 0 {
		close(il.wake)
		il.wake = make(chan struct{})
	}
}

// sleep waits for a change of il's locks. REQUIRES t.mu, which is let go
// meanwhile.
func (t *lockTable) sleep(ctx context.Context, il *inodeLocks, l Lock) error {
	w := &lockWait{l: l, ino: il.n.ino}
	if !l.Flock {
		t.waiting[l.Owner] = append(t.waiting[l.Owner], w)
	}
	il.waits++
	wake := il.wake
	t.mu.Unlock()
	var err error
	select {
	case <-wake:
	case <-ctx.Done():
		err = fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for a lock")
	}
	t.mu.Lock()
	il.waits--
	if !l.Flock {
		ws := slices.DeleteFunc(t.waiting[l.Owner], func(x *lockWait) bool { return x == w })
		if t.waiting[l.Owner] = ws; len(ws) == 0 {
			delete(t.waiting, l.Owner)
		}
	}
	return err
}

// get finds a lock that would refuse l.
func (t *lockTable) get(n *node, l Lock) Lock {
	t.mu.Lock()
	defer t.mu.Unlock()
	if il := t.inodes[n.ino]; il != nil {
		if h := il.conflict(&l); h != nil {
			return *h
		}
	}
	l.Type = LockNone
	return l
}

// drop releases everything an owner holds of n: its flock or its POSIX locks.
func (t *lockTable) drop(n *node, o LockOwner, isFlock bool) {
	t.release(n, func(il *inodeLocks) { il.put(Lock{Owner: o, Flock: isFlock, Type: LockNone, End: lockEnd}, nil) })
}

// dropVia releases the flocks that were taken through a handle.
func (t *lockTable) dropVia(f *file) {
	t.release(f.n, func(il *inodeLocks) {
		il.flock = slices.DeleteFunc(il.flock, func(h flock) bool { return h.via == f })
	})
}

func (t *lockTable) release(n *node, fn func(il *inodeLocks)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	il := t.inodes[n.ino]
	if il == nil {
		return
	}
	fn(il)
	il.wakeAll()
	t.tidy(il)
}

// count is how many locks are held.
func (t *lockTable) count() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, il := range t.inodes {
		n += len(il.posix) + len(il.flock)
	}
	return n
}

func checkLock(l *Lock) error {
	if l.Type > LockWrite || !l.Flock && (l.Start < 0 || l.End < l.Start) {
		return fsapi.Errorf(fsapi.Invalid, "lock of type %d over [%d, %d]", l.Type, l.Start, l.End)
	}
	return nil
}

// GetLock implements File.
func (f *file) GetLock(_ context.Context, l Lock) (Lock, error) {
	if err := f.usable(0); err != nil {
		return Lock{}, err
	}
	if err := checkLock(&l); err != nil {
		return Lock{}, err
	}
	return f.fs.locks.get(f.n, l), nil
}

// SetLock implements File.
func (f *file) SetLock(ctx context.Context, l Lock, wait bool) error {
	if err := f.usable(0); err != nil {
		return err
	}
	if err := checkLock(&l); err != nil {
		return err
	}
	if !l.Flock { // as fcntl(2): a read lock needs reading, a write lock writing
		if l.Type == LockRead && f.flags&OpenRead == 0 || l.Type == LockWrite && f.flags&OpenWrite == 0 {
			return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is not open for this lock", f.n.ino)
		}
	}
	// An flock is converted by giving it up first (flock(2)); a wait for the
	// new one must not hold the old.
	if l.Flock && l.Type != LockNone && wait {
		f.fs.locks.convert(f.n, l)
	}
	if l.Flock {
		f.flocked.Store(true)
	}
	err := f.fs.locks.set(ctx, f, l, wait)
	if l.Flock && f.closed.Load() { // while it waited: nobody would release it
		f.fs.locks.dropVia(f)
	}
	return err
}

// convert releases an owner's flock that another holder keeps from becoming l.
func (t *lockTable) convert(n *node, l Lock) {
	t.mu.Lock()
	il := t.inodes[n.ino]
	refused := il != nil && il.conflict(&l) != nil
	t.mu.Unlock()
	if refused {
		t.drop(n, l.Owner, true)
	}
}
