package vfstest

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func lockTests() []test {
	return []test{
		{"lock/readers share, writers do not", lockShare},
		{"lock/one owner's ranges split and merge", lockSplit},
		{"lock/one owner converts", lockConvert},
		{"lock/to the end of file and beyond", lockEnd},
		{"lock/asking who refuses", lockAsk},
		{"lock/owners of different doors", lockDoors},
		{"lock/flush ends an owner's POSIX locks", lockFlush},
		{"lock/waits", lockWaits},
		{"lock/wait is interrupted", lockInterrupted},
		{"lock/deadlock", lockDeadlock},
		{"flock/shared and exclusive", flockShare},
		{"flock/ends with its handle", flockClose},
		{"flock/moves to the handle it is taken through again", flockMoves},
		{"flock/does not see POSIX locks", flockApart},
		{"lock/arguments", lockArguments},
		{"lock/only what the file is open for", lockModes},
	}
}

// locker takes locks for one owner through one handle.
type locker struct {
	*env
	h     vfs.File
	owner vfs.LockOwner
}

func (e *env) locker(f fsapi.Ino, owner uint64) locker {
	e.Helper()
	return locker{e, e.open(f, rw), vfs.LockOwner{Door: "test", Owner: owner}}
}

func (l locker) lock(t vfs.LockType, start, end int64) vfs.Lock {
	return vfs.Lock{Owner: l.owner, Type: t, Start: start, End: end, Pid: uint32(l.owner.Owner) + 100}
}

// set wants a lock to be had or (refused) not.
func (l locker) set(t vfs.LockType, start, end int64, refused bool) {
	l.Helper()
	want := fsapi.Other
	if refused {
		want = fsapi.WouldBlock
	}
	l.either(want, l.h.SetLock(l.ctx, l.lock(t, start, end), false))
}

// free wants another's write locks to be possible exactly where free says, a
// byte a letter: '.' where it is.
func (l locker) free(pattern string) {
	l.Helper()
	for i, c := range pattern {
		got, err := l.h.GetLock(l.ctx, l.lock(vfs.LockWrite, int64(i), int64(i)))
		l.ok(err)
		if (got.Type == vfs.LockNone) != (c == '.') {
			l.Fatalf("byte %d of %s: GetLock says %+v", i, pattern, got)
		}
		if c == 'r' && got.Type != vfs.LockRead || c == 'w' && got.Type != vfs.LockWrite {
			l.Fatalf("byte %d of %s: GetLock says %+v", i, pattern, got)
		}
	}
}

func lockShare(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockRead, 0, 9, false)
	b.set(vfs.LockRead, 5, 14, false)
	b.set(vfs.LockWrite, 5, 5, true)
	b.set(vfs.LockWrite, 10, 14, false)
	a.set(vfs.LockRead, 9, 10, true)
	a.set(vfs.LockNone, 0, 9, false)
	b.set(vfs.LockWrite, 5, 5, false)
}

func lockSplit(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockWrite, 0, 9, false)
	a.set(vfs.LockNone, 3, 4, false)
	b.free("www..wwwww..")
	a.set(vfs.LockRead, 2, 5, false)
	b.free("wwrrrrwwww..")
	a.set(vfs.LockWrite, 2, 5, false)
	got, err := b.h.GetLock(e.ctx, b.lock(vfs.LockRead, 0, 100))
	e.ok(err)
	e.equal("merged range", []int64{got.Start, got.End}, []int64{0, 9})
	a.set(vfs.LockNone, 0, math.MaxInt64, false)
	b.free("............")
}

func lockConvert(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockRead, 0, 9, false)
	a.set(vfs.LockWrite, 0, 9, false)
	b.set(vfs.LockRead, 0, 0, true)
	a.set(vfs.LockRead, 0, 9, false)
	b.set(vfs.LockRead, 0, 9, false)
	a.set(vfs.LockWrite, 0, 9, true)
	b.free("rrrrrrrrrr.")
}

