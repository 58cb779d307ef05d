package model

import (
	"cmp"
	"context"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// flock is a whole-file lock and the handle through which it was taken.
type flock struct {
	lock vfs.Lock
	via  *file
}

// wait is a POSIX lock request that waits for owners.
type wait struct {
	owner vfs.LockOwner
	n     *node
	lock  vfs.Lock
}

// GetLock implements vfs.File.
func (h *file) GetLock(_ context.Context, l vfs.Lock) (vfs.Lock, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if err := h.checkLock(l); err != nil {
		return vfs.Lock{}, err
	}
	if held, ok := h.n.refuses(l); ok {
		return held, nil
	}
	l.Type = vfs.LockNone
	return l, nil
}

// SetLock implements vfs.File.
func (h *file) SetLock(ctx context.Context, l vfs.Lock, block bool) error {
	f := h.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := h.checkLock(l); err != nil {
		return err
	}
	if err := h.mayLock(l); err != nil {
		return err
	}
	for {
		if _, refused := h.n.refuses(l); !refused {
			break
		}
		if !block {
			return fsapi.Errorf(fsapi.WouldBlock, "inode %d is locked", h.n.attr.Ino)
		}
		if l.Flock {
			// "the existing lock is first removed, and then a new lock is
			// established", flock(2); the seam keeps it where that fails at once.
			f.setFlock(h, vfs.Lock{Owner: l.Owner, Flock: true})
		}
		if err := f.await(ctx, h.n, l); err != nil {
			return err
		}
		if err := h.usable(0); err != nil {
			return err
		}
	}
	if l.Flock {
		f.setFlock(h, l)
	} else {
		f.setLock(h.n, l)
	}
	return nil
}

func (h *file) checkLock(l vfs.Lock) error {
	if err := h.usable(0); err != nil {
		return err
	}
	if l.Type > vfs.LockWrite || !l.Flock && (l.Start < 0 || l.End < l.Start) {
		return fsapi.Errorf(fsapi.Invalid, "%+v is not a lock", l)
	}
	return nil
}

// mayLock is that a POSIX lock is of what the file is open for (fcntl(2)).
func (h *file) mayLock(l vfs.Lock) error {
	switch {
	case l.Flock:
		return nil
	case l.Type == vfs.LockRead:
		return h.usable(vfs.OpenRead)
	case l.Type == vfs.LockWrite:
		return h.usable(vfs.OpenWrite)
	}
	return nil
}

// await lets go of the mutex until some lock was released or ctx ends. A
// POSIX lock that would wait for one who waits for it is refused (fcntl(2)).
func (f *FS) await(ctx context.Context, n *node, l vfs.Lock) error {
	if !l.Flock && f.waitsFor(n, l, l.Owner, map[vfs.LockOwner]bool{}) {
		return fsapi.Errorf(fsapi.Deadlock, "waiting for inode %d would never end", n.attr.Ino)
	}
	w := &wait{owner: l.Owner, n: n, lock: l}
	if !l.Flock {
		f.waits[w] = struct{}{}
	}
	unlocked := f.unlocked
	f.mu.Unlock()
	var err error
	select {
	case <-unlocked:
	case <-ctx.Done():
		err = fsapi.Wrap(fsapi.Interrupted, ctx.Err(), "wait for a lock")
	}
	f.mu.Lock()
	delete(f.waits, w)
	return err
}

// waitsFor reports whether a request for l would, through any chain of
// waiters, wait for owner.
func (f *FS) waitsFor(n *node, l vfs.Lock, owner vfs.LockOwner, seen map[vfs.LockOwner]bool) bool {
	for _, held := range n.locks {
		if !conflict(held, l) || seen[held.Owner] {
			continue
		}
		if held.Owner == owner {
			return true
		}
		seen[held.Owner] = true
		for w := range f.waits {
			if w.owner == held.Owner && f.waitsFor(w.n, w.lock, owner, seen) {
				return true
			}
		}
	}
	return false
}

// conflict reports whether a held lock refuses another.
func conflict(held, l vfs.Lock) bool {
	return held.Owner != l.Owner && l.Type != vfs.LockNone &&
		(held.Type == vfs.LockWrite || l.Type == vfs.LockWrite) &&
		(l.Flock || held.Start <= l.End && l.Start <= held.End)
}

// refuses finds the first lock on n that refuses l.
func (n *node) refuses(l vfs.Lock) (vfs.Lock, bool) {
	if l.Flock {
		for _, held := range n.flocks {
			if conflict(held.lock, l) {
				return held.lock, true
			}
		}
		return vfs.Lock{}, false
	}
	for _, held := range n.locks {
		if conflict(held, l) {
			return held, true
		}
	}
	return vfs.Lock{}, false
}

// setFlock replaces the flock of l's owner.
func (f *FS) setFlock(h *file, l vfs.Lock) {
	h.n.flocks = slices.DeleteFunc(h.n.flocks, func(k flock) bool { return k.lock.Owner == l.Owner })
	if l.Type != vfs.LockNone {
		h.n.flocks = append(h.n.flocks, flock{lock: l, via: h})
	}
	f.wake()
}

// dropFlocks releases what was taken through a handle.
func (f *FS) dropFlocks(h *file) {
	h.n.flocks = slices.DeleteFunc(h.n.flocks, func(k flock) bool { return k.via == h })
	f.wake()
}

// setLock replaces what l's owner holds of l's range by l, then joins ranges
// of one type that touch.
func (f *FS) setLock(n *node, l vfs.Lock) {
	var list []vfs.Lock
	for _, held := range n.locks {
		if held.Owner != l.Owner || held.End < l.Start || held.Start > l.End {
			list = append(list, held)
			continue
		}
		if before := held; before.Start < l.Start {
			before.End = l.Start - 1
			list = append(list, before)
		}
		if after := held; after.End > l.End {
			after.Start = l.End + 1
			list = append(list, after)
		}
	}
	if l.Type != vfs.LockNone {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b vfs.Lock) int { return cmp.Compare(a.Start, b.Start) })
	n.locks = join(list)
	f.wake()
}

// join merges locks of one owner and type that touch. list ascends by Start.
func join(list []vfs.Lock) []vfs.Lock {
	var out []vfs.Lock
next:
	for _, l := range list {
		for i := range out {
			o := &out[i]
			if o.Owner == l.Owner && o.Type == l.Type && o.End+1 == l.Start {
				o.End = l.End
				continue next
			}
		}
		out = append(out, l)
	}
	return out
}

// wake lets every waiter look again.
func (f *FS) wake() {
	close(f.unlocked)
	f.unlocked = make(chan struct{})
}
