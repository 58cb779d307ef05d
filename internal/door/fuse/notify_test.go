package fuse

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

// listener is a kernel that remembers what it is told.
type listener struct {
	mu    sync.Mutex
	heard []string
	busy  chan struct{} // where not nil, a call waits for it
}

func (l *listener) hear(format string, args ...any) fuse.Status {
	if l.busy != nil {
		<-l.busy
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, fmt.Sprintf(format, args...))
	return fuse.OK
}

func (l *listener) InodeNotify(node uint64, off, n int64) fuse.Status {
	return l.hear("inode %d %d %d", node, off, n)
}
func (l *listener) EntryNotify(parent uint64, name string) fuse.Status {
	return l.hear("entry %d %s", parent, name)
}
func (l *listener) DeleteNotify(parent, child uint64, name string) fuse.Status {
	return l.hear("delete %d %d %s", parent, child, name)
}
func (l *listener) forgetNames() fuse.Status { return l.hear("forget names") }

// take is what was heard, sorted.
func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.heard
	l.heard = nil
	slices.Sort(h)
	return h
}

// withInvalidator runs fn on one whose goroutine runs in a bubble.
func withInvalidator(t *testing.T, fn func(v *invalidator, l *listener)) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{}
		v := newInvalidator(l, "fuse")
		go v.run()
		fn(v, l)
		close(v.stop)
		<-v.done
	})
}

func TestInvalidations(t *testing.T) {
	for name, c := range map[string]struct {
		change fsapi.Change
		want   []string
	}{
		"ours":     {fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Len: 10, Door: "fuse"}, nil},
		"content":  {fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Off: 5, Len: 10}, []string{"inode 7 5 10"}},
		"truncate": {fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Off: 5, Len: -1}, []string{"inode 7 5 0"}},
		"attr":     {fsapi.Change{Kind: fsapi.ChangeAttr, Ino: 7}, []string{"inode 7 -1 0"}},
		"create":   {fsapi.Change{Kind: fsapi.ChangeCreate, Ino: 7, Dir: 2, Name: "n"}, []string{"entry 2 n", "inode 2 0 0", "inode 7 -1 0"}},
		"remove":   {fsapi.Change{Kind: fsapi.ChangeRemove, Ino: 7, Dir: 2, Name: "n", Type: fsapi.TypeRegular}, []string{"entry 2 n", "inode 2 0 0", "inode 7 -1 0"}},
		"rmdir":    {fsapi.Change{Kind: fsapi.ChangeRemove, Ino: 7, Dir: 2, Name: "n", Type: fsapi.TypeDirectory}, []string{"delete 2 7 n", "inode 2 0 0", "inode 7 -1 0"}},
		"rename":   {fsapi.Change{Kind: fsapi.ChangeRename, Ino: 7, Dir: 2, Name: "n", FromDir: 3, From: "o"}, []string{"entry 2 n", "entry 3 o", "inode 2 0 0", "inode 3 0 0", "inode 7 -1 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			withInvalidator(t, func(v *invalidator, l *listener) {
				v.changed(c.change)
				synctest.Wait()
				if d := cmp.Diff(c.want, l.take()); d != "" {
					t.Error(d)
				}
				time.Sleep(2 * repeatAfter)
				if h := l.take(); h != nil {
					t.Errorf("repeated without need: %v", h)
				}
			})
		})
	}
}

// TestInvalidationMeetsReply is K1: the kernel may take in an old reply after
// the notification.
func TestInvalidationMeetsReply(t *testing.T) {
	withInvalidator(t, func(v *invalidator, l *listener) {
		v.begin()
		v.changed(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: 7})
		synctest.Wait()
		first := l.take()
		v.end()
		time.Sleep(2 * repeatAfter)
		if d := cmp.Diff(first, l.take()); d != "" || len(first) != 1 {
			t.Errorf("first %v, then %s", first, d)
		}
	})
}

func TestInvalidationsJoin(t *testing.T) {
	withInvalidator(t, func(v *invalidator, l *listener) {
		l.busy = make(chan struct{})
		v.changed(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: 1})
		synctest.Wait() // the goroutine waits in the kernel
		for i := range 1000 {
			v.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Off: int64(i) * 10, Len: 10})
		}
		close(l.busy)
		synctest.Wait()
		if d := cmp.Diff([]string{"inode 1 -1 0", "inode 7 0 10000"}, l.take()); d != "" {
			t.Error(d)
		}
	})
}

// TestOpenWaitsForInvalidation is K2.
func TestOpenWaitsForInvalidation(t *testing.T) {
	withInvalidator(t, func(v *invalidator, l *listener) {
		if !v.settled(7) {
			t.Error("nothing is outstanding")
		}
		l.busy = make(chan struct{})
		v.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Len: 1})
		synctest.Wait()
		if !v.settled(8) {
			t.Error("an inode without changes waits")
		}
		got := make(chan bool)
		go func() { got <- v.settled(7) }()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("an open did not wait")
		default:
		}
		close(l.busy)
		if !<-got || !slices.Equal(l.take(), []string{"inode 7 0 1"}) {
			t.Error("the open went on before the kernel knew")
		}
	})
	withInvalidator(t, func(v *invalidator, l *listener) {
		l.busy = make(chan struct{})
		v.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: 7, Len: 1})
		begin := time.Now()
		if v.settled(7) || time.Since(begin) != openWait {
			t.Errorf("the wait of an open is not bounded: %v", time.Since(begin))
		}
		close(l.busy)
		if err := v.settle(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestTooManyInvalidations is K3.
func TestTooManyInvalidations(t *testing.T) {
	withInvalidator(t, func(v *invalidator, l *listener) {
		v.max = 10
		l.busy = make(chan struct{})
		old := time.Now()
		time.Sleep(time.Hour)
		for i := range 100 {
			v.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: fsapi.Ino(i), Len: 1})
		}
		if v.settled(99) {
			t.Error("a change that may have been lost counts as sent")
		}
		close(l.busy)
		if err := v.settle(context.Background()); err != nil {
			t.Fatal(err)
		}
		if h := l.take(); !slices.Contains(h, "forget names") || len(h) > 12 {
			t.Errorf("heard %v", h)
		}
		if !v.trusted(old) || v.trusted(time.Now()) {
			t.Error("what is trusted does not follow from when it changed")
		}
	})
}

// TestUnknownChange has the kernel ask for every name again, and keep no content of
// what may have changed.
func TestUnknownChange(t *testing.T) {
	withInvalidator(t, func(v *invalidator, l *listener) {
		old := time.Now()
		time.Sleep(time.Hour)
		v.changed(fsapi.Change{Kind: fsapi.ChangeUnknown})
		if err := v.settle(context.Background()); err != nil {
			t.Fatal(err)
		}
		if h := l.take(); !slices.Equal(h, []string{"forget names"}) {
			t.Errorf("heard %v", h)
		}
		if !v.trusted(old) || v.trusted(time.Now()) {
			t.Error("what is trusted does not follow from when it changed")
		}
	})
}
