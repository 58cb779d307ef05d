package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// nas hangs every call below a directory while it is set to, as one does that
// does not answer.
type nas struct {
	hangs atomic.Pointer[string]
	back  chan struct{}
	clock hurried
}

func (m *nas) hang(dir string) { m.hangs.Store(&dir) }

func (m *nas) rule(c osfs.Call) osfs.Outcome {
	if dir := m.hangs.Load(); dir != nil && strings.HasPrefix(c.Name, *dir) {
		<-m.back
	}
	return osfs.Outcome{}
}

// hurried is a clock on which, once it is set to, every wait has passed at once.
type hurried struct {
	clock.Clock
	on atomic.Bool
}

func (h *hurried) After(d time.Duration) <-chan time.Time {
	if !h.on.Load() {
		return h.Clock.After(d)
	}
	c := make(chan time.Time)
	close(c)
	return c
}

// driveRig is a store with a drive of its own, main, and mounts for others.
func driveRig(t *testing.T) (n *Node, m *nas, root string) {
	t.Helper()
	root = t.TempDir()
	cfg := config.Default()
	cfg.Data.Dir = filepath.Join(root, "data")
	n, err := openNode(t.Context(), cfg, slog.New(slog.DiscardHandler), openOrCreate)
	if err != nil {
		t.Fatal(err)
	}
	m = &nas{back: make(chan struct{})}
	n.fs = osfs.NewFault(n.fs, m.rule)
	m.clock.Clock = n.clock
	n.clock = &m.clock
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n, m, root
}

// A drive that hangs holds up nobody who writes, nor those who look, and is still
// there when it was changed meanwhile.
func TestHungDriveHoldsUpNobody(t *testing.T) {
	n, m, root := driveRig(t)
	ctx, end := context.WithTimeout(t.Context(), 30*time.Second) // a call that waits for the drive ends so
	defer end()
	for name, deadline := range map[string]time.Duration{"patient": 0, "hasty": time.Second} {
		req := api.DriveAdd{Name: name, Path: filepath.Join(root, "nas", name), Tier: "cold"}
		req.Deadline = deadline
		if _, err := n.addDrive(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	if avail, err := n.drives.available(ctx); err != nil || avail <= 0 {
		t.Fatalf("%d bytes available, %v", avail, err)
	}

	m.hang(filepath.Join(root, "nas"))
	m.clock.on.Store(true)
	for range 3 {
		if avail, err := n.drives.available(ctx); err != nil || avail <= 0 {
			t.Errorf("beside a drive that hangs %d bytes are available, %v", avail, err)
		}
	}
	if l, err := n.listDrives(ctx, api.Empty{}); err != nil || len(l.Drives) != 3 {
		t.Errorf("drives beside one that hangs: %+v, %v", l.Drives, err)
	}
	if d, err := n.showDrive(ctx, api.Named{Name: "patient"}); err != nil || !strings.Contains(d.Error, "has not answered") {
		t.Errorf("a drive that hangs is shown as %+v, %v", d, err)
	}

	if _, err := n.addDrive(ctx, api.DriveAdd{Name: "third", Path: filepath.Join(root, "nas", "third")}); fsapi.KindOf(err) != fsapi.TimedOut {
		t.Errorf("a place that hangs was added: %v", err)
	}
	reserve := int64(1 << 20)
	if _, err := n.setDrive(ctx, api.DriveSet{Name: "hasty", Reserve: &reserve}); fsapi.KindOf(err) != fsapi.TimedOut {
		t.Errorf("a drive that hangs was changed: %v", err)
	}
	if d, err := n.showDrive(ctx, api.Named{Name: "hasty"}); err != nil || d.State != "offline" || d.Reserve != reserve {
		t.Errorf("after it was changed it is %+v, %v", d, err)
	}
	if _, err := n.setDrive(ctx, api.DriveSet{Name: "main", Reserve: &reserve}); err != nil && fsapi.KindOf(err) != fsapi.TimedOut {
		t.Errorf("another drive cannot be changed meanwhile: %v", err)
	}

	// It comes back.
	m.hangs.Store(nil)
	close(m.back)
	for {
		d, err := n.showDrive(ctx, api.Named{Name: "hasty"}) // opens it, unless the first attempt still holds its lock
		if err == nil && d.State == "online" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the drive came back and is %+v, %v", d, err)
		}
		time.Sleep(time.Millisecond) // what hung comes back in goroutines that tell nobody
	}
	m.clock.on.Store(false)
	for {
		_, err := n.addDrive(ctx, api.DriveAdd{Name: "third", Path: filepath.Join(root, "nas", "third")})
		if err == nil {
			break // the attempt before is over
		}
		if ctx.Err() != nil {
			t.Fatalf("a place that came back cannot be added: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// A drive is not where it is said to be: the command is refused and it stays where it
// was, in use.
func TestDriveIsNotThere(t *testing.T) {
	n, _, root := driveRig(t)
	ctx := t.Context()
	a, b, none := filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "none")
	for name, path := range map[string]string{"a": a, "b": b} {
		if _, err := n.addDrive(ctx, api.DriveAdd{Name: name, Path: path, Tier: "cold"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{b, none} {
		if _, err := n.setDrive(ctx, api.DriveSet{Name: "a", Path: &path}); err == nil {
			t.Errorf("drive a is at %s now", path)
		}
		d, err := n.showDrive(ctx, api.Named{Name: "a"})
		if err != nil || d.State != "online" || d.Where != a || d.Error != "" {
			t.Errorf("after it was looked for at %s drive a is %+v, %v", path, d, err)
		}
		recs, err := n.meta.Drives(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			if rec.Name == "a" && rec.Where != a {
				t.Errorf("it is recorded at %s", rec.Where)
			}
		}
	}
	moved := filepath.Join(root, "moved")
	if err := os.Rename(a, moved); err != nil {
		t.Fatal(err)
	}
	d, err := n.setDrive(ctx, api.DriveSet{Name: "a", Path: &moved})
	if err != nil || d.State != "online" || d.Where != moved {
		t.Errorf("where it is: %+v, %v", d, err)
	}
	if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a place where the drive is not was made: %v", err)
	}
}