func lockEnd(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockWrite, 100, math.MaxInt64, false)
	b.set(vfs.LockRead, 1<<62, 1<<62, true)
	b.set(vfs.LockRead, math.MaxInt64, math.MaxInt64, true)
	b.set(vfs.LockRead, 0, 99, false)
	a.set(vfs.LockNone, 200, math.MaxInt64, false)
	b.set(vfs.LockWrite, 200, math.MaxInt64, false)
	a.set(vfs.LockWrite, 50, 150, true)
}

func lockAsk(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockWrite, 10, 19, false)
	got, err := b.h.GetLock(e.ctx, b.lock(vfs.LockRead, 0, 100))
	e.ok(err)
	e.equal("who refuses", got, a.lock(vfs.LockWrite, 10, 19))
	got, err = a.h.GetLock(e.ctx, a.lock(vfs.LockWrite, 0, 100))
	e.ok(err)
	e.equal("type for the holder", got.Type, vfs.LockNone)
	got, err = b.h.GetLock(e.ctx, b.lock(vfs.LockWrite, 20, 100))
	e.ok(err)
	e.equal("type elsewhere", got.Type, vfs.LockNone)
}

func lockDoors(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 1)
	b.owner.Door = "other"
	a.set(vfs.LockWrite, 0, 9, false)
	b.set(vfs.LockWrite, 0, 9, true)
}

func lockFlush(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	other := e.open(f, rw)
	a.set(vfs.LockWrite, 0, 9, false)
	e.ok(other.Flush(e.ctx, b.owner))
	b.set(vfs.LockRead, 0, 9, true)
	e.ok(other.Flush(e.ctx, a.owner))
	b.set(vfs.LockWrite, 0, 9, false)
}

// wait begins to wait for a lock.
func (l locker) wait(ctx context.Context, lock vfs.Lock) <-chan error {
	done := make(chan error, 1)
	go func() { done <- l.h.SetLock(ctx, lock, true) }()
	return done
}

// soon is what comes from c.
func (e *env) soon(c <-chan error) error {
	e.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		e.Fatal("nothing happens")
		return nil
	}
}

func lockWaits(e *env) {
	for _, flock := range []bool{false, true} {
		f := e.file(root, "f", 0o644)
		a, b := e.locker(f, 1), e.locker(f, 2)
		mine, his := a.lock(vfs.LockWrite, 0, 9), b.lock(vfs.LockWrite, 5, 20)
		mine.Flock, his.Flock = flock, flock
		e.ok(a.h.SetLock(e.ctx, mine, false))
		var released atomic.Bool
		early := make(chan bool, 1)
		done := make(chan error, 1)
		go func() {
			err := b.h.SetLock(e.ctx, his, true)
			early <- !released.Load()
			done <- err
		}()
		e.write(a.h, []byte("x"), 0)
		released.Store(true)
		mine.Type = vfs.LockNone
		e.ok(a.h.SetLock(e.ctx, mine, false))
		e.ok(e.soon(done))
		if <-early {
			e.Fatal("a lock was had while another held it")
		}
		mine.Type = vfs.LockRead
		e.fails(fsapi.WouldBlock, a.h.SetLock(e.ctx, mine, false))
		e.unlink(root, "f")
	}
}

func lockInterrupted(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	a.set(vfs.LockWrite, 0, 9, false)
	ctx, cancel := context.WithCancel(e.ctx)
	done := b.wait(ctx, b.lock(vfs.LockWrite, 0, 9))
	cancel()
	e.fails(fsapi.Interrupted, e.soon(done))
	a.set(vfs.LockNone, 0, 9, false)
	a.set(vfs.LockWrite, 0, 9, false)
	a.free(".")
}

// lockDeadlock has two owners wait for each other: one of them is refused.
func lockDeadlock(e *env) {
	f, g := e.file(root, "f", 0o644), e.file(root, "g", 0o644)
	af, bf, ag, bg := e.locker(f, 1), e.locker(f, 2), e.locker(g, 1), e.locker(g, 2)
	af.set(vfs.LockWrite, 0, 0, false)
	bg.set(vfs.LockWrite, 7, 7, false)
	a, b := ag.wait(e.ctx, ag.lock(vfs.LockRead, 0, 9)), bf.wait(e.ctx, bf.lock(vfs.LockRead, 0, 9))
	var err error
	var loser locker
	var rest <-chan error
	select {
	case err = <-a:
		loser, rest = af, b
	case err = <-b:
		loser, rest = bg, a
	case <-time.After(patience):
		e.Fatal("a deadlock was not found")
	}
	e.fails(fsapi.Deadlock, err)
	loser.set(vfs.LockNone, 0, 9, false)
	e.ok(e.soon(rest))
}

