package stack

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// CheckClean fails the test where the store is not in order: see Check.
func (s *Stack) CheckClean(t testing.TB) {
	t.Helper()
	if err := s.Check(context.Background()); err != nil {
		t.Errorf("the store is not clean: %v", err)
	}
}

// maxProblems bounds the problems in one error.
const maxProblems = 20

// Check verifies, after a Syncfs, every invariant between metadata records,
// that every extent reads, and that every frame of every replica verifies.
func (s *Stack) Check(ctx context.Context) error {
	if err := s.Local.Syncfs(ctx); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	if err := s.CheckMeta(ctx); err != nil {
		return err
	}
	r, err := s.Upkeep.Scrub(ctx, true)
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	var errs []error
	for _, b := range r.Bad {
		errs = append(errs, fmt.Errorf("segment %v on drive %v: %w", b.Segment, b.Drive, b.Err))
	}
	return errors.Join(errs...)
}

// CheckMeta is the part of Check that looks at metadata records only.
func (s *Stack) CheckMeta(ctx context.Context) error {
	var errs []error
	err := s.Meta.Check(ctx, s.Volume, nil, func(p meta.Problem) {
		if len(errs) < maxProblems {
			errs = append(errs, fmt.Errorf("%s: %s", p.Kind, p.Text))
		}
	})
	return errors.Join(append(errs, err)...)
}

// GC packs the journal, then releases, sweeps, compacts and deletes, without
// delays, until nothing changes. Doubts are errors: a test has none.
func (s *Stack) GC(ctx context.Context) error {
	if err := s.reclaim(ctx); err != nil {
		return err
	}
	if _, err := s.Upkeep.Pack(ctx); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	for range 10 {
		r, err := s.Upkeep.GC(ctx, upkeep.GCOptions{Now: true})
		if err != nil {
			return fmt.Errorf("gc: %w", err)
		}
		if d := r.Doubts(); len(d) > 0 {
			return fmt.Errorf("gc has doubts: %+v", d)
		}
		if r.Swept == 0 && r.Collect.Condemned == 0 && r.Collect.Deleted == 0 && r.Orphans.Deleted == 0 {
			return nil
		}
	}
	return nil
}

// reclaim releases the storage of everything that is gone, as the file system
// does in the background.
func (s *Stack) reclaim(ctx context.Context) error {
	for more := true; more; {
		_, err := s.Meta.Update(ctx, s.Volume, kv.UpdateOptions{}, func(tx *meta.Tx) (err error) {
			more, err = tx.Reclaim(1000)
			return err
		})
		if err != nil {
			return fmt.Errorf("reclaim: %w", err)
		}
	}
	return nil
}

// CheckSpace runs GC and then verifies that drives hold segments which are
// recorded and in which something lives, and no others; but what this process
// wrote and then had no use for it may keep for a time: Restart before, to have
// that checked too. Nothing else may use the store.
func (s *Stack) CheckSpace(ctx context.Context) error {
	if err := s.GC(ctx); err != nil {
		return err
	}
	known := map[string]bool{}
	var errs []error
	err := s.Meta.Segments(ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
		known[blob.SegmentName(u.ID)] = true
		if u.Live <= 0 {
			errs = append(errs, fmt.Errorf("segment %v has %d live bytes", u.ID, u.Live))
		}
		return true
	})
	errs = append(errs, err)
	for _, d := range s.Set.All() {
		err := d.List(ctx, blob.SegmentPrefix, "", func(b drive.Blob) error {
			id, err := blob.ParseSegmentName(b.Name)
			if err != nil {
				return err
			}
			if _, mine := s.Blob.Made(id); !mine && !known[b.Name] {
				errs = append(errs, fmt.Errorf("drive %s holds %s, which is not recorded", d.Info().Name, b.Name))
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
