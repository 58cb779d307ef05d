package fuse

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

// kernel is what the invalidator tells (fs/fuse/inode.c, fuse_reverse_inval_*).
type kernel interface {
	// InodeNotify drops cached attributes, and with off ≥ 0 the pages of the
	// range; length ≤ 0 is to the end.
	InodeNotify(node uint64, off, length int64) fuse.Status
	// EntryNotify drops a name, be it known to exist or not to exist.
	EntryNotify(parent uint64, name string) fuse.Status
	// DeleteNotify says that a directory was removed, also where it is in use.
	DeleteNotify(parent, child uint64, name string) fuse.Status
	// forgetNames makes every name be looked up again before it is used.
	forgetNames() fuse.Status
}

const (
	// maxPending bounds the invalidations not yet sent (K3), about 100 bytes each.
	maxPending = 1 << 17
	// repeatAfter is when an invalidation that met a reply under way is sent
	// again: long after the kernel has taken the reply in.
	repeatAfter = 50 * time.Millisecond
	// openWait bounds how long OPEN waits for invalidations (K2).
	openWait = 100 * time.Millisecond
)

// span is what to drop of an inode: its attributes, and the pages of
// [off, end) where end > 0. Offsets are bytes.
type span struct{ off, end int64 }

const toEnd = 1<<63 - 1

// join is the smallest span that covers both.
func (s span) join(t span) span {
	switch {
	case s.end == 0:
		return t
	case t.end == 0:
		return s
	}
	return span{min(s.off, t.off), max(s.end, t.end)}
}

// entry is a name in a directory.
type entry struct {
	dir  fsapi.Ino
	name string
}

// drops is a set of things to invalidate. names maps to the directory that was
// removed, or to 0.
type drops struct {
	inodes map[fsapi.Ino]span
	names  map[entry]fsapi.Ino
}

func newDrops() drops {
	return drops{map[fsapi.Ino]span{}, map[entry]fsapi.Ino{}}
}

func (d *drops) size() int { return len(d.inodes) + len(d.names) }

func (d *drops) inode(i fsapi.Ino, s span) {
	if i != 0 {
		d.inodes[i] = d.inodes[i].join(s)
	}
}

func (d *drops) name(dir fsapi.Ino, name string, removedDir fsapi.Ino) {
	d.names[entry{dir, name}] = removedDir
	d.inode(dir, span{0, toEnd}) // attributes, and the listing, whose pages it caches
}

// add takes in what c changed.
func (d *drops) add(c *fsapi.Change) {
	switch c.Kind {
	case fsapi.ChangeContent:
		s := span{c.Off, toEnd}
		if c.Len >= 0 {
			s.end = c.Off + max(c.Len, 1)
		}
		d.inode(c.Ino, s)
	case fsapi.ChangeCreate:
		d.name(c.Dir, c.Name, 0)
		d.inode(c.Ino, span{})
	case fsapi.ChangeRemove:
		removed := fsapi.Ino(0)
		if c.Type == fsapi.TypeDirectory {
			removed = c.Ino
		}
		d.name(c.Dir, c.Name, removed)
		d.inode(c.Ino, span{})
	case fsapi.ChangeRename:
		d.name(c.FromDir, c.From, 0)
		d.name(c.Dir, c.Name, 0)
		d.inode(c.Ino, span{})
	default:
		d.inode(c.Ino, span{})
	}
}

// invalidator collects what other doors changed and tells the kernel, from a
// goroutine of its own. Safe for concurrent use.
type invalidator struct {
	k     kernel
	door  string // ours: the kernel knows already
	max   int    // bound of drops waiting
	after func(time.Duration) <-chan time.Time
	now   func() time.Time

	// replying counts the replies under way that the kernel will cache.
	replying atomic.Int64
	// waiting is whether anything is outstanding, and lost whether anything
	// ever was: what OPEN looks at first.
	waiting, lost atomic.Bool

	mu        sync.Mutex
	pending   drops         // not yet taken up
	sending   drops         // taken up by the goroutine
	repeat    drops         // to be sent again once
	overflow  bool          // pending lost some since last taken up
	lostSince time.Time     // when the first was ever lost; zero for never
	sent      chan struct{} // closed and replaced when sending is done

	wake chan struct{} // capacity 1
	stop chan struct{}
	done chan struct{} // closed when the goroutine has ended
}

