package checkpoint

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
)

func openPebble(t testing.TB, disk *osfs.Mem) kv.Engine {
	t.Helper()
	e, err := pebble.Open(pebble.Options{FS: disk, Dir: "/meta"})
	must(t, err)
	return e
}

// With the engine that keeps its log on a disk: after every end of it, clean or
// by power cut, the drives go on in the same epoch, as what was shipped was
// durable in the engine before; and what is restored into a fresh engine is
// alike, counters included.
func TestOnPebble(t *testing.T) {
	w := newWorld(t, 2)
	disk := osfs.NewMem(osfs.MemOptions{})
	r := rand.New(rand.NewPCG(11, 12))
	w.e = openPebble(t, disk)
	var epoch uint64
	for round := range 12 {
		s := w.shipper(Options{GroupBytes: 4 << 10, CheckpointBytes: 32 << 10})
		w.commits(50)
		must(t, s.Flush(t.Context()))
		if got := s.Status().Epoch; round == 0 {
			epoch = got
		} else if got != epoch {
			t.Fatalf("round %d: epoch %d, was %d", round, got, epoch)
		}
		restored := openPebble(t, osfs.NewMem(osfs.MemOptions{}))
		res, err := Restore(t.Context(), asDrives(w.drives), storeKey, applyTo(t, restored))
		must(t, err)
		if diff := cmp.Diff(w.states[w.last()], contents(t, restored)); diff != "" || res.Seq != w.last() {
			t.Fatalf("round %d: restored to %d of %d:\n%s", round, res.Seq, w.last(), diff)
		}
		if got, want := counters(t, restored), counters(t, w.e); !cmp.Equal(got, want) {
			t.Fatalf("round %d: counters %v, want %v", round, got, want)
		}
		// A counter goes on from where it was.
		_, err = restored.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			tx.Add([]byte("c00"), 5)
			return nil
		})
		must(t, err)
		if got, want := counters(t, restored)["c00"], counters(t, w.e)["c00"]+5; got != want {
			t.Fatalf("round %d: counter is %d, want %d", round, got, want)
		}
		must(t, restored.Close())

		cut := disk.CrashClone(r, osfs.AnyCrash(r))
		must(t, w.e.Close())
		if round%2 == 0 {
			disk = cut
		}
		w.e = openPebble(t, disk)
		if w.e.LastSeq() != w.last() {
			t.Fatalf("round %d: the engine is at %d, shipped were %d", round, w.e.LastSeq(), w.last())
		}
	}
	must(t, w.e.Close())
}

func counters(t testing.TB, e kv.Engine) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	must(t, e.View(t.Context(), func(r kv.Reader) error {
		for _, k := range []string{"c00", "c01", "c02", "c03", "c04", "c05", "c06", "c07", "c08", "c09"} {
			n, err := r.Counter([]byte(k))
			if err != nil {
				return err
			}
			m[k] = n
		}
		return nil
	}))
	return m
}
