package upkeep_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
)

// sleepyRig has an awake disk in front of one that spins down.
func sleepyRig(t *testing.T) *tierRig {
	r := &tierRig{rig: copiesRig(t, "hot:1,cold:1", nil)}
	r.hot = r.join(drive.Info{ID: 1, Name: "ssd", Tier: "hot"}, 1<<30)
	r.cold = r.join(drive.Info{ID: 2, Name: "archive", Tier: "cold", Spindown: true}, 1<<30)
	r.again()
	return r
}

// attempt works on everything pending, as the queue would.
func (r *tierRig) attempt() {
	r.t.Helper()
	if err := r.up.Scan(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// Copies to a drive that spins down are held back, then written together; until
// then nothing at all is asked of it.
func TestSpindown(t *testing.T) {
	r := sleepyRig(t)
	for i := range 8 {
		r.write(fmt.Sprint("f", i), blob.Segment, random(uint64(i), 50_000))
		r.attempt()
		r.clock.move(5 * time.Minute)
	}
	r.read("f3")
	if _, err := r.up.Scrub(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.tier()
	if rep := r.tier(); len(rep.Full) != 0 {
		t.Error(rep)
	}
	if n := r.cold.calls["capacity"]; n > 1 {
		t.Errorf("its capacity was asked %d times in an hour", n)
	}
	delete(r.cold.calls, "capacity")
	if len(r.cold.calls) != 0 || len(r.pending()) != 8 {
		t.Fatalf("the sleeping drive was asked for %v; %d pending", r.cold.calls, len(r.pending()))
	}
	r.clock.move(25 * time.Minute) // the first has waited an hour
	r.attempt()
	r.attempt()
	if len(r.pending()) != 0 || len(r.cold.Names()) != 8 {
		t.Errorf("after an hour %d are pending", len(r.pending()))
	}
	r.write("later", blob.Segment, random(99, 50_000))
	r.attempt()
	if len(r.pending()) != 1 {
		t.Error("the window stayed open")
	}
	r.check()
}

// What is pending says what it waits for.
func TestPendingSaysWhatItWaitsFor(t *testing.T) {
	r := sleepyRig(t)
	r.write("a", blob.Segment, random(1, 50_000))
	waits := func(want string) {
		t.Helper()
		for _, p := range r.pending() {
			if got := r.up.Waits(p); !strings.Contains(got, want) {
				t.Errorf("it waits for %q, want %q", got, want)
			}
		}
		if len(r.pending()) != 1 {
			t.Errorf("%d are pending", len(r.pending()))
		}
	}
	waits("its turn")
	r.attempt()
	waits("drives of tier cold spin down: gathered until there are 1048576 bytes")
	waits(r.clock.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	if err := r.set.SetState(2, drive.Offline); err != nil {
		t.Fatal(err)
	}
	r.clock.move(2 * time.Hour)
	r.attempt()
	waits("its turn") // the window is open
	r.attempt()
	waits("its next attempt")
	if p := r.pending()[0]; !strings.Contains(p.Err, "archive is offline") || !p.Next.After(r.clock.Now()) {
		t.Errorf("it failed because of %q, next at %v", p.Err, p.Next)
	}
}

// Much to write does not wait for the hour, nor does one who waits.
func TestSpindownIsHurried(t *testing.T) {
	r := sleepyRig(t)
	for i := range 30 {
		r.write(fmt.Sprint("f", i), blob.Segment, random(uint64(i), 50_000))
		r.attempt()
	}
	if n := len(r.pending()); n == 30 || len(r.cold.Names()) == 0 {
		t.Errorf("1.5 MB gathered, %d pending", n)
	}
	r.write("last", blob.Segment, random(99, 50_000))
	stop := r.running()
	if err := r.up.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if n := len(r.pending()); n != 0 {
		t.Errorf("%d pending after waiting for them", n)
	}
	r.check()
}

// A copy that is held back does not keep another from being tried again.
func TestSpindownHoldsBackNothingElse(t *testing.T) {
	r := &tierRig{rig: copiesRig(t, "hot:1,warm:1,cold:1", nil)}
	r.hot = r.join(drive.Info{ID: 1, Name: "ssd", Tier: "hot"}, 1<<30)
	r.cold = r.join(drive.Info{ID: 2, Name: "archive", Tier: "cold", Spindown: true}, 1<<30)
	r.again()
	r.write("a", blob.Segment, random(1, 50_000))
	r.attempt() // there is no warm drive yet
	r.join(drive.Info{ID: 3, Name: "nas", Tier: "warm"}, 1<<30)
	r.clock.move(10 * time.Minute)
	r.attempt()
	if s := r.segment(); len(s.Copies) != 2 || s.Copies[1].Tier != "warm" || len(r.cold.Names()) != 0 {
		t.Errorf("copies: %+v", s.Copies)
	}
}

// Of two replicas on one tier the one on a drive that is awake is read.
func TestReadsLetDrivesSleep(t *testing.T) {
	r := &tierRig{rig: copiesRig(t, "hot:2", nil)}
	r.hot = r.join(drive.Info{ID: 1, Name: "disk", Tier: "hot", Domain: "a"}, 1<<30)
	r.cold = r.join(drive.Info{ID: 2, Name: "sleeper", Tier: "hot", Domain: "b", Spindown: true}, 1<<30)
	r.again()
	r.write("a", blob.Segment, random(1, 200_000))
	if len(r.cold.Names()) != 1 {
		t.Fatalf("it holds %v", r.cold.Names())
	}
	r.read("a")
	if n := r.cold.calls["read"]; n != 0 || r.hot.calls["read"] == 0 {
		t.Errorf("%d reads of the drive that sleeps, %d of the other", n, r.hot.calls["read"])
	}
}

// Dead segments wait for the drive to be awake.
func TestSpindownDeletesTogether(t *testing.T) {
	r := sleepyRig(t)
	r.write("a", blob.Segment, random(1, 50_000))
	r.write("b", blob.Segment, random(2, 50_000))
	r.fulfil()
	r.remove("a")
	if rep := r.sweep(); rep.Condemned != 1 {
		t.Fatalf("%+v", rep)
	}
	r.clock.move(20 * time.Minute)
	if rep := r.sweep(); rep.Deleted != 0 || rep.Waiting != 1 || r.cold.calls["delete"] != 0 {
		t.Errorf("woken for one deletion: %+v", rep)
	}
	r.clock.move(time.Hour)
	if rep := r.sweep(); rep.Deleted != 1 || len(r.cold.Names()) != 1 {
		t.Errorf("after an hour: %+v", rep)
	}
	r.check()
}

// running runs upkeep until stop.
func (r *tierRig) running() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.up.Run(ctx) }()
	return func() { cancel(); <-done }
}

// sweep is one pass of collection.
func (r *tierRig) sweep() upkeep.CollectReport {
	r.t.Helper()
	if _, err := r.up.Sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	rep, err := r.up.Collect(r.t.Context(), upkeep.GCOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}
