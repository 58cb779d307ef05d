package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Restored says what Restore found.
type Restored struct {
	Epoch      uint64
	Checkpoint kv.Seq      // the batch of the checkpoint that was taken
	Seq        kv.Seq      // the last batch that was applied
	Stamp      clock.Stamp // its stamp
	// Problems are for people: what was damaged, missing or could not be read,
	// and what was taken in its stead or lost.
	Problems []string
}

// Restore reads the metadata back from drives: the newest checkpoint that
// verifies to its end, then every batch after it that any drive has, without
// gaps. apply gets the checkpoint's contents as several batches, all with its
// number, for an engine that is empty, and then the batches; a batch and its
// slices are valid during the call only. Everything applied was verified (D8);
// where something is damaged everywhere, the longest valid prefix was applied
// and Problems says what is missing.
//
// A nil apply only verifies; with one drive that says whether its copy is good.
//
// Errors: fsapi.NotExist where no drive has a checkpoint, fsapi.Corrupt where
// none verifies, fsapi.IO where drives cannot be read; an error of apply.
func Restore(ctx context.Context, drives []drive.Drive, storeKey []byte, apply func(kv.Batch) error) (Restored, error) {
	return restoreTo(ctx, drives, storeKey, math.MaxUint64, apply)
}

// RestoreAt is Restore as of a moment, in milliseconds: of what drives keep of
// the past, the newest checkpoint that is not after it and the batches up to it.
// fsapi.NotExist where no drive reaches so far back.
func RestoreAt(ctx context.Context, drives []drive.Drive, storeKey []byte, at time.Time, apply func(kv.Batch) error) (Restored, error) {
	return restoreTo(ctx, drives, storeKey, stampAt(at), apply)
}

func restoreTo(ctx context.Context, drives []drive.Drive, storeKey []byte, until clock.Stamp, apply func(kv.Batch) error) (Restored, error) {
	r := restorer{key: storeKey, until: until, apply: apply, c: catalogue(ctx, drives)}
	if apply == nil {
		r.apply = func(kv.Batch) error { return nil }
	}
	for _, err := range r.c.errs {
		r.problem("%v", err)
	}
	d, o, err := r.choose(ctx)
	if err != nil {
		return r.Restored, err
	}
	r.Epoch, r.Checkpoint, r.Seq = o.epoch, o.last, o.last
	if err := r.base(ctx, d, o); err != nil {
		return r.Restored, err
	}
	return r.Restored, r.follow(ctx)
}

// restorer is one Restore.
type restorer struct {
	Restored
	key   []byte
	until clock.Stamp // nothing later is applied
	apply func(kv.Batch) error
	c     *catalog
	later bool // there was a batch after until
}

func (r *restorer) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// choose finds the newest checkpoint that verifies, and a drive where it does.
func (r *restorer) choose(ctx context.Context) (drive.Drive, object, error) {
	var all []object
	for o := range r.c.places {
		if o.kind == kindCheckpoint {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b object) int { // newest first
		return cmp.Or(cmp.Compare(b.epoch, a.epoch), cmp.Compare(b.last, a.last))
	})
	late := 0
	for _, o := range all {
		for _, d := range r.c.places[o] {
			after, err := r.after(ctx, d, o)
			if err == nil && after {
				late++
				break
			}
			if err == nil {
				err = verify(ctx, d, o, r.key)
			}
			if err == nil {
				return d, o, nil
			}
			if ctx.Err() != nil {
				return nil, o, err
			}
			r.problem("checkpoint cannot be used: %v", err)
		}
	}
	switch {
	case late > 0:
		return nil, object{}, fsapi.Errorf(fsapi.NotExist, "no drive keeps the metadata as of %v: the %d checkpoints that there are come later", r.until.Time().Format(time.RFC3339), late)
	case len(all) > 0:
		return nil, object{}, fsapi.Errorf(fsapi.Corrupt, "none of the %d metadata checkpoints verifies: is this the right keyring? Otherwise rebuild from the segments alone", len(all))
	case len(r.c.errs) > 0:
		return nil, object{}, fsapi.Wrap(fsapi.IO, errors.Join(r.c.errs...), "no metadata checkpoint was found, but not every drive could be read")
	}
	return nil, object{}, fsapi.Errorf(fsapi.NotExist, "no drive has a metadata checkpoint: rebuild from the segments alone")
}

