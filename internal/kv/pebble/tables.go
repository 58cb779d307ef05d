package pebble

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// TablesOptions of OpenTables.
type TablesOptions struct {
	// Files hold the directory. A caller that keeps tables elsewhere gives its
	// own, over Adapt.
	Files vfs.FS
	// Frozen: the tables that are there are not compacted.
	Frozen bool
	// ManifestBytes is the size at which Pebble begins a new manifest.
	ManifestBytes int64
}

// Adapt is a file system as Pebble wants it.
func Adapt(fs osfs.FS) vfs.FS { return adapter{fs} }

// Tables is a kv.Store without a log of its own, for an engine that keeps its log
// elsewhere: what Apply took is in memory until it is in a table. Sync does
// nothing. Of the batches applied the tables hold a prefix, at any time.
type Tables struct{ *store }

var _ kv.Store = (*Tables)(nil)

// OpenTables opens the directory o.Dir in t.Files, which is there; o.FS is not
// used. The position is that of the newest batch in the tables.
func OpenTables(o Options, t TablesOptions) (*Tables, kv.Position, error) {
	o.setDefaults()
	if err := checkMarker(t.Files, o.Dir); err != nil {
		return nil, kv.Position{}, err
	}
	s, err := newStore(o, t.Files)
	if err != nil {
		return nil, kv.Position{}, err
	}
	s.tune = t.tune
	if err := s.open(); err != nil {
		return nil, kv.Position{}, errors.Join(err, s.Close())
	}
	p, err := s.cur.Load().position()
	if err != nil {
		return nil, p, errors.Join(openError(o.Dir, err), s.Close())
	}
	return &Tables{s}, p, nil
}

// tune makes the database one without a log.
func (t TablesOptions) tune(po *pebble.Options) {
	po.DisableWAL = true
	po.DisableAutomaticCompactions = t.Frozen
	// They are read from every table at the start, which may be far away.
	po.DisableTableStats = true
	po.MaxManifestFileSize = t.ManifestBytes
}

// Sync implements kv.Store: there is no log.
func (t *Tables) Sync() error { return t.cur.Load().guard.failure() }

// Flush makes tables of what was applied before the call. A directory that takes no
// tables is tried again and again, until ctx ends.
func (t *Tables) Flush(ctx context.Context) error {
	d := t.cur.Load()
	if err := d.guard.failure(); err != nil {
		return err
	}
	done, err := d.db.AsyncFlush()
	if err != nil {
		return fsapi.Wrap(errKind(err), err, "kv: flush to "+d.dir)
	}
	select {
	case <-done:
		return d.guard.failure()
	case <-ctx.Done():
		return fsapi.Errorf(fsapi.KindOf(ctx.Err()), "kv: flush to %s: %w", d.dir, context.Cause(ctx))
	}
}

// Checkpoint makes dir, which is not there yet: a directory of the tables as they
// are, linked, and of the small files that describe them.
func (t *Tables) Checkpoint(dir string) error {
	d := t.cur.Load()
	if err := d.guard.failure(); err != nil {
		return err
	}
	if err := d.db.Checkpoint(dir); err != nil {
		return fsapi.Wrap(errKind(err), err, "kv: checkpoint "+d.dir)
	}
	return d.guard.failure()
}

// Applied is the newest batch whose Apply has returned.
func (t *Tables) Applied() kv.Seq { return kv.Seq(t.cur.Load().applied.Load()) }

// Sublevels of level 0: what a read may have to look through.
func (t *Tables) Sublevels() int { return int(t.cur.Load().db.Metrics().Levels[0].Sublevels) }
