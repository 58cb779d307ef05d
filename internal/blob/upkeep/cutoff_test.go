package upkeep_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
)

// steps that take parts out of records, each made ready by ready.
var takingSteps = map[string]struct {
	copies string
	drives map[string]int
	ready  func(r *rig)
	step   func(ctx context.Context, r *rig) error
}{
	"surplus": {
		"hot:2", map[string]int{"hot": 2, "warm": 3},
		func(r *rig) {
			if _, err := r.meta.ChangeSegment(r.t.Context(), r.segment().ID, func(seg *fsapi.Segment) error {
				seg.Want = copiesOf(r.t, "warm:2+1")
				return nil
			}); err != nil {
				r.t.Fatal(err)
			}
		},
		func(ctx context.Context, r *rig) error { return r.up.Fulfil(ctx, r.segment().ID) },
	},
	"evict": {
		"hot:1:evictable,cold:1", map[string]int{"hot": 1, "cold": 1},
		func(r *rig) { r.fulfil() },
		func(ctx context.Context, r *rig) error {
			if s := r.segment(); s.Copy(s.Want[0]) == nil {
				return nil // it went before
			}
			return r.up.Evict(ctx, r.segment().ID, "hot")
		},
	},
	"leave": {
		"hot:1", map[string]int{"hot": 1},
		func(r *rig) { r.addDrive("hot") },
		func(ctx context.Context, r *rig) error {
			return r.up.Leave(ctx, r.segment().ID, r.drives[0].Info().ID, 0)
		},
	},
	"delete": {
		"hot:2", map[string]int{"hot": 2},
		func(r *rig) { r.remove("a") },
		func(ctx context.Context, r *rig) error {
			_, err := r.up.GC(ctx, upkeep.GCOptions{Now: true})
			return err
		},
	},
}

// Who is stopped in the middle of a step, wherever that is, has deleted what he took
// out of the record once the step is done again, or leaves the record as it was:
// nothing lies there for the orphan sweep.
func TestCutOffAnywhere(t *testing.T) {
	for name, c := range takingSteps {
		t.Run(name, func(t *testing.T) {
			cuts := 0
			for at, reached := 1, true; reached; at++ {
				r := copiesRig(t, c.copies, c.drives)
				r.write("a", blob.Segment, random(1, 50_000))
				c.ready(r)
				ctx, cancel := context.WithCancel(t.Context())
				n := 0
				reached = false
				r.meta.point = func() {
					if n++; n == at {
						reached = true
						cancel()
					}
				}
				for _, d := range r.drives {
					d.Fail = func(op, _ string) error {
						if op == "Create" || op == "Commit" || op == "Delete" {
							r.meta.at()
						}
						return nil
					}
				}
				err := c.step(ctx, r)
				cancel()
				r.meta.point = nil
				if err != nil && !errors.Is(err, fsapi.Interrupted) || err != nil && !reached {
					t.Fatalf("cut off at %d: %v", at, err)
				}
				if err := c.step(t.Context(), r); err != nil {
					t.Fatalf("again, after it was cut off at %d: %v", at, err)
				}
				r.fulfil()
				r.whole()
				if t.Failed() {
					t.Fatalf("it was cut off at %d", at)
				}
				r.check()
				cuts = at
			}
			if cuts < 4 {
				t.Errorf("it was cut off at %d points only", cuts)
			}
		})
	}
}

// A log that takes no writes does not hold who wants to stop: what he took out of
// the record stays where it is then.
func TestCutOffWhileNothingIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := takingSteps["evict"]
		r := copiesRig(t, c.copies, c.drives)
		r.write("a", blob.Segment, random(1, 50_000))
		c.ready(r)
		ctx, cancel := context.WithCancel(t.Context())
		r.meta.syncing = func(ctx context.Context) error {
			<-ctx.Done()
			return fsapi.Wrap(fsapi.Interrupted, ctx.Err(), "wait for the log")
		}
		ended := make(chan error, 1)
		go func() { ended <- c.step(ctx, r) }()
		time.Sleep(time.Hour)
		select {
		case err := <-ended:
			t.Fatalf("it did not wait for the log: %v", err)
		default:
		}
		cancel()
		at := time.Now()
		if err := <-ended; !errors.Is(err, fsapi.Interrupted) {
			t.Errorf("it ended with %v", err)
		}
		if took := time.Since(at); took > time.Minute {
			t.Errorf("it went on for %v", took)
		}
		if len(r.drives[0].Names()) != 1 {
			t.Error("a part was deleted before the record without it was durable")
		}
	})
}
