package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

func openDir(t testing.TB, fsys osfs.FS, name string) drive.Drive {
	t.Helper()
	d, err := dir.Open(dir.Options{FS: fsys, Path: name, Name: name, Reserve: -1})
	must(t, err)
	return d
}

// On directories, whatever a power cut at any call of the file system leaves
// restores to a state that was, and not to one before the last finished Flush.
func TestPowerCutOnDirectories(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 3))
		disk := osfs.NewMem(osfs.MemOptions{})
		fault := osfs.NewFault(disk, nil)
		w := newWorld(t, 0)
		w.r = rand.New(rand.NewPCG(seed, 4))
		var drives []drive.Drive
		for i := range 2 {
			name := fmt.Sprintf("/d%d", i)
			must(t, dir.Init(fault, name, dir.Identity{ID: fsapi.DriveID(i + 1)}))
			drives = append(drives, openDir(t, fault, name))
		}
		must(t, fault.SyncDir("/"))
		type point struct {
			disk *osfs.Mem
			from kv.Seq
		}
		points := make(chan point, 4096)
		flushed := kv.Seq(0)
		o := Options{
			Engine: w.e, Key: storeKey, IsCounter: isCounter, GroupBytes: 2 << 10, CheckpointBytes: 6 << 10,
			Drives: func() []drive.Drive { return drives }, Keyring: func() []byte { return fmt.Appendf(nil, "keyring at %d", w.last()) },
		}
		s, err := New(o)
		must(t, err)
		must(t, s.Flush(t.Context()))
		clones := rand.New(rand.NewPCG(seed, 5))
		lockClones := make(chan struct{}, 1)
		fault.SetRule(func(osfs.Call) osfs.Outcome {
			lockClones <- struct{}{} // both drives are written at once
			defer func() { <-lockClones }()
			if clones.IntN(4) == 0 {
				select {
				case points <- point{disk.CrashClone(clones, osfs.AnyCrash(clones)), flushed}:
				default:
				}
			}
			return osfs.Outcome{}
		})
		for range 12 {
			w.commits(1 + r.IntN(20))
			must(t, s.Flush(t.Context()))
			lockClones <- struct{}{}
			flushed = w.last()
			<-lockClones
			must(t, s.checkpoint(t.Context()))
		}
		fault.SetRule(nil)
		close(points)
		n := 0
		for p := range points {
			n++
			a, b := openDir(t, p.disk, "/d0"), openDir(t, p.disk, "/d1")
			for _, set := range [][]drive.Drive{{a, b}, {a}, {b}} {
				e := w.engine()
				res, err := Restore(t.Context(), set, storeKey, applyTo(t, e))
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if res.Seq < p.from || len(res.Problems) > 0 {
					t.Fatalf("seed %d: restored to %d, flushed to %d, problems %q", seed, res.Seq, p.from, res.Problems)
				}
				if diff := cmp.Diff(w.states[res.Seq], contents(t, e)); diff != "" {
					t.Fatalf("seed %d: state at %d:\n%s", seed, res.Seq, diff)
				}
			}
			if copies, err := Keyrings(t.Context(), []drive.Drive{a, b}); err != nil || len(copies[0]) < len("keyring at 0") {
				t.Fatalf("seed %d: keyrings %q, %v", seed, copies, err)
			}
			must(t, a.Close())
			must(t, b.Close())
		}
		if n < 50 {
			t.Fatalf("only %d crash points", n)
		}
	}
}

func TestOnMemDrive(t *testing.T) {
	w := newWorld(t, 0)
	d := mem.New(mem.Options{})
	s, err := New(Options{Engine: w.e, Key: storeKey, IsCounter: isCounter, Drives: func() []drive.Drive { return []drive.Drive{d} }})
	must(t, err)
	w.commits(100)
	must(t, s.Flush(t.Context()))
	e := w.engine()
	_, err = Restore(t.Context(), []drive.Drive{d}, storeKey, applyTo(t, e))
	must(t, err)
	if diff := cmp.Diff(w.states[w.last()], contents(t, e)); diff != "" {
		t.Error(diff)
	}
}
