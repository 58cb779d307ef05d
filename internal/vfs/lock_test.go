package vfs

import (
	"math/rand/v2"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// TestLockRangesAgainstBytes compares splitting and joining of ranges with a
// table of every byte's lock.
func TestLockRangesAgainstBytes(t *testing.T) {
	const size, owners = 40, 3
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		il := &inodeLocks{n: &node{ino: 5}, wake: make(chan struct{})}
		var bytes [owners][size]LockType
		for range 60 {
			l := Lock{Owner: LockOwner{"t", rnd.Uint64N(owners)}, Type: LockType(rnd.IntN(3)), Start: rnd.Int64N(size)}
			l.End = l.Start + rnd.Int64N(size-l.Start)
			refused := false
			for o := range bytes {
				for i := l.Start; i <= l.End; i++ {
					other := bytes[o][i]
					refused = refused || uint64(o) != l.Owner.Owner && other != LockNone && (other == LockWrite || l.Type == LockWrite)
				}
			}
			if l.Type != LockNone {
				if got := il.conflict(&l) != nil; got != refused {
					t.Fatalf("seed %d: conflict of %+v is %v, want %v", seed, l, got, refused)
				}
				if refused {
					continue
				}
			}
			il.put(l, nil)
			for i := l.Start; i <= l.End; i++ {
				bytes[l.Owner.Owner][i] = l.Type
			}
			checkLocks(t, il, bytes[:])
		}
	}
}

func checkLocks(t *testing.T, il *inodeLocks, want [][40]LockType) {
	t.Helper()
	got := make([][40]LockType, len(want))
	for i, l := range il.posix {
		if i > 0 && il.posix[i-1].Start > l.Start {
			t.Fatal("locks are not sorted")
		}
		for at := l.Start; at <= l.End; at++ {
			if got[l.Owner.Owner][at] != LockNone {
				t.Fatalf("byte %d is locked twice by owner %d", at, l.Owner.Owner)
			}
			got[l.Owner.Owner][at] = l.Type
		}
		for _, o := range il.posix[i+1:] {
			if o.Owner == l.Owner && o.Type == l.Type && (o.Start == l.End+1 || l.Start == o.End+1) {
				t.Fatalf("%+v and %+v are not joined", l, o)
			}
		}
	}
	for o := range want {
		if got[o] != want[o] {
			t.Fatalf("locks of owner %d are\n%v, want\n%v", o, got[o], want[o])
		}
	}
}

func TestDeadlockAcrossFilesAndReaders(t *testing.T) {
	var tab lockTable
	tab.init()
	a, b := &node{ino: 1}, &node{ino: 2}
	lock := func(n *node, owner uint64, typ LockType, wait chan error) error {
		l := Lock{Owner: LockOwner{"t", owner}, Type: typ, End: lockEnd}
		if wait == nil {
			return tab.set(t.Context(), &file{n: n}, l, false)
		}
		go func() { wait <- tab.set(t.Context(), &file{n: n}, l, true) }()
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(lock(a, 1, LockRead, nil))
	must(lock(a, 2, LockRead, nil))
	must(lock(b, 3, LockWrite, nil))
	waiting := make(chan error, 1)
	must(lock(b, 2, LockWrite, waiting)) // 2 waits for 3
	for tab.waits() == 0 {
	}
	// 3 waiting for 1 and 2 would close the ring through the second reader.
	err := tab.set(t.Context(), &file{n: a}, Lock{Owner: LockOwner{"t", 3}, Type: LockWrite, End: lockEnd}, true)
	if kindOf(err) != fsapi.Deadlock {
		t.Fatalf("got %v, want a deadlock", err)
	}
	tab.drop(b, LockOwner{"t", 3}, false)
	must(<-waiting)
	tab.drop(a, LockOwner{"t", 1}, false)
	tab.drop(a, LockOwner{"t", 2}, false)
	tab.drop(b, LockOwner{"t", 2}, false)
	if n := tab.count(); n != 0 || len(tab.inodes) != 0 || a.refs.Load() != 0 || b.refs.Load() != 0 {
		t.Fatalf("%d locks of %d inodes are left", n, len(tab.inodes))
	}
}

func (t *lockTable) waits() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}