// flock is a lock of the whole file.
func (l locker) flock(t vfs.LockType) vfs.Lock {
	k := l.lock(t, 0, math.MaxInt64)
	k.Flock = true
	return k
}

func flockShare(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	e.ok(a.h.SetLock(e.ctx, a.flock(vfs.LockRead), false))
	e.ok(b.h.SetLock(e.ctx, b.flock(vfs.LockRead), false))
	e.fails(fsapi.WouldBlock, a.h.SetLock(e.ctx, a.flock(vfs.LockWrite), false))
	e.ok(b.h.SetLock(e.ctx, b.flock(vfs.LockNone), false))
	e.ok(a.h.SetLock(e.ctx, a.flock(vfs.LockWrite), false))
	e.fails(fsapi.WouldBlock, b.h.SetLock(e.ctx, b.flock(vfs.LockRead), false))
}

func flockClose(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	e.ok(a.h.SetLock(e.ctx, a.flock(vfs.LockWrite), false))
	e.ok(e.open(f, rw).Close())
	e.fails(fsapi.WouldBlock, b.h.SetLock(e.ctx, b.flock(vfs.LockRead), false))
	e.ok(a.h.Close())
	e.ok(b.h.SetLock(e.ctx, b.flock(vfs.LockWrite), false))
}

func flockMoves(e *env) {
	f := e.file(root, "f", 0o644)
	first, a, b := e.locker(f, 1), e.locker(f, 1), e.locker(f, 2)
	e.ok(first.h.SetLock(e.ctx, first.flock(vfs.LockRead), false))
	e.ok(a.h.SetLock(e.ctx, a.flock(vfs.LockWrite), false))
	e.ok(first.h.Close())
	e.fails(fsapi.WouldBlock, b.h.SetLock(e.ctx, b.flock(vfs.LockRead), false))
	e.ok(a.h.Close())
	e.ok(b.h.SetLock(e.ctx, b.flock(vfs.LockWrite), false))
}

func flockApart(e *env) {
	f := e.file(root, "f", 0o644)
	a, b := e.locker(f, 1), e.locker(f, 2)
	e.ok(a.h.SetLock(e.ctx, a.flock(vfs.LockWrite), false))
	b.set(vfs.LockWrite, 0, math.MaxInt64, false)
}

func lockArguments(e *env) {
	a := e.locker(e.file(root, "f", 0o644), 1)
	for _, l := range []vfs.Lock{
		a.lock(vfs.LockRead, -1, 5), a.lock(vfs.LockRead, 5, 4), a.lock(3, 0, 1),
	} {
		e.fails(fsapi.Invalid, a.h.SetLock(e.ctx, l, false))
		_, err := a.h.GetLock(e.ctx, l)
		e.fails(fsapi.Invalid, err)
	}
}

func lockModes(e *env) {
	f := e.file(root, "f", 0o644)
	r, w := e.locker(f, 1), e.locker(f, 1)
	r.h, w.h = e.open(f, vfs.OpenRead), e.open(f, vfs.OpenWrite)
	r.set(vfs.LockRead, 0, 9, false)
	e.fails(fsapi.BadHandle, r.h.SetLock(e.ctx, r.lock(vfs.LockWrite, 0, 9), false))
	w.set(vfs.LockWrite, 0, 9, false)
	e.fails(fsapi.BadHandle, w.h.SetLock(e.ctx, w.lock(vfs.LockRead, 0, 9), false))
	r.set(vfs.LockNone, 0, 9, false)
	e.ok(r.h.SetLock(e.ctx, r.flock(vfs.LockWrite), false))
}