func newInvalidator(k kernel, door string) *invalidator {
	return &invalidator{
		k: k, door: door, max: maxPending, after: time.After, now: time.Now,
		pending: newDrops(), sending: newDrops(), repeat: newDrops(),
		sent: make(chan struct{}), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// begin and end enclose making a reply that the kernel will cache.
func (v *invalidator) begin() { v.replying.Add(1) }
func (v *invalidator) end()   { v.replying.Add(-1) }

// changed takes in a change; it neither blocks nor calls out, as vfs.FS.Watch
// demands.
func (v *invalidator) changed(c fsapi.Change) {
	if c.Door == v.door {
		return
	}
	v.mu.Lock()
	v.waiting.Store(true)
	switch {
	case c.Kind != fsapi.ChangeUnknown && v.pending.size() < v.max:
		v.pending.add(&c)
		if v.replying.Load() > 0 {
			v.repeat.add(&c)
		}
	case !v.overflow:
		v.overflow = true
		if v.lostSince.IsZero() {
			v.lostSince = v.now()
			v.lost.Store(true)
		}
	}
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run sends what comes until stop is closed.
func (v *invalidator) run() {
	defer close(v.done)
	var again <-chan time.Time
	for {
		select {
		case <-v.stop:
			return
		case <-v.wake:
		case <-again:
			again = nil
			v.takeRepeats()
		}
		if v.deliver() && again == nil {
			again = v.after(repeatAfter)
		}
	}
}

// takeRepeats moves what is to be sent again among what is to be sent.
func (v *invalidator) takeRepeats() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, s := range v.repeat.inodes {
		v.pending.inode(i, s)
	}
	for e, c := range v.repeat.names {
		v.pending.name(e.dir, e.name, c)
	}
	v.repeat = newDrops()
}

// deliver sends everything pending and reports whether some is to be repeated.
func (v *invalidator) deliver() (repeat bool) {
	v.mu.Lock()
	v.sending, v.pending = v.pending, newDrops()
	overflow := v.overflow
	v.overflow = false
	v.mu.Unlock()

	if overflow {
		v.k.forgetNames()
	}
	// Inodes first: names wait for the kernel's lock on the directory.
	for i, s := range v.sending.inodes {
		v.sendInode(i, s)
	}
	for e, child := range v.sending.names {
		v.sendName(e, child)
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	v.sending = newDrops()
	v.waiting.Store(v.pending.size() > 0 || v.overflow)
	close(v.sent)
	v.sent = make(chan struct{})
	return v.repeat.size() > 0
}

// sendInode tells of one inode. That the kernel does not know it is no error.
func (v *invalidator) sendInode(i fsapi.Ino, s span) {
	switch s.end {
	case 0:
		v.k.InodeNotify(uint64(i), -1, 0)
	case toEnd:
		v.k.InodeNotify(uint64(i), s.off, 0)
	default:
		v.k.InodeNotify(uint64(i), s.off, s.end-s.off)
	}
}

// sendName tells of one name.
func (v *invalidator) sendName(e entry, removedDir fsapi.Ino) {
	if removedDir != 0 && v.k.DeleteNotify(uint64(e.dir), uint64(removedDir), e.name).Ok() {
		return
	}
	v.k.EntryNotify(uint64(e.dir), e.name)
}

// settled waits a moment until nothing of ino is outstanding, and reports
// whether that is so (K2).
func (v *invalidator) settled(ino fsapi.Ino) bool {
	if !v.waiting.Load() {
		return true
	}
	var limit <-chan time.Time
	for {
		v.mu.Lock()
		_, a := v.pending.inodes[ino]
		_, b := v.sending.inodes[ino]
		wait := a || b || v.overflow
		sent := v.sent
		v.mu.Unlock()
		if !wait {
			return true
		}
		if limit == nil {
			limit = v.after(openWait)
		}
		select {
		case <-sent:
		case <-limit:
			return false
		}
	}
}

// trusted reports whether nothing that happened to an inode can have been lost,
// given when it last changed (K3).
func (v *invalidator) trusted(ctime time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lostSince.IsZero() || ctime.Before(v.lostSince.Add(-time.Second))
}

// settle waits until everything that was outstanding is sent.
func (v *invalidator) settle(ctx context.Context) error {
	for {
		v.mu.Lock()
		idle := v.pending.size() == 0 && v.sending.size() == 0 && !v.overflow
		sent := v.sent
		v.mu.Unlock()
		if idle {
			return nil
		}
		select {
		case <-sent:
		case <-v.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
