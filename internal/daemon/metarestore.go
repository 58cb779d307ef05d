package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/telemetry"
)

// MetaRestoring is what MetaRestore is asked for.
type MetaRestoring struct {
	At     time.Time
	Drives []string // paths and URLs; none: those that are recorded
	DryRun bool
}

// MetaRestored says what MetaRestore did, or would do.
type MetaRestored struct {
	As   time.Time `json:"as_of"`          // of the last change that was restored
	Kept string    `json:"kept,omitempty"` // where the metadata is that was there before
}

// MetaRestore puts the metadata as of a moment, out of what drives keep, in the
// place of the present, which is kept aside; then it checks every record and
// whether its segments are there. Content that was deleted since and whose
// segments are gone (gc.delay) does not come back: the check names them.
func MetaRestore(ctx context.Context, cfg config.Config, req MetaRestoring, emit func(api.FsckEvent) error) (out MetaRestored, err error) {
	log, err := telemetry.NewLogger(os.Stderr, "error", cfg.Log.Format)
	if err != nil {
		return out, err
	}
	r := &rebuild{cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: log, emit: emit}
	out, err = r.restoreAt(ctx, req)
	if err := errors.Join(err, r.close()); err != nil || req.DryRun {
		return out, err
	}
	n, err := openNode(ctx, cfg, log, openExisting)
	if err != nil {
		return out, err
	}
	return out, errors.Join(n.fsck(ctx, api.Fsck{Repair: true}, emit), n.Close(ctx))
}

// restoreAt restores into a new directory, and has it take the place of the
// present one. A crash between leaves either of them, or, between two renames,
// none under its name: a start refuses that and says where to look.
func (r *rebuild) restoreAt(ctx context.Context, req MetaRestoring) (out MetaRestored, err error) {
	fresh := r.at.meta() + ".new"
	key, err := r.enter(ctx, req.Drives)
	if err != nil {
		return out, err
	}
	if err := r.fs.RemoveAll(fresh); err != nil {
		return out, fsapi.Wrap(fsapi.IO, err, "remove what a former restore left in "+fresh)
	}
	res, err := r.fill(ctx, fresh, func(apply func(kv.Batch) error) (checkpoint.Restored, error) {
		return checkpoint.RestoreAt(ctx, r.drives, key, req.At, apply)
	})
	if err == nil && res.Seq == 0 {
		err = fsapi.Errorf(fsapi.NotExist, "at %v nothing was in the store yet", req.At.UTC().Format(time.RFC3339))
	}
	out.As = res.Stamp.Time().UTC()
	if err != nil || req.DryRun {
		return out, errors.Join(err, r.fs.RemoveAll(fresh))
	}
	out.Kept = r.at.meta() + ".before-" + clockName(time.Now())
	for _, move := range [][2]string{{r.at.meta(), out.Kept}, {fresh, r.at.meta()}} {
		if err := r.fs.Rename(move[0], move[1]); err != nil {
			return out, fsapi.Wrap(fsapi.IO, err, "put the restored metadata in place")
		}
	}
	return out, r.fs.SyncDir(r.at.dir)
}

func clockName(t time.Time) string { return t.UTC().Format("20060102T150405.000Z") }

// enter locks the data directory, opens its keyring and the drives, and is the
// store key.
func (r *rebuild) enter(ctx context.Context, drives []string) ([]byte, error) {
	lock, err := r.at.take(r.fs)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, lock.Close)
	if len(drives) == 0 {
		if drives, err = r.recorded(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.openDrives(ctx, drives); err != nil {
		return nil, err
	}
	keys, err := r.unlock(ctx)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, keys.Close)
	return keys.StoreKey(), nil
}

// recorded are the places of the drives that the present metadata knows.
func (r *rebuild) recorded(ctx context.Context) (places []string, err error) {
	n := &Node{cfg: r.cfg, at: r.at, fs: r.fs, log: r.log}
	e, err := n.pebble(ctx)
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

// MetaSpan is a time as of any moment of which a drive can restore the metadata.
type MetaSpan struct {
	Drive string    `json:"drive"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Bytes int64     `json:"bytes"`
}

// MetaHistory is what drives, named as for MetaRestore, can restore.
func MetaHistory(ctx context.Context, cfg config.Config, drives []string) (spans []MetaSpan, err error) {
	r := &rebuild{cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: slog.New(slog.DiscardHandler)}
	defer func() { err = errors.Join(err, r.close()) }()
	key, err := r.enter(ctx, drives)
	if err != nil {
		return nil, err
	}
	for _, d := range r.drives {
		list, err := checkpoint.History(ctx, d, key)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			spans = append(spans, MetaSpan{Drive: filepath.ToSlash(d.Info().Where), From: s.From.Time().UTC(), To: s.To.Time().UTC(), Bytes: s.Bytes})
		}
	}
	return spans, nil
}
