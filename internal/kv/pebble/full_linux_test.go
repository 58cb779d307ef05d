package pebble

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// TestFullDisk fills a real file system under a real engine, and empties it.
func TestFullDisk(t *testing.T) {
	at := t.TempDir()
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("no file system to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := Options{
		FS: osfs.OS{}, Dir: filepath.Join(at, "kv"), MemTableBytes: 1 << 20, CacheBytes: 1 << 20,
		Clock: quick{clock.Real}, Log: slog.New(slog.DiscardHandler),
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var promised kv.Seq
	for round := range 5 {
		full := fill(t, filepath.Join(at, "filler"))
		refused := 0
		for range 2000 {
			err := randomUpdate(e, rng, func(s kv.Seq) { promised = max(promised, s) })
			if err == nil {
				continue
			}
			if !errors.Is(err, fsapi.NoSpace) {
				t.Fatalf("round %d: Update says %v", round, err)
			}
			if refused++; refused == 20 {
				break
			}
		}
		if refused == 0 {
			t.Errorf("round %d: nothing was refused, with the disk full", round)
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); again(e) != nil; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("round %d: still refused: %v", round, again(e))
			}
		}
	}
	if err := e.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	last, want := e.LastSeq(), dump(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = Open(o); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, e); e.LastSeq() != last || last < promised || len(got) != len(want) {
		t.Errorf("opened again at batch %d of %d with %d keys of %d, %d promised", e.LastSeq(), last, len(got), len(want), promised)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill writes a file until nothing more fits.
func fill(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	return name
}
