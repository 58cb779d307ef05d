package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/bucket"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/url"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/telemetry"
)

// Rebuilding is what Rebuild is asked for.
type Rebuilding struct {
	From []string // directories and URLs of drives; none: those inside the data directory and in the configuration
	Deep bool     // read every stored byte, and name what is damaged
	// Ask asks a person for the password where one is needed and none is given; nil:
	// nobody is there.
	Ask func() ([]byte, error)
}

// Rebuild makes the metadata anew from drives alone: the newest checkpoint with
// the batches after it, then what segments written later say of themselves,
// which goes to lost+found. It ends with a check, mending counters.
func Rebuild(ctx context.Context, cfg config.Config, req Rebuilding, emit func(api.FsckEvent) error) error {
	r, err := newRebuild(cfg, req.Ask, emit)
	if err != nil {
		return err
	}
	if err := errors.Join(r.restore(ctx, req.From), r.close()); err != nil {
		return err
	}
	return r.finish(ctx, req.Deep, true)
}

// rebuild is one run of Rebuild, MetaRestore or MetaLoad.
type rebuild struct {
	cfg     config.Config
	at      layout
	fs      osfs.FS
	log     *slog.Logger
	emit    func(api.FsckEvent) error
	asked   keyring.KEK // the password that a person is asked for; nil: nobody
	drives  []drive.Drive
	places  []drive.Drive // of backups
	keys    *keyring.Keyring
	part    partOpener // of the target, where that is a bucket
	closers []func() error
}

func newRebuild(cfg config.Config, ask func() ([]byte, error), emit func(api.FsckEvent) error) (*rebuild, error) {
	log, err := telemetry.NewLogger(os.Stderr, "error", cfg.Log.Format)
	if err != nil {
		return nil, err
	}
	r := &rebuild{cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: log, emit: emit, part: openPart}
	if ask != nil {
		r.asked = keyring.Asked(ask)
	}
	return r, nil
}

// node is a Node of which some parts can be used before there is a store.
func (r *rebuild) node() *Node {
	return &Node{cfg: r.cfg, at: r.at, fs: r.fs, keyFS: r.fs, log: r.log, clock: clock.Real, asked: r.asked, part: r.part}
}

// finish opens the store that was made, has it take up what only the drives know,
// and checks it.
func (r *rebuild) finish(ctx context.Context, deep, adopt bool) error {
	n, err := openNodeAsking(ctx, r.cfg, r.log, openExisting, r.asked)
	if err != nil {
		return err
	}
	if adopt {
		err = r.adopt(ctx, n)
	}
	return errors.Join(err, n.fsck(ctx, api.Fsck{Repair: true, Deep: deep}, r.emit), n.Close(ctx))
}

func (r *rebuild) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// restore fills an empty engine from the drives.
func (r *rebuild) restore(ctx context.Context, from []string) error {
	if err := r.enter(ctx, func() error { return r.openDrives(ctx, from) }); err != nil {
		return err
	}
	if err := r.refuseMeta(); err != nil {
		return err
	}
	t := r.target(false)
	res, err := r.fill(ctx, t, r.drives, func(ctx context.Context, from []drive.Drive, apply func(kv.Batch) error) (checkpoint.Restored, error) {
		return checkpoint.Restore(ctx, from, r.keys.StoreKey(), apply)
	})
	if err == nil && res.Seq > 0 {
		as := res.Stamp.Time().UTC()
		err = r.emit(api.FsckEvent{AsOf: &as})
	}
	if err != nil {
		return err
	}
	_, err = t.commit(ctx)
	return err
}

// enter locks the data directory, opens what there is to read from, and then the
// keyring, which may be there only.
func (r *rebuild) enter(ctx context.Context, open func() error) error {
	lock, err := r.at.take(r.fs)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, lock.Close)
	if err := open(); err != nil {
		return err
	}
	return r.unlock(ctx)
}

func (r *rebuild) openDrives(ctx context.Context, from []string) error {
	if len(from) == 0 {
		inside := filepath.Dir(r.at.mainDrive())
		names, err := r.fs.ReadDir(inside)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fsapi.Wrap(fsapi.IO, err, "look into "+inside)
		}
		for _, name := range names {
			from = append(from, filepath.Join(inside, name))
		}
		for _, d := range r.cfg.Drives {
			from = append(from, d.Path)
		}
	}
	if len(from) == 0 {
		return fsapi.Errorf(fsapi.NotExist, "neither the data directory nor the configuration has drives: name their directories and buckets with --drive")
	}
	for _, path := range from {
		d, err := r.openPlace(ctx, path)
		if err != nil {
			return fsapi.Errorf(fsapi.KindOf(err), "open drive %s: %w", path, err)
		}
		r.drives = append(r.drives, d)
		r.closers = append(r.closers, d.Close)
	}
	return nil
}

