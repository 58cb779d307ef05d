package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// stepped is a clock that stands still. Nothing that waits for it goes on.
type stepped struct {
	mu  sync.Mutex
	now time.Time
}

func (c *stepped) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stepped) After(time.Duration) <-chan time.Time { return nil }

func (c *stepped) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A place that refuses us is asked less and less often, one that is away as often as
// ever, and either at once when somebody asks for it.
func TestRefusedDriveIsAskedLessOften(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	cfg := config.Default()
	cfg.Data.Dir = filepath.Join(root, "data")
	nas, right := filepath.Join(root, "nas"), filepath.Join(root, "right")
	cfg.Drives = []config.Drive{{Name: "disk", Path: filepath.Join(root, "disk"), Tier: "hot"}, {Name: "nas", Path: nas, Tier: "cold"}}
	open := func() *Node {
		t.Helper()
		n, err := openNode(ctx, cfg, slog.New(slog.DiscardHandler), openOrCreate)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := open().Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(nas, right); err != nil {
		t.Fatal(err)
	}
	if err := dir.Init(osfs.OS{}, nas, dir.Identity{ID: newDriveID(), Created: time.Now()}); err != nil { // another disk
		t.Fatal(err)
	}
	n := open()
	clk := &stepped{now: time.Now()}
	n.clock = clk
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	id := n.drives.byName("nas")
	last := map[fsapi.DriveID]drive.State{}
	asked := func() int { return n.drives.refused[id].times }
	since := func() (asks int, longest time.Duration) {
		before, quiet := asked(), time.Duration(0)
		for range int(10 * time.Minute / healthTick) {
			clk.step(healthTick)
			was := asked()
			n.drives.review(ctx, last)
			if quiet += healthTick; asked() > was {
				quiet = 0
			}
			longest = max(longest, quiet)
		}
		return asked() - before, longest
	}
	if asks, longest := since(); asks < 5 || asks > 50 || longest > time.Minute+healthTick {
		t.Errorf("in 10 minutes another disk was asked %d times, with %v between them", asks, longest)
	}

	// Somebody asks.
	if err := os.Rename(nas, filepath.Join(root, "other")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(right, nas); err != nil {
		t.Fatal(err)
	}
	if d, err := n.showDrive(ctx, api.Named{Name: "nas"}); err != nil || d.State != "online" {
		t.Fatalf("the right disk is back and somebody asks: it is %s: %s, %v", d.State, d.Error, err)
	}

	// One that is away is looked for each time.
	if err := n.drives.drop(id); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(nas, right); err != nil {
		t.Fatal(err)
	}
	recs, err := n.meta.Drives(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range recs {
		if rec.ID == id && n.drives.tryStart(ctx, rec, time.Second) == nil {
			t.Fatal("a drive without a place was opened")
		}
	}
	for range 10 {
		clk.step(healthTick)
		n.drives.review(ctx, last)
	}
	if err := os.Rename(right, nas); err != nil {
		t.Fatal(err)
	}
	clk.step(healthTick)
	n.drives.review(ctx, last)
	if _, err := n.drives.set.Drive(id); err != nil {
		t.Errorf("the place came back and was not looked at: %v", err)
	}
}
