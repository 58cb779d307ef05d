package vfs_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// handClock is moved by hand.
type handClock struct {
	mu    sync.Mutex
	now   time.Time
	alarm map[chan time.Time]time.Time
}

func newHandClock() *handClock {
	return &handClock{now: time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC), alarm: map[chan time.Time]time.Time{}}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.alarm[ch] = c.now.Add(d)
	return ch
}

func (c *handClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.alarm {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.alarm, ch)
		}
	}
}

// until moves the clock a minute at a time until ok.
func (c *handClock) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); c.add(time.Minute) {
		if time.Since(start) > patience {
			t.Fatalf("%s does not come", what)
		}
	}
}

// A file in a directory whose policy retains is committed when it has been left
// alone for the grace period, and not while somebody writes.
func TestRetentionCommitsWhatIsLeftAlone(t *testing.T) {
	c := newHandClock()
	r := newRig(t, rigOptions{clock: c, policy: func(p *policy.Policy) {
		p.Retention = policy.Retention{Mode: policy.Compliance, Period: 24 * time.Hour, Grace: 10 * time.Minute}
	}})
	held := func(name string) policy.Retained {
		x, err := r.fs.Retention(r.ctx, r.path(name).Ino)
		r.ok(err)
		return x
	}
	r.put("left", []byte("alone"))
	r.put("again", []byte("1"))
	busy := r.create("busy")
	r.write(busy, []byte("1"), 0)
	for range 8 {
		c.add(time.Minute)
		r.put("again", []byte("2"))
	}
	if x := held("left"); x.Mode != "" {
		t.Fatalf("committed after 8 minutes: %v", x)
	}
	c.until(t, "the end of grace", func() bool { return held("left").Mode != "" })
	x := held("left")
	if left := x.Until.Sub(c.Now()); x.Mode != policy.Compliance || left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("held for %v: %v", left, x)
	}
	r.fails(fsapi.Immutable, r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, "left"))
	c.until(t, "the end of grace of what was written again", func() bool { return held("again").Mode != "" })
	if x := held("busy"); x.Mode != "" {
		t.Errorf("committed while it is open: %v", x)
	}
	r.write(busy, []byte("2"), 1)
	r.ok(busy.Close())
	c.until(t, "the end of grace of what was closed", func() bool { return held("busy").Mode != "" })
	r.check()
	c.until(t, "the end of retention", func() bool {
		return r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, "left") == nil
	})
	if c.Now().Before(x.Until) {
		t.Errorf("it could be deleted at %v, before %v", c.Now(), x.Until)
	}
	r.check()
}

// A restore leaves what is under retention as it is, says so, and does the
// rest.
func TestRestoreLeavesWhatIsRetained(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.mkdir("d")
	r.put("d/kept", []byte("then"))
	r.put("d/free", []byte("then"))
	r.snapshot("s")
	r.put("d/kept", []byte("now"))
	r.put("d/free", []byte("now"))
	r.put("d/later", []byte("later"))
	hold := policy.Retained{Hold: true}
	r.put("top", []byte("later"))
	for _, name := range []string{"d/kept", "d/later", "top"} {
		r.ok(r.fs.SetRetention(r.ctx, fsapi.Root, r.path(name).Ino, hold, false))
	}
	done := r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
	slices.Sort(done.Kept)
	if want := []string{"/d/kept", "/d/later", "/top"}; !slices.Equal(done.Kept, want) {
		t.Errorf("kept %q, want %q", done.Kept, want)
	}
	for name, want := range map[string]string{"d/kept": "now", "d/free": "then", "d/later": "later"} {
		f, err := r.fs.Open(r.ctx, fsapi.Root, r.path(name).Ino, vfs.OpenRead)
		r.ok(err)
		r.wants(f, []byte(want))
		r.ok(f.Close())
	}
	r.check()
}