// openPlace opens the drive in a directory or bucket, whichever it is.
func (r *rebuild) openPlace(ctx context.Context, where string) (drive.Drive, error) {
	if !isURL(where) {
		return dir.Open(dir.Options{FS: r.fs, Path: where, Name: where})
	}
	store, err := url.All().Open(ctx, where, url.Secrets{}, provider.Options{})
	if err != nil {
		return nil, err
	}
	id, err := bucket.ReadIdentity(ctx, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	d, err := bucket.Open(ctx, bucket.Options{Store: store, Expect: id.ID, Name: where, Clock: clock.Real})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &placed{Drive: d, where: where}, nil
}

// placed is a drive that says where it is as the user did, and as its record
// will.
type placed struct {
	drive.Drive
	where string
}

// Info implements drive.Drive.
func (p *placed) Info() drive.Info {
	i := p.Drive.Info()
	i.Where = p.where
	return i
}

// isURL reports whether a place is a bucket's URL and not a path.
func isURL(where string) bool { return strings.Contains(where, "://") }

// unlock opens the keyring of the data directory, or puts the copy of a drive or
// backup there first. What is only a bucket's cache may have another store's.
func (r *rebuild) unlock(ctx context.Context) (err error) {
	made, err := r.at.exists(r.fs)
	if err != nil {
		return err
	}
	if !made || r.cfg.Engine.Bucket() {
		if err := r.takeKeyring(ctx); err != nil {
			return err
		}
	}
	return r.openKeyring(ctx)
}

func (r *rebuild) openKeyring(ctx context.Context) (err error) {
	if r.keys, err = r.node().unlock(ctx); err == nil {
		r.closers = append(r.closers, r.keys.Close)
	}
	return err
}

// takeKeyring copies the newest keyring that a drive or backup has.
func (r *rebuild) takeKeyring(ctx context.Context) error {
	copies, err := checkpoint.Keyrings(ctx, append(slices.Clone(r.drives), r.places...))
	var best []byte
	var newest uint64
	for _, b := range copies {
		if g, err := keyring.Generation(b); err == nil && (best == nil || g > newest) {
			best, newest = b, g
		}
	}
	if best == nil {
		return fsapi.Errorf(fsapi.NotExist, "neither %s nor any drive or backup has a keyring: name more of them with --drive or --from (%v)", r.at.dir, err)
	}
	return r.putKeyring(best)
}

// fill puts what a restore from drives yields into a target. restore reads them as
// they are given to it.
func (r *rebuild) fill(ctx context.Context, t target, from []drive.Drive, restore func(ctx context.Context, from []drive.Drive, apply func(kv.Batch) error) (checkpoint.Restored, error)) (res checkpoint.Restored, err error) {
	report := func(bytes int64) error {
		return r.emit(api.FsckEvent{Phase: "restore metadata", Done: bytes, Unit: api.UnitBytes})
	}
	err = r.brought(ctx, t, func(e kv.Engine) error {
		err := reporting(ctx, report, func(ctx context.Context, bytes *atomic.Int64) (err error) {
			res, err = restore(ctx, meter(from, bytes), func(b kv.Batch) error {
				_, err := e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error { return replay(tx, b.Ops) })
				return err
			})
			return err
		})
		for _, p := range res.Problems {
			err = errors.Join(err, r.emit(api.FsckEvent{Problem: fmt.Sprint(p)}))
		}
		if err != nil || res.Seq == 0 {
			return err
		}
		return disown(ctx, e)
	})
	return res, err
}

// replay does a batch's operations again.
func replay(tx kv.Tx, ops []kv.Op) error {
	for _, op := range ops {
		switch op.Kind {
		case kv.OpPut:
			tx.Put(op.Key, op.Value)
		case kv.OpDelete:
			tx.Delete(op.Key)
		case kv.OpAdd:
			tx.Add(op.Key, op.Delta)
		default:
			return fsapi.Errorf(fsapi.Corrupt, "a batch holds an operation of kind %d", op.Kind)
		}
	}
	return nil
}

// moveDrives records where drives are now, by their identity.
func (r *rebuild) moveDrives(ctx context.Context, n *Node) error {
	for _, d := range r.drives {
		info := d.Info()
		n.drives.mu.Lock()
		rec, ok := n.drives.recs[info.ID]
		n.drives.mu.Unlock()
		if ok && rec.Where == info.Where {
			continue
		}
		if !ok {
			rec = meta.DriveRecord{ID: info.ID, Name: "rebuilt-" + info.ID.String(), Kind: dirKind, Tier: "hot", Domain: info.ID.String(), State: drive.Online.String()}
		}
		if rec.Where = info.Where; isURL(rec.Where) {
			rec.Kind = bucketKind
		}
		if err := n.drives.start(ctx, rec); err != nil {
			return err
		}
		if err := n.meta.PutDrive(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}
