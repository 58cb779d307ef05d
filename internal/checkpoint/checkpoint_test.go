package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
)

var storeKey = bytes.Repeat([]byte{7}, 32)

func isCounter(key []byte) bool { return key[0] == 'c' }

// world is an engine whose state at every batch is remembered, and drives.
type world struct {
	t      testing.TB
	r      *rand.Rand
	e      kv.Engine
	mu     sync.Mutex
	states []map[string]string // by batch
	drives []*fakeDrive
}

func newWorld(t testing.TB, drives int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(1, 2)), states: []map[string]string{{}}}
	w.e = w.engine()
	for i := range drives {
		w.drives = append(w.drives, newDrive(fsapi.DriveID(i+1)))
	}
	return w
}

// ticking is a clock on which every look takes a millisecond, as the real one
// may not in a fast test.
type ticking struct {
	clock.Clock
	ms atomic.Int64
}

func (c *ticking) Now() time.Time { return time.UnixMilli(c.ms.Add(1)) }

func tickingFrom(ms int64) *ticking {
	c := &ticking{Clock: clock.Real}
	c.ms.Store(ms)
	return c
}

// fork is a world with another history on the same drives.
func (w *world) fork(seed uint64) *world {
	f := newWorld(w.t, 0)
	f.r = rand.New(rand.NewPCG(seed, seed))
	f.drives = w.drives
	e, err := mem.Open(mem.Options{Clock: tickingFrom(2_000_000_000_000)})
	must(w.t, err)
	f.e = e
	return f
}

func (w *world) engine() kv.Engine {
	e, err := mem.Open(mem.Options{Clock: tickingFrom(1_000_000_000_000)})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func asDrives(list []*fakeDrive) []drive.Drive {
	var out []drive.Drive
	for _, d := range list {
		out = append(out, d)
	}
	return out
}

func (w *world) shipper(o Options) *Shipper {
	w.t.Helper()
	o.Engine, o.Key, o.IsCounter = w.e, storeKey, isCounter
	o.Drives = func() []drive.Drive {
		w.mu.Lock()
		defer w.mu.Unlock()
		return asDrives(w.drives)
	}
	s, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// commit makes one batch of a few random changes.
func (w *world) commit() {
	w.t.Helper()
	state := maps.Clone(w.states[len(w.states)-1])
	n := 1 + w.r.IntN(4)
	ops := make([]kv.Op, n)
	for i := range ops {
		op := kv.Op{Kind: kv.OpPut, Key: fmt.Appendf(nil, "k%02d", w.r.IntN(40)), Value: make([]byte, w.r.IntN(200))}
		for i := range op.Value {
			op.Value[i] = byte(w.r.Uint32())
		}
		switch w.r.IntN(4) {
		case 0:
			op.Kind = kv.OpDelete
		case 1:
			op = kv.Op{Kind: kv.OpAdd, Key: fmt.Appendf(nil, "c%02d", w.r.IntN(10)), Delta: w.r.Int64N(9) - 4}
		}
		ops[i] = op
		play(state, op)
	}
	if err := applyTo(w.t, w.e)(kv.Batch{Ops: ops}); err != nil {
		w.t.Fatal(err)
	}
	w.states = append(w.states, state)
}

func (w *world) commits(n int) {
	w.t.Helper()
	for range n {
		w.commit()
	}
}

func (w *world) last() kv.Seq { return kv.Seq(len(w.states) - 1) }

// restore reads drives into a map.
func restore(t testing.TB, drives []*fakeDrive) (map[string]string, Restored, error) {
	t.Helper()
	m := map[string]string{}
	r, err := Restore(t.Context(), asDrives(drives), storeKey, func(b kv.Batch) error {
		for _, op := range b.Ops {
			play(m, op)
		}
		return nil
	})
	return m, r, err
}

// play does an operation to a map as an engine would.
func play(m map[string]string, op kv.Op) {
	key := string(op.Key)
	switch op.Kind {
	case kv.OpPut:
		m[key] = string(op.Value)
	case kv.OpDelete:
		delete(m, key)
	case kv.OpAdd:
		n := kv.DecodeCounter([]byte(m[key])) + op.Delta
		if delete(m, key); n != 0 {
			m[key] = string(kv.AppendCounter(nil, n))
		}
	}
}

func applyTo(t testing.TB, e kv.Engine) func(kv.Batch) error {
	return func(b kv.Batch) error {
		_, err := e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			for _, op := range b.Ops {
				switch op.Kind {
				case kv.OpPut:
					tx.Put(op.Key, op.Value)
				case kv.OpDelete:
					tx.Delete(op.Key)
				case kv.OpAdd:
					tx.Add(op.Key, op.Delta)
				}
			}
			return nil
		})
		return err
	}
}

func contents(t testing.TB, e kv.Engine) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := e.View(t.Context(), func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			m[string(k)] = string(v)
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// check restores and compares with the remembered state at the batch reached,
// which must be at least `from`.
func (w *world) check(drives []*fakeDrive, from kv.Seq) Restored {
	w.t.Helper()
	got, r, err := restore(w.t, drives)
	if err != nil {
		w.t.Fatalf("%v; problems %q", err, r.Problems)
	}
	if r.Seq < from || int(r.Seq) >= len(w.states) {
		w.t.Fatalf("restored up to batch %d, want %d to %d; problems %q", r.Seq, from, len(w.states)-1, r.Problems)
	}
	if diff := cmp.Diff(w.states[r.Seq], got); diff != "" {
		w.t.Fatalf("state at batch %d (-want +got):\n%s", r.Seq, diff)
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFlushAndRestore(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{Keyring: func() []byte { return []byte("wrapped") }})
	must(t, s.Flush(t.Context())) // nothing yet
	w.check(w.drives, 0)
	for range 5 {
		w.commits(20)
		must(t, s.Flush(t.Context()))
		for _, d := range w.drives {
			if r := w.check([]*fakeDrive{d}, w.last()); len(r.Problems) > 0 {
				t.Errorf("problems %q", r.Problems)
			}
		}
	}
	st := s.Status()
	if st.Seq != w.last() || len(st.Drives) != 2 || st.Drives[1].Seq != w.last() || st.Drives[1].Behind {
		t.Errorf("status %+v", st)
	}
	copies, err := Keyrings(t.Context(), asDrives(w.drives))
	if err != nil || len(copies) != 1 || string(copies[0]) != "wrapped" {
		t.Errorf("keyrings %q, %v", copies, err)
	}
}

// What lies on a drive says nothing of keys and values.
func TestSealed(t *testing.T) {
	w := newWorld(t, 1)
	s := w.shipper(Options{})
	must(t, s.Flush(t.Context()))
	_, err := w.e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		tx.Put([]byte("a secret name"), []byte("a secret value"))
		return nil
	})
	must(t, err)
	must(t, s.Flush(t.Context()))
	for name, b := range w.drives[0].blobs {
		if bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s is not sealed", name)
		}
	}
	_, err = Restore(t.Context(), asDrives(w.drives), bytes.Repeat([]byte{8}, 32), nil)
	if !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("another key: %v", err)
	}
	_, err = Restore(t.Context(), nil, storeKey, nil)
	if !errors.Is(err, fsapi.NotExist) {
		t.Errorf("no drives: %v", err)
	}
}

// Run ships by size and by age, and does nothing at all while nothing changes.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		s := w.shipper(Options{GroupBytes: 64 << 10, GroupAge: 10 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.check(w.drives, 0); got.Checkpoint != 0 || got.Epoch == 0 || !s.Status().Based {
			t.Errorf("at the start: %+v", got)
		}

		before := w.drives[0].count()
		time.Sleep(100 * time.Hour)
		synctest.Wait()
		if after := w.drives[0].count(); after != before {
			t.Errorf("%d calls while nothing changed", after-before)
		}

		w.commits(3)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if st := s.Status(); st.Seq != 0 {
			t.Errorf("shipped up to %d before its time", st.Seq)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.check(w.drives[1:], 3)
		if st := s.Status(); st.Seq != 3 {
			t.Errorf("status %+v", st)
		}

		w.commits(800) // by size
		synctest.Wait()
		if r := w.check(w.drives, 300); r.Seq == w.last() {
			t.Log("all of it went by size")
		}
		must(t, s.Flush(ctx)) // beside Run
		w.check(w.drives, w.last())
		w.commits(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check(w.drives, w.last())

		cancel()
		must(t, <-done)
		w.commits(2)
		must(t, s.Flush(t.Context())) // after Run
		w.check(w.drives, w.last())
		must(t, w.e.Close())
	})
}

func TestRunEndsWithEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		s := w.shipper(Options{})
		done := make(chan error)
		go func() { done <- s.Run(t.Context()) }()
		time.Sleep(time.Minute)
		must(t, w.e.Close())
		must(t, <-done)
	})
}

// However few bytes come at a time, blobs stay few, and no byte is written
// over and over.
func TestTrickle(t *testing.T) {
	w := newWorld(t, 1)
	s := w.shipper(Options{})
	most, plain := 0, 0
	for range 1000 {
		w.commit()
		must(t, s.Flush(t.Context()))
		most = max(most, len(w.drives[0].names(prefixGroup)))
	}
	for _, p := range s.open {
		plain += len(p.data)
	}
	if most > 20 {
		t.Errorf("%d groups at one time", most)
	}
	if factor := float64(w.drives[0].wrote) / float64(plain); factor > 14 {
		t.Errorf("each byte was written %.1f times", factor)
	}
	w.check(w.drives, w.last())
}

// A checkpoint takes the place of what came before it, on every drive.
func TestCheckpointReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		s := w.shipper(Options{GroupBytes: 2 << 10, CheckpointBytes: 20 << 10})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		var seen []kv.Seq
		for range 60 {
			w.commits(20)
			time.Sleep(time.Second)
			synctest.Wait()
			if c := s.Status().Checkpoint; !slices.Contains(seen, c) {
				seen = append(seen, c)
			}
			for _, d := range w.drives {
				if n := len(d.names(prefixCheckpoint)); n != 1 {
					t.Fatalf("%d checkpoints on %s", n, d.info.Name)
				}
				if n := len(d.names(prefixGroup)); n > 30 {
					t.Fatalf("%d groups on %s", n, d.info.Name)
				}
			}
			w.check(w.drives[:1], w.last()-20)
		}
		if len(seen) < 4 {
			t.Errorf("checkpoints at %v only", seen)
		}
		cancel()
		must(t, <-done)
	})
}

// After a restart the log goes on where it was.
func TestResume(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{})
	w.commits(10)
	must(t, s.Flush(t.Context()))
	first := s.Status()
	for range 3 {
		w.commits(10)
		s = w.shipper(Options{})
		must(t, s.Flush(t.Context()))
		st := s.Status()
		if st.Epoch != first.Epoch || st.Checkpoint != first.Checkpoint || st.Seq != w.last() {
			t.Errorf("resumed as %+v, was %+v", st, first)
		}
		w.check(w.drives, w.last())
	}
	s = w.shipper(Options{}) // nothing new
	must(t, s.Flush(t.Context()))
	if st := s.Status(); st.Epoch != first.Epoch || st.Seq != w.last() {
		t.Errorf("resumed as %+v", st)
	}
}

// Another history begins a new epoch, and the old one goes when that is there.
func TestOtherHistory(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{})
	w.commits(50)
	must(t, s.Flush(t.Context()))
	was := s.Status().Epoch

	other := w.fork(3)
	other.commits(60) // further than the first
	s = other.shipper(Options{})
	must(t, s.Flush(t.Context()))
	if now := s.Status().Epoch; now <= was {
		t.Errorf("epoch %d after %d", now, was)
	}
	for _, d := range w.drives {
		other.check([]*fakeDrive{d}, other.last())
		if n := d.names(Prefix); len(n) != 1 {
			t.Errorf("on %s: %q", d.info.Name, n)
		}
	}
}

// The engine lost its newest batches and went on differently: their numbers
// are on the drives with other contents.
func TestForkedHistory(t *testing.T) {
	w := newWorld(t, 1)
	w.commits(5)
	must(t, w.shipper(Options{}).Flush(t.Context()))
	was, _ := parseName(w.drives[0].names(prefixCheckpoint)[0])

	fork := w.fork(9)
	fork.commits(5) // the same number
	s := fork.shipper(Options{})
	must(t, s.Flush(t.Context()))
	if s.Status().Epoch <= was.epoch {
		t.Error("no new epoch")
	}
	fork.check(fork.drives, 5)
}

// copied writes a group of the batches after from to a drive, as a copy of the store
// that went on otherwise does: in the same epoch.
func (w *world) copied(d *fakeDrive, epoch uint64, from, to kv.Seq) {
	w.t.Helper()
	other := w.fork(9)
	other.drives = nil
	other.commits(int(to))
	c := other.shipper(Options{})
	c.resumed, c.epoch, c.last, c.gap = true, epoch, from, from
	must(w.t, c.pull(w.t.Context(), to))
	o := object{kindGroup, c.epoch, from + 1, to}
	must(w.t, create(w.t.Context(), d, o, c.seal(o, c.pend)))
}

// A copy of the store had a drive, and wrote batches of the same numbers there, in the
// epoch that it went on with. Whoever takes the drive back begins a new one.
func TestAnew(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{})
	w.commits(10)
	must(t, s.Flush(t.Context()))
	was, both := s.Status().Epoch, w.drives
	w.drives = both[1:]
	w.copied(both[0], was, 10, 13)
	w.commits(3)
	must(t, s.Flush(t.Context()))
	w.drives = both
	s.Anew("a copy had the drive")
	w.commits(3)
	must(t, s.Flush(t.Context()))
	if s.Status().Epoch <= was {
		t.Error("no new epoch")
	}
	for _, d := range both {
		w.check([]*fakeDrive{d}, w.last())
	}
	w.check(both, w.last())

	was = s.Status().Epoch
	s = w.shipper(Options{})
	s.Anew("it was restored")
	w.commits(1)
	must(t, s.Flush(t.Context()))
	if s.Status().Epoch <= was {
		t.Error("no new epoch")
	}
	w.check(both, w.last())
}

// A group of the same name that a copy of the store left is not taken for one's own.
func TestGroupOfACopy(t *testing.T) {
	w := newWorld(t, 1)
	s := w.shipper(Options{})
	w.commits(10)
	must(t, s.Flush(t.Context()))
	w.copied(w.drives[0], s.Status().Epoch, 10, 12)
	w.commits(2)
	must(t, s.Flush(t.Context()))
	w.check(w.drives, w.last())
}

var errBroken = fsapi.Errorf(fsapi.IO, "broken")

func broken(string, string) error { return errBroken }

// A drive that fails is left behind and brought up later; the others go on.
func TestDriveFails(t *testing.T) {
	w := newWorld(t, 3)
	s := w.shipper(Options{GroupBytes: 4 << 10, CheckpointBytes: 16 << 10})
	w.commits(10)
	must(t, s.Flush(t.Context()))
	bad := w.drives[1]
	bad.setFail(broken)
	w.commits(200)
	err := s.Flush(t.Context())
	if !errors.Is(err, fsapi.IO) || !strings.Contains(err.Error(), "drive "+bad.info.Name) {
		t.Errorf("%v does not name the drive", err)
	}
	if st := s.Status(); !st.Drives[1].Behind || st.Drives[0].Behind || st.Drives[0].Seq != w.last() || st.Seq >= w.last() {
		t.Errorf("status %+v", st)
	}
	w.check(w.drives[:1], w.last())
	bad.setFail(nil)
	must(t, s.Flush(t.Context()))
	w.check([]*fakeDrive{bad}, w.last())
}

// While no drive takes anything, nothing is lost and memory is bounded.
func TestAllDrivesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		s := w.shipper(Options{GroupBytes: 4 << 10})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		w.commits(10)
		time.Sleep(time.Minute)
		for _, d := range w.drives {
			d.setFail(broken)
		}
		w.commits(500)
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := s.Status(); st.Err == nil {
			t.Errorf("no error in %+v", st)
		}
		must(t, lock(ctx, s.busy))
		if n := len(s.pend.data); n > 8<<10 {
			t.Errorf("%d bytes are held", n)
		}
		unlock(s.busy)
		for _, d := range w.drives {
			d.setFail(nil)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := s.Status(); st.Err != nil || st.Seq != w.last() {
			t.Errorf("status %+v", st)
		}
		w.check(w.drives[1:], w.last())
		cancel()
		must(t, <-done)
	})
}

// A new drive gets all of it from the others; a drive taken away is forgotten.
func TestDrivesComeAndGo(t *testing.T) {
	w := newWorld(t, 1)
	s := w.shipper(Options{})
	w.commits(30)
	must(t, s.Flush(t.Context()))
	w.commits(30)
	fresh := newDrive(9)
	w.drives = append(w.drives, fresh)
	must(t, s.Flush(t.Context()))
	w.check([]*fakeDrive{fresh}, w.last())
	w.drives = []*fakeDrive{fresh}
	w.commits(3)
	must(t, s.Flush(t.Context()))
	w.check([]*fakeDrive{fresh}, w.last())
	empty := newDrive(10)
	w.drives = []*fakeDrive{empty} // nothing to copy from
	must(t, s.Flush(t.Context()))
	w.check([]*fakeDrive{empty}, w.last())
}

func TestNoDrive(t *testing.T) {
	w := newWorld(t, 0)
	if err := w.shipper(Options{}).Flush(t.Context()); !errors.Is(err, fsapi.NoSpace) {
		t.Errorf("%v", err)
	}
}

// The tail is gone: a checkpoint takes over.
func TestTailLost(t *testing.T) {
	w := newWorld(t, 1)
	e, err := mem.Open(mem.Options{TailBytes: 4 << 10})
	must(t, err)
	w.e = e
	s := w.shipper(Options{})
	w.commits(3)
	must(t, s.Flush(t.Context()))
	w.commits(300)
	must(t, s.Flush(t.Context()))
	r := w.check(w.drives, w.last())
	if r.Checkpoint != w.last() {
		t.Errorf("%+v", r)
	}
	w.commits(300)
	s = w.shipper(Options{}) // after a restart as well
	must(t, s.Flush(t.Context()))
	w.check(w.drives, w.last())
}

// At whatever call the power goes, what is on the drives restores to a state
// that was, and not to one before the last finished Flush.
func TestCrashPoints(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(t, 2)
		w.r = rand.New(rand.NewPCG(seed, 1))
		type point struct {
			drives []*fakeDrive
			from   kv.Seq
		}
		var mu sync.Mutex
		var points []point
		flushed, based := kv.Seq(0), false
		for _, d := range w.drives {
			d.after = func(string, string) {
				mu.Lock()
				defer mu.Unlock()
				if based {
					points = append(points, point{[]*fakeDrive{w.drives[0].clone(), w.drives[1].clone()}, flushed})
				}
			}
		}
		for range 4 {
			s := w.shipper(Options{GroupBytes: 2 << 10, CheckpointBytes: 8 << 10})
			for range 10 {
				w.commits(1 + w.r.IntN(15))
				must(t, s.Flush(t.Context()))
				mu.Lock()
				flushed, based = w.last(), true
				mu.Unlock()
				must(t, s.checkpoint(t.Context())) // if due
			}
		}
		if len(points) < 100 {
			t.Fatalf("only %d crash points", len(points))
		}
		for _, p := range points {
			w.check(p.drives, p.from)
			w.check(p.drives[:1], 0)
		}
	}
}

// The first checkpoint of a new epoch is cut short at each call: the old epoch
// still restores.
func TestCrashInNewEpoch(t *testing.T) {
	w := newWorld(t, 1)
	w.commits(20)
	must(t, w.shipper(Options{}).Flush(t.Context()))
	fork := w.fork(5)
	fork.commits(30)
	fork.drives = w.drives
	for n := 1; ; n++ {
		d := w.drives[0].clone()
		fork.drives = []*fakeDrive{d}
		calls := 0
		d.setFail(func(op, _ string) error {
			if op == "read" || op == "stat" || op == "list" {
				return nil
			}
			if calls++; calls >= n {
				return errBroken
			}
			return nil
		})
		err := fork.shipper(Options{}).Flush(t.Context())
		d.setFail(nil)
		_, r, rerr := restore(t, fork.drives)
		if rerr != nil || (r.Seq != 20 && r.Seq != 30) {
			t.Fatalf("%d calls: restored to %d, %v", n, r.Seq, rerr)
		}
		must(t, fork.shipper(Options{}).Flush(t.Context()))
		fork.check(fork.drives, 30)
		if err == nil {
			if n < 4 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// A flipped or missing byte is noticed. With another good copy nothing is lost;
// without, a prefix is restored and what is lost is said.
func TestDamage(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{GroupBytes: 2 << 10})
	w.commits(20)
	must(t, s.Flush(t.Context()))
	w.commits(150)
	must(t, s.Flush(t.Context()))
	names := w.drives[0].names(Prefix)
	if len(names) < 4 {
		t.Fatalf("only %q", names)
	}
	for _, name := range names {
		size := len(w.drives[0].blobs[name])
		for range 12 {
			a, b := w.drives[0].clone(), w.drives[1]
			bad := bytes.Clone(a.blobs[name])
			at := w.r.IntN(size)
			switch w.r.IntN(3) {
			case 0:
				bad = bad[:at]
			case 1:
				bad = append(bad, 0)
			default:
				bad[at] ^= 1 << w.r.IntN(8)
			}
			a.blobs[name] = bad
			r := w.check([]*fakeDrive{a, b}, w.last())
			if len(r.Problems) == 0 || !strings.Contains(strings.Join(r.Problems, " "), name) {
				t.Errorf("damage of %s at %d: problems %q", name, at, r.Problems)
			}
			if strings.HasPrefix(name, prefixCheckpoint) {
				if _, _, err := restore(t, []*fakeDrive{a}); !errors.Is(err, fsapi.Corrupt) {
					t.Errorf("the only checkpoint is damaged: %v", err)
				}
				continue
			}
			r = w.check([]*fakeDrive{a}, 0)
			if r.Seq >= w.last() || !strings.Contains(strings.Join(r.Problems, " "), "are lost") {
				t.Errorf("damage of %s at %d: restored to %d with %q", name, at, r.Seq, r.Problems)
			}
		}
	}
	// Each drive lacks another half: together they have all.
	a, b := w.drives[0].clone(), w.drives[1].clone()
	for i, name := range names {
		delete([]*fakeDrive{a, b}[i%2].blobs, name)
	}
	if r := w.check([]*fakeDrive{a, b}, w.last()); len(r.Problems) > 0 {
		t.Errorf("problems %q", r.Problems)
	}
}

// Any mix of commits, flushes, restarts, faults and drives restores to what
// was flushed.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, 2)
		w.r = rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		o := Options{GroupBytes: 1 << 10, CheckpointBytes: 6 << 10}
		s := w.shipper(o)
		flushed, ok := kv.Seq(0), false
		rt.Repeat(map[string]func(*rapid.T){
			"commit": func(rt *rapid.T) { w.commits(rapid.IntRange(1, 30).Draw(rt, "n")) },
			"flush": func(rt *rapid.T) {
				if s.Flush(t.Context()) == nil {
					flushed, ok = w.last(), true
				}
			},
			"checkpoint": func(*rapid.T) { _ = s.checkpoint(t.Context()) },
			"restart":    func(*rapid.T) { s = w.shipper(o) },
			"fault": func(rt *rapid.T) {
				d, at := w.drives[rapid.IntRange(0, 1).Draw(rt, "drive")], rapid.IntRange(1, 12).Draw(rt, "call")
				calls := 0
				d.setFail(func(string, string) error {
					if calls++; calls >= at {
						return errBroken
					}
					return nil
				})
			},
			"heal": func(*rapid.T) {
				for _, d := range w.drives {
					d.setFail(nil)
				}
			},
			"": func(rt *rapid.T) {
				if ok {
					w.check([]*fakeDrive{w.drives[0].clone(), w.drives[1].clone()}, flushed)
				}
			},
		})
		for _, d := range w.drives {
			d.setFail(nil)
		}
		must(t, s.Flush(t.Context()))
		for _, d := range w.drives {
			if r := w.check([]*fakeDrive{d}, w.last()); len(r.Problems) > 0 {
				t.Fatalf("problems %q", r.Problems)
			}
		}
	})
}

func TestCover(t *testing.T) {
	g := func(first, last kv.Seq) object { return object{kindGroup, 1, first, last} }
	tests := []struct {
		base   kv.Seq
		groups []object
		want   []object
		end    kv.Seq
	}{
		{5, nil, nil, 5},
		{5, []object{g(6, 7), g(8, 9)}, []object{g(6, 7), g(8, 9)}, 9},
		{5, []object{g(8, 9), g(1, 7)}, []object{g(1, 7), g(8, 9)}, 9},
		{5, []object{g(7, 9)}, nil, 5},
		{5, []object{g(1, 5)}, nil, 5},
		{5, []object{g(6, 6), g(6, 9), g(7, 7), g(8, 9)}, []object{g(6, 9)}, 9},
		{5, []object{g(6, 7), g(9, 9)}, []object{g(6, 7)}, 7},
	}
	for _, tt := range tests {
		got, end := cover(tt.base, tt.groups)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(object{})); diff != "" || end != tt.end {
			t.Errorf("cover(%d, %v) ends at %d, want %d: %s", tt.base, tt.groups, end, tt.end, diff)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("%v", err)
	}
}

// A checkpoint larger than memory for it: blocks stay small.
func TestDumpIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	for i := range 40 {
		_, err := w.e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			for j := range 20 {
				v := make([]byte, 30<<10)
				binary.LittleEndian.PutUint32(v, w.r.Uint32())
				tx.Put(fmt.Appendf(nil, "k%03d%03d", i, j), v)
			}
			if i == 7 {
				tx.Put([]byte("k-large"), make([]byte, 3<<20))
			}
			return nil
		})
		must(t, err)
	}
	snap, err := w.e.Snapshot()
	must(t, err)
	defer snap.Close()
	h := newHeader(object{kindCheckpoint, 1, snap.Seq(), snap.Seq()}, snap.Stamp())
	blocks, largest := 0, 0
	seal := newSealer(storeKey, &h)
	must(t, dump(snap, seal, h.stamp, isCounter, func(b []byte) error {
		blocks++
		largest = max(largest, len(b))
		return nil
	}))
	if blocks < 20 || cap(seal.packed) > 8<<20 || largest > 4<<20 {
		t.Errorf("%d blocks, the largest of %d bytes, %d bytes of scratch", blocks, largest, cap(seal.packed))
	}
}

// Whatever the bytes, they are refused or read as what a blob may hold.
func FuzzBlob(f *testing.F) {
	o := object{kindGroup, 3, 5, 6}
	h := newHeader(o, 77)
	var plain []byte
	for _, seq := range []kv.Seq{5, 6} {
		plain = kv.AppendBatch(plain, kv.Batch{Seq: seq, Ops: []kv.Op{{Kind: kv.OpPut, Key: []byte("k"), Value: []byte("v")}}})
	}
	f.Add(newSealer(storeKey, &h).appendBlock(nil, plain, true), plain)
	f.Add([]byte(magic), []byte{})
	f.Fuzz(func(t *testing.T, raw, plain []byte) {
		d := newDrive(1)
		d.blobs[o.name()] = raw
		if err := verify(t.Context(), d, o, storeKey); err != nil {
			if k := fsapi.KindOf(err); k != fsapi.Corrupt && k != fsapi.NotSupported {
				t.Fatalf("%v has kind %v", err, k)
			}
		}
		// The same plaintext, properly sealed: what is inside must be checked too.
		d.blobs[o.name()] = newSealer(storeKey, &h).appendBlock(nil, plain, true)
		n := 0
		r, err := open(t.Context(), d, o, storeKey)
		if err != nil {
			t.Fatal(err)
		}
		err = r.batches(t.Context(), func(b kv.Batch) error {
			n++
			return nil
		})
		if err == nil && n != 2 || err != nil && !errors.Is(err, fsapi.Corrupt) {
			t.Fatalf("%d batches, %v", n, err)
		}
	})
}

// A name that is taken is the only one of its blob.
func FuzzName(f *testing.F) {
	f.Add(object{kindGroup, 3, 5, 6}.name())
	f.Add(object{kindCheckpoint, 3, 5, 5}.name())
	f.Add("meta/b/-")
	f.Fuzz(func(t *testing.T, name string) {
		if o, ok := parseName(name); ok && o.name() != name {
			t.Fatalf("%q is read as %q", name, o.name())
		}
	})
}

func BenchmarkCheckpoint(b *testing.B) {
	w := newWorld(b, 0)
	total := 0
	for i := range 200 {
		_, err := w.e.Update(b.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			for j := range 500 {
				v := fmt.Appendf(nil, "inode %d mode 0644 uid 1000 gid 1000 size %d mtime %d", j, w.r.IntN(1<<20), w.r.Int64())
				k := fmt.Appendf(nil, "D0001%08d name-of-file-%06d", i, j)
				total += len(k) + len(v)
				tx.Put(k, v)
			}
			return nil
		})
		must(b, err)
	}
	b.SetBytes(int64(total))
	b.ReportAllocs()
	for b.Loop() {
		snap, err := w.e.Snapshot()
		must(b, err)
		h := newHeader(object{kindCheckpoint, 1, snap.Seq(), snap.Seq()}, snap.Stamp())
		must(b, dump(snap, newSealer(storeKey, &h), h.stamp, isCounter, func([]byte) error { return nil }))
		must(b, snap.Close())
	}
}

// Renew leaves nothing on the drives but a checkpoint of now.
func TestRenew(t *testing.T) {
	w := newWorld(t, 2)
	s := w.shipper(Options{})
	w.commits(10)
	must(t, s.Flush(t.Context()))
	w.commits(10)
	must(t, s.Renew(t.Context()))
	if st := s.Status(); st.Checkpoint != w.last() || st.Since != 0 {
		t.Errorf("%+v after batch %d", st, w.last())
	}
	for _, d := range w.drives {
		if len(d.blobs) != 1 {
			t.Errorf("drive %s holds %d blobs", d.info.Name, len(d.blobs))
		}
	}
	w.check(w.drives, w.last())
	made := w.drives[0].ops["Create"]
	must(t, s.Renew(t.Context())) // nothing is older
	if w.drives[0].ops["Create"] != made {
		t.Error("a checkpoint was made again though nothing changed")
	}
	w.commits(1)
	w.drives[1].fail = func(op, _ string) error { return fsapi.Errorf(fsapi.IO, "broken") }
	if err := s.Renew(t.Context()); err == nil {
		t.Error("a drive failed, and nobody said so")
	}
}