// after reports whether a checkpoint is of a later moment than the one wanted.
func (r *restorer) after(ctx context.Context, d drive.Drive, o object) (bool, error) {
	if r.until == math.MaxUint64 {
		return false, nil
	}
	b, err := open(ctx, d, o, r.key)
	return err == nil && b.stamp > r.until, err
}

// base applies the checkpoint.
func (r *restorer) base(ctx context.Context, d drive.Drive, o object) error {
	b, err := open(ctx, d, o, r.key)
	if err != nil {
		return err
	}
	r.Stamp = b.stamp
	return b.batches(ctx, r.apply)
}

// follow applies groups while there is one that holds the next batch.
func (r *restorer) follow(ctx context.Context) error {
	groups := r.c.groups(r.Epoch)
	slices.SortFunc(groups, func(a, b object) int { return cmp.Compare(b.last, a.last) }) // the furthest first
	for {
		more, err := r.advance(ctx, groups)
		if err != nil {
			return err
		}
		if !more || r.later {
			break
		}
	}
	if !r.later && len(groups) > 0 && groups[0].last > r.Seq {
		r.problem("batches %d to %d are lost: no drive has batch %d whole", r.Seq+1, groups[0].last, r.Seq+1)
	}
	return nil
}

// advance applies one group that holds the next batch, and says whether there
// was one. The error is apply's or the context's.
func (r *restorer) advance(ctx context.Context, groups []object) (bool, error) {
	for _, o := range groups {
		if o.first > r.Seq+1 || o.last <= r.Seq {
			continue
		}
		for _, d := range r.c.places[o] {
			batches, err := r.load(ctx, d, o)
			if ctx.Err() != nil {
				return false, err
			}
			if err != nil {
				r.problem("group cannot be used: %v", err)
				continue
			}
			return true, r.use(batches)
		}
		r.c.places[o] = nil // do not try again
	}
	return false, nil
}

// load reads a whole group, so that nothing of one that does not verify is
// applied.
func (r *restorer) load(ctx context.Context, d drive.Drive, o object) ([]kv.Batch, error) {
	b, err := open(ctx, d, o, r.key)
	if err != nil {
		return nil, err
	}
	b.keep = true
	var batches []kv.Batch
	err = b.batches(ctx, func(one kv.Batch) error {
		batches = append(batches, one)
		return nil
	})
	return batches, err
}

// use applies the batches that come next.
func (r *restorer) use(batches []kv.Batch) error {
	for _, b := range batches {
		if b.Seq <= r.Seq {
			continue
		}
		if b.Stamp > r.until {
			r.later = true
			return nil
		}
		if err := r.apply(b); err != nil {
			return err
		}
		r.Seq, r.Stamp = b.Seq, b.Stamp
	}
	return nil
}

// Keyrings are the copies of the keyring on drives, alike ones once. Their
// generation (keyring.Generation) tells which is newest. The error says why
// there is none.
func Keyrings(ctx context.Context, drives []drive.Drive) ([][]byte, error) {
	var copies [][]byte
	var errs []error
	for _, d := range drives {
		b, err := readSmall(ctx, d, nameKeyring)
		if err != nil {
			errs = append(errs, fsapi.Wrap(fsapi.KindOf(err), err, "read the keyring on drive "+d.Info().Name))
			continue
		}
		if !slices.ContainsFunc(copies, func(c []byte) bool { return string(c) == string(b) }) {
			copies = append(copies, b)
		}
	}
	if len(copies) > 0 {
		return copies, nil
	}
	if len(errs) == 0 {
		return nil, fsapi.Errorf(fsapi.NotExist, "no drive is there to read the keyring from")
	}
	return nil, errors.Join(errs...)
}

// readSmall reads a blob of at most 1 MiB, as Drive.Replace sets them.
func readSmall(ctx context.Context, d drive.Drive, name string) ([]byte, error) {
	st, err := d.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if st.Size > 1<<20 {
		return nil, fsapi.Errorf(fsapi.Corrupt, "drive %s: %s has %d bytes", d.Info().Name, name, st.Size)
	}
	b := make([]byte, st.Size)
	if n, err := d.ReadAt(ctx, name, 0, b); n < len(b) {
		return nil, err
	}
	return b, nil
}
