package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// MetaRestoring is what MetaRestore is asked for.
type MetaRestoring struct {
	At     time.Time // zero: as new as there is
	From   []string  // paths and URLs of backups
	Drives []string  // paths and URLs of drives; neither these nor backups: the drives that are recorded
	DryRun bool
	// Ask asks a person for the password where one is needed and none is given; nil:
	// nobody is there.
	Ask func() ([]byte, error)
}

// MetaRestored says what MetaRestore did, or would do.
type MetaRestored struct {
	As   time.Time `json:"as_of"`          // of the last change that was restored
	Kept string    `json:"kept,omitempty"` // where the metadata is that was there before
}

// MetaRestore puts metadata, as of a moment or as new as there is, out of what
// backups and drives keep, in the place of the present, which is kept aside; or
// makes a store's data directory anew, or a bucket that holds everything, with the
// drives as they were recorded. Then it checks every record and whether its
// segments are there. Content that was deleted since and whose segments are gone
// (gc.delay) does not come back: the check names them. Without a moment, what
// segments written later say of themselves is taken up, as in a Rebuild.
func MetaRestore(ctx context.Context, cfg config.Config, req MetaRestoring, emit func(api.FsckEvent) error) (out MetaRestored, err error) {
	r, err := newRebuild(cfg, req.Ask, emit)
	if err != nil {
		return out, err
	}
	out, err = r.restoreAt(ctx, req)
	if err := errors.Join(err, r.close()); err != nil || req.DryRun {
		return out, err
	}
	return out, r.finish(ctx, false, req.At.IsZero())
}

// restoreAt restores aside, and has it take the place of the present.
func (r *rebuild) restoreAt(ctx context.Context, req MetaRestoring) (out MetaRestored, err error) {
	if err := r.enter(ctx, func() error { return r.openSources(ctx, req) }); err != nil {
		return out, err
	}
	t := r.target(req.DryRun)
	from, key := append(slices.Clone(r.places), r.drives...), r.keys.StoreKey()
	res, err := r.fill(ctx, t, from, func(ctx context.Context, from []drive.Drive, apply func(kv.Batch) error) (checkpoint.Restored, error) {
		if req.At.IsZero() {
			return checkpoint.Restore(ctx, from, key, apply)
		}
		return checkpoint.RestoreAt(ctx, from, key, req.At, apply)
	})
	if err == nil && res.Seq == 0 {
		err = fsapi.Errorf(fsapi.NotExist, "at %v nothing was in the store yet", req.At.UTC().Format(time.RFC3339))
	}
	out.As = res.Stamp.Time().UTC()
	if err != nil || req.DryRun {
		return out, errors.Join(err, t.drop())
	}
	out.Kept, err = t.commit(ctx)
	return out, err
}

func clockName(t time.Time) string { return t.UTC().Format("20060102T150405.000Z") }

// openSources opens the backups and drives that are named, or the drives that the
// present metadata knows.
func (r *rebuild) openSources(ctx context.Context, req MetaRestoring) error {
	for _, where := range req.From {
		d, err := openBackup(ctx, r.fs, where, nil)
		if err != nil {
			return err
		}
		r.places = append(r.places, d)
		r.closers = append(r.closers, d.Close)
	}
	drives := req.Drives
	if len(drives) == 0 && len(req.From) == 0 {
		var err error
		if drives, err = r.recorded(ctx); err != nil {
			return err
		}
	}
	if len(drives) == 0 {
		return nil
	}
	return r.openDrives(ctx, drives)
}

// recorded are the places of the drives that the present metadata knows.
func (r *rebuild) recorded(ctx context.Context) (places []string, err error) {
	if r.cfg.Engine.Bucket() {
		return nil, fsapi.Errorf(fsapi.Invalid, "a store in a bucket has no older metadata on its drives: name a backup with --from")
	}
	e, err := r.node().pebble(ctx)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.KindOf(err), "the present metadata does not say which drives there are: name them with --drive: %w", err)
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	m, err := meta.Open(ctx, e, meta.Options{})
	if err != nil {
		return nil, err
	}
	recs, err := m.Drives(ctx)
	for _, rec := range recs {
		places = append(places, rec.Where)
	}
	return places, err
}

// MetaSpan is a time as of any moment of which a drive or backup can restore the metadata.
type MetaSpan struct {
	Drive string    `json:"drive"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Bytes int64     `json:"bytes"`
}

// MetaHistory is what backups and drives, named as for MetaRestore, can restore.
func MetaHistory(ctx context.Context, cfg config.Config, req MetaRestoring) (spans []MetaSpan, err error) {
	r, err := newRebuild(cfg, req.Ask, func(api.FsckEvent) error { return nil })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.enter(ctx, func() error { return r.openSources(ctx, req) }); err != nil {
		return nil, err
	}
	for _, d := range append(slices.Clone(r.places), r.drives...) {
		list, err := checkpoint.History(ctx, d, r.keys.StoreKey())
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			spans = append(spans, MetaSpan{Drive: filepath.ToSlash(d.Info().Where), From: s.From.Time().UTC(), To: s.To.Time().UTC(), Bytes: s.Bytes})
		}
	}
	return spans, nil
}
