package dir_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// ledger is what a crash may leave: for each blob the contents it may have; a
// nil among them means that it may be missing.
type ledger map[string][][]byte

// check opens the drive in a crash clone and compares it with the ledger.
func (l ledger) check(t *testing.T, clone *osfs.Mem) {
	t.Helper()
	d, err := dir.Open(dir.Options{FS: clone, Path: "/drive", Expect: testID})
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	defer d.Close()
	var listed []string
	must(t, d.List(t.Context(), "", "", func(b drive.Blob) error {
		listed = append(listed, b.Name)
		return nil
	}))
	for _, name := range listed {
		if l[name] == nil {
			t.Errorf("after a crash there is %s", name)
		}
	}
	for name, allowed := range l {
		got, err := drivetest.Get(t.Context(), d, name)
		missing := fsapi.Kind(0)
		if err != nil {
			missing = fsapi.KindOf(err)
		}
		ok := slices.ContainsFunc(allowed, func(want []byte) bool {
			if want == nil {
				return missing == fsapi.NotExist
			}
			return err == nil && bytes.Equal(want, got)
		})
		if !ok {
			t.Errorf("after a crash %s has %d bytes (%v), none of what is allowed", name, len(got), err)
		}
	}
	if names, err := clone.ReadDir("/drive/.strake/tmp"); err != nil || len(names) > 0 {
		t.Errorf("Open left temporary files: %v, %v", names, err)
	}
	if err := drivetest.Put(t.Context(), d, "after/crash", []byte("x"), 0, 1); err != nil {
		t.Errorf("the drive does not work after a crash: %v", err)
	}
}

// TestCrash cuts the power before every call of a random history that reaches
// the file system.
func TestCrash(t *testing.T) {
	rounds := 4
	if os.Getenv("STRAKE_LONG") != "" {
		rounds = 200
	}
	for seed := range rounds {
		for _, write := range []dir.WriteMode{dir.WriteDirect, dir.WriteBuffered} {
			crashHistory(t, uint64(seed), write)
			if t.Failed() {
				t.Fatalf("seed %d, mode %d", seed, write)
			}
		}
	}
}

func crashHistory(t *testing.T, seed uint64, write dir.WriteMode) {
	m := osfs.NewMem(osfs.MemOptions{})
	r, crashes := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	l := ledger{}
	fsys := osfs.NewFault(m, nil)
	d := made(t, dir.Options{FS: fsys, Path: "/drive", Buffer: 4096, Write: write})
	defer d.Close()
	fsys.SetRule(func(c osfs.Call) osfs.Outcome {
		// Writers write in a goroutine: the ledger may be read there while
		// nothing changes it.
		if c.Op != osfs.OpWrite && c.Op != osfs.OpSyncRange && crashes.IntN(2) == 0 {
			l.check(t, m.CrashClone(crashes, osfs.AnyCrash(crashes)))
		}
		return osfs.Outcome{}
	})
	for i := range 25 {
		name := fmt.Sprintf("c/%d/%d", r.IntN(2), r.IntN(4))
		data := drivetest.Bytes(uint64(i), 1+r.IntN(20_000))
		old := append(l[name], nil)[0]
		switch r.IntN(4) {
		case 0, 1:
			if l[name] == nil || old == nil {
				l[name] = [][]byte{nil, data}
				must(t, drivetest.Put(t.Context(), d, name, data, int64(r.IntN(2)*len(data)), 1+r.IntN(9000)))
				l[name] = [][]byte{data}
			}
		case 2:
			l[name] = [][]byte{old, data}
			must(t, d.Replace(t.Context(), name, data))
			l[name] = [][]byte{data}
		default:
			if old != nil {
				l[name] = [][]byte{old, nil}
				if i%2 == 0 {
					must(t, d.Delete(t.Context(), name))
				} else {
					must(t, drive.DeleteMany(t.Context(), d, []string{name}))
				}
				delete(l, name)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// TestCrashDuringInit finds no drive or a whole one, and Init can be repeated.
func TestCrashDuringInit(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	r := rand.New(rand.NewPCG(1, 1))
	outcomes := map[string]int{}
	fsys := osfs.NewFault(m, func(osfs.Call) osfs.Outcome {
		for range 20 {
			clone := m.CrashClone(r, osfs.AnyCrash(r))
			id, err := dir.ReadIdentity(clone, "/new/drive")
			if err == nil {
				outcomes["whole"]++
				if id.ID != testID {
					t.Errorf("identity %v", id)
				}
				continue
			}
			outcomes["none"]++
			if fsapi.KindOf(err) != fsapi.NotExist {
				t.Errorf("identity after a crash: %v", err)
			}
			if err := dir.Init(clone, "/new/drive", dir.Identity{ID: 5}); err != nil {
				t.Errorf("Init after a crash: %v", err)
			}
		}
		return osfs.Outcome{}
	})
	must(t, dir.Init(fsys, "/new/drive", dir.Identity{ID: testID}))
	if outcomes["whole"] == 0 || outcomes["none"] == 0 {
		t.Errorf("outcomes %v", outcomes)
	}
	if _, err := dir.ReadIdentity(m.CrashClone(r, osfs.CrashLose), "/new/drive"); err != nil {
		t.Errorf("identity is not durable after Init: %v", err)
	}
}

// TestKilledBeforeSync commits a blob that a killed process left visible but
// not durable: the answer is Exist, and it is durable then.
func TestKilledBeforeSync(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	r := rand.New(rand.NewPCG(1, 1))
	d := made(t, dir.Options{FS: m, Path: "/drive"})
	must(t, d.Close())
	f, err := m.OpenFile("/drive/blob", os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	d = opened(t, dir.Options{FS: m, Path: "/drive"})
	defer d.Close()
	if err := drivetest.Put(t.Context(), d, "blob", nil, 0, 1); fsapi.KindOf(err) != fsapi.Exist {
		t.Fatal(err)
	}
	ledger{"blob": {{}}}.check(t, m.CrashClone(r, osfs.CrashLose))
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }
