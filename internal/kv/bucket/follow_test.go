package bucket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// caughtUp waits until a follower shows a batch.
func caughtUp(t *testing.T, f *Follower, seq kv.Seq) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); f.LastSeq() < seq; {
		if time.Now().After(deadline) {
			t.Fatalf("the follower stands at batch %d of %d: %v", f.LastSeq(), seq, f.Failure())
		}
		tl, err := f.Tail(f.LastSeq() + 1)
		if errors.Is(err, fsapi.NotExist) { // it came on in between
			continue
		}
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _ = tl.Next(ctx)
		cancel()
		tl.Close()
	}
}

// TestFollower follows writers that take over from one another, checkpoint, clean
// up behind themselves and compact: it shows what they show.
func TestFollower(t *testing.T) {
	b := mem.New(mem.Options{})
	_, err := Follow(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	if fsapi.KindOf(err) != fsapi.NotExist {
		t.Fatalf("followed an empty bucket: %v", err)
	}
	writer := func() Options { // what it makes garbage stays while the follower may read it
		o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
		o.GarbageAge = DefaultGarbageAge
		return o
	}
	w, err := Open(t.Context(), writer())
	must(t, err)
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.PollMin, o.PollMax = time.Millisecond, 5*time.Millisecond
	f, err := Follow(t.Context(), o)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 15 {
		for range 60 {
			must(t, randomUpdate(t.Context(), w, rng, func(kv.Seq) {}))
		}
		must(t, w.Sync(t.Context()))
		caughtUp(t, f, w.LastSeq())
		if diff := cmp.Diff(contents(t, w), contents(t, f)); diff != "" {
			t.Fatalf("round %d (-writer +follower):\n%.3000s", round, diff)
		}
		if round%5 == 4 {
			next, err := Open(t.Context(), writer())
			must(t, err)
			_ = w.Close()
			w = next
		}
	}
	if n := f.views.current().manifest.number; n < 3 {
		t.Errorf("the follower stands at manifest %d", n)
	}
	_, err = f.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error { return nil })
	if fsapi.KindOf(err) != fsapi.ReadOnly {
		t.Errorf("Update: %v", err)
	}
	must(t, w.Close())
}

// TestFollowerWithoutCheckpoints: a writer that makes no checkpoints for long (the
// disk of its cache is full) is followed on. Nothing compacts a follower's tables.
func TestFollowerWithoutCheckpoints(t *testing.T) {
	b := mem.New(mem.Options{})
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.CheckpointBytes, o.CheckpointObjects = 1<<40, 1<<40
	w, err := Open(t.Context(), o)
	must(t, err)
	fo := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	fo.PollMin, fo.PollMax = time.Millisecond, 5*time.Millisecond
	f, err := Follow(t.Context(), fo)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	rng := rand.New(rand.NewPCG(3, 4))
	for round := 0; f.views.current().tables.Sublevels() <= 28; round++ {
		if round == 50 {
			t.Fatalf("the follower has %d sublevels: too few to be held up by them", f.views.current().tables.Sublevels())
		}
		for k := range 128 { // eight memtables, over and over the same keys
			_, err := w.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
				tx.Put(fmt.Appendf(nil, "k%d", k%16), noise(rng, int(o.MemTableBytes)/16))
				return nil
			})
			must(t, err)
		}
		must(t, w.Sync(t.Context()))
		caughtUp(t, f, w.LastSeq())
	}
	if diff := cmp.Diff(contents(t, w), contents(t, f)); diff != "" {
		t.Fatalf("(-writer +follower):\n%.3000s", diff)
	}
	must(t, w.Close())
	// One that begins now has all of that to read, too.
	again := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	late, err := Follow(t.Context(), again)
	must(t, err)
	must(t, late.Close())
}

// TestFollowerBehind: a follower that slept while everything it knew was removed
// begins anew, and tells its subscribers that they have missed batches.
func TestFollowerBehind(t *testing.T) {
	b := mem.New(mem.Options{})
	w, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, w.Close()) }()
	fill(t, w, 0, 10)
	g := &gate{Store: opened(t, b)}
	o := small(g, osfs.NewMem(osfs.MemOptions{}))
	o.PollMin, o.PollMax = time.Millisecond, 5*time.Millisecond
	f, err := Follow(t.Context(), o)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	tl, err := f.Tail(f.LastSeq() + 1)
	must(t, err)
	defer tl.Close()
	asleep := make(chan struct{})
	g.set(func(int, string, string) outcome { return outcome{hold: asleep, held: func() {}} })
	for i := range 6 {
		fill(t, w, 100*i, 100)
		must(t, w.Checkpoint(t.Context()))
	}
	g.set(nil)
	close(asleep)
	caughtUp(t, f, w.LastSeq())
	// The writer here keeps no garbage: a table may vanish under a view. That view
	// says so, and one after the next poll is whole.
	want := contents(t, w)
	got, err := read(f)
	for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); got, err = read(f) {
		time.Sleep(5 * time.Millisecond)
	}
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-writer +follower):\n%.3000s", diff)
	}
	for {
		if _, err = tl.Next(t.Context()); err != nil {
			break
		}
	}
	if fsapi.KindOf(err) != fsapi.NotExist {
		t.Errorf("the subscriber got %v", err)
	}
}

// TestFollowerSeesOnlyDurable: what a writer has not brought into the journal is
// not seen, nor kept by who takes over.
func TestFollowerSeesOnlyDurable(t *testing.T) {
	b := mem.New(mem.Options{})
	w, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	fill(t, w, 0, 3)
	last := w.LastSeq()
	_, err = w.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("lost"), nil); return nil })
	must(t, err)
	f, err := Follow(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, f.Close()) }()
	if ok, err := get(f, "lost"); ok || err != nil || f.LastSeq() != last {
		t.Errorf("%v, %v at batch %d, want %d", ok, err, f.LastSeq(), last)
	}
	next, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, next.Close()) }()
	if ok, err := get(next, "lost"); ok || err != nil {
		t.Errorf("who took over has it: %v, %v", ok, err)
	}
	wantFenced(t, w.Close())
}

// TestLazy: a machine without anything serves a large tree after reading little
// of it.
func TestLazy(t *testing.T) {
	b := mem.New(mem.Options{})
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.CheckpointBytes, o.CheckpointObjects, o.MemTableBytes = 1<<30, 1<<30, 8<<20
	w, err := Open(t.Context(), o)
	must(t, err)
	const files, value = 4000, 4096
	fill(t, w, 0, files)
	must(t, w.Checkpoint(t.Context()))
	must(t, w.Close())
	s := opened(t, b)
	o = small(s, osfs.NewMem(osfs.MemOptions{}))
	o.still = true
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	for i := 0; i < files; i += files / 4 {
		if ok, err := get(e, fmt.Sprintf("f%06d", i)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if r := s.Requests(); r.Read > files*value/2 || r.Gets > 60 {
		t.Errorf("%d requests read %d bytes of %d", r.Gets, r.Read, files*value)
	}
}

// TestFollowerCatchUp has a follower that looks for new batches once an hour show
// one at once.
func TestFollowerCatchUp(t *testing.T) {
	b := mem.New(mem.Options{})
	w, err := Open(t.Context(), small(opened(t, b), osfs.NewMem(osfs.MemOptions{})))
	must(t, err)
	defer func() { must(t, w.Close()) }()
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.PollMin, o.PollMax = time.Hour, time.Hour
	f, err := Follow(t.Context(), o)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	for i := range 20 {
		seq, err := w.Update(t.Context(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "k%d", i), []byte("v"))
			return nil
		})
		must(t, err)
		if i%5 == 4 {
			must(t, w.Checkpoint(t.Context()))
		}
		done := make(chan error)
		for range 4 {
			go func() { done <- f.CatchUp(t.Context()) }()
		}
		for range 4 {
			must(t, <-done)
			if f.LastSeq() < seq {
				t.Fatalf("caught up, the follower shows batch %d of %d", f.LastSeq(), seq)
			}
		}
	}
}
