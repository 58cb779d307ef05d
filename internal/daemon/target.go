package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
)

// target is where metadata that is brought from elsewhere goes: first aside, so
// that a part of it is never taken for a store.
type target interface {
	// open is an engine that holds nothing, to be closed before commit.
	open(ctx context.Context) (kv.Engine, error)
	// commit makes what was put into it the store's metadata, and says where what
	// there was before is kept: "" where there was nothing.
	commit(ctx context.Context) (kept string, err error)
	// drop takes back what open did, as far as that loses nothing.
	drop() error
}

// target is that of the configured engine; a dry run's is never a bucket. The
// keyring must be open.
func (r *rebuild) target(dryRun bool) target {
	if r.cfg.Engine.Bucket() && !dryRun {
		return &bucketTarget{r: r}
	}
	return dirTarget{r}
}

// dirTarget is the directory of the embedded engine.
type dirTarget struct{ r *rebuild }

func (t dirTarget) aside() string { return t.r.at.meta() + ".new" }

// open implements target.
func (t dirTarget) open(context.Context) (kv.Engine, error) {
	if err := t.r.fs.RemoveAll(t.aside()); err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "remove what a former restore left in "+t.aside())
	}
	return pebble.Open(pebble.Options{FS: t.r.fs, Dir: t.aside(), CacheBytes: int64(t.r.cfg.Cache.Metadata), Log: t.r.log})
}

// commit implements target. A crash between leaves either the old or the new, or,
// between two renames, none under its name: a start refuses that and says where
// to look.
func (t dirTarget) commit(context.Context) (kept string, err error) {
	fs, at := t.r.fs, t.r.at
	moves := [][2]string{{t.aside(), at.meta()}}
	names, err := fs.ReadDir(at.meta())
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", fsapi.Wrap(fsapi.IO, err, "look into "+at.meta())
	case len(names) > 0:
		kept = at.meta() + ".before-" + clockName(time.Now())
		moves = [][2]string{{at.meta(), kept}, moves[0]}
	case err == nil:
		if err := fs.Remove(at.meta()); err != nil {
			return "", fsapi.Wrap(fsapi.IO, err, "remove the empty "+at.meta())
		}
	}
	for _, move := range moves {
		if err := fs.Rename(move[0], move[1]); err != nil {
			return "", fsapi.Wrap(fsapi.IO, err, "put the restored metadata in place")
		}
	}
	return kept, fs.SyncDir(at.dir)
}

// drop implements target.
func (t dirTarget) drop() error { return t.r.fs.RemoveAll(t.aside()) }

// bucketTarget is a prefix of a bucket that holds no store, but perhaps what a load
// brought that was interrupted. The keyring comes last: without it there is none.
type bucketTarget struct {
	r    *rebuild
	keys *bucketKeyring
	mark *loadMark
}

// open implements target.
func (t *bucketTarget) open(ctx context.Context) (kv.Engine, error) {
	r := t.r
	store, err := r.part(ctx, r.cfg.Engine.URL, bucketKeys)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, store.Close)
	t.keys = &bucketKeyring{FS: r.fs, ctx: context.WithoutCancel(ctx), store: store, path: r.at.keyring(), conditional: !r.cfg.Engine.Lease}
	t.mark = &loadMark{store: store, conditional: !r.cfg.Engine.Lease}
	fresh, err := t.begin(ctx)
	if err != nil {
		return nil, err
	}
	n := r.node()
	n.keys, n.state = r.keys, &bucketState{n: n, keys: t.keys}
	e, err := n.openBucketEngine(ctx)
	r.closers = append(r.closers, n.closeLayers)
	if err != nil {
		if !fresh && errors.Is(err, fsapi.Corrupt) {
			err = fsapi.Errorf(fsapi.Corrupt, "what a load of another store left there cannot be removed with this one's keys: remove what lies below %s, or give another prefix: %w", r.cfg.Engine.URL, err)
		}
		return nil, err
	}
	if !fresh {
		if err := r.empty(ctx, e); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// begin marks the bucket, in which there must be nothing but what a load brought
// that was interrupted; fresh: there is nothing.
func (t *bucketTarget) begin(ctx context.Context) (fresh bool, err error) {
	if err := t.refuseStore(); err != nil {
		return false, err
	}
	before, err := t.mark.read(ctx)
	if errors.Is(err, fsapi.NotExist) {
		err = t.refuseUnknown(ctx)
	}
	if err != nil {
		return false, err
	}
	if fresh, err = t.mark.begin(ctx, hostname(), time.Now()); err != nil {
		return false, err
	}
	if err := t.refuseStore(); err != nil { // another load came to its end just now
		if !fresh && !before.Whole { // its metadata may have been removed before: a marker must go on to say so
			return false, err
		}
		return false, errors.Join(err, t.mark.end(ctx))
	}
	return fresh, nil
}

func (t *bucketTarget) refuseStore() error {
	_, err := t.keys.load()
	switch {
	case errors.Is(err, fsapi.NotExist):
		return nil
	case err != nil:
		return err
	}
	return fsapi.Errorf(fsapi.Exist, "%s holds a store already: give an empty prefix", t.r.cfg.Engine.URL)
}

// refuseUnknown refuses metadata that no load is known to have brought: whose it is
// without a keyring cannot be told.
func (t *bucketTarget) refuseUnknown(ctx context.Context) (err error) {
	store, err := t.r.part(ctx, t.r.cfg.Engine.URL, bucketMeta)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	found, err := anyObject(ctx, store)
	if err == nil && found {
		err = fsapi.Errorf(fsapi.Exist, "%s holds metadata, but no keyring, and no load is known to have left it. Give an empty prefix", t.r.cfg.Engine.URL)
	}
	return err
}

// emptyKeys is how many keys are removed in a transaction.
const emptyKeys = 10_000

// empty removes all that an engine holds.
func (r *rebuild) empty(ctx context.Context, e kv.Engine) error {
	for n := int64(0); ; {
		left := 0
		_, err := e.Update(ctx, kv.UpdateOptions{}, func(tx kv.Tx) error {
			var keys [][]byte
			err := tx.PeekScan([]byte{0}, nil, func(k, _ []byte) (bool, error) {
				keys = append(keys, slices.Clone(k))
				return len(keys) < emptyKeys, nil
			})
			for _, k := range keys {
				tx.Delete(k)
			}
			left = len(keys)
			return err
		})
		if err != nil || left == 0 {
			return err
		}
		n += int64(left)
		if err := r.emit(api.FsckEvent{Phase: "remove what an interrupted load left", Done: n}); err != nil {
			return err
		}
	}
}

// commit implements target.
func (t *bucketTarget) commit(ctx context.Context) (string, error) {
	if err := t.mark.whole(ctx); err != nil {
		return "", err
	}
	if err := t.keys.save(t.r.keys.Bytes()); err != nil {
		return "", err
	}
	return "", t.mark.end(ctx)
}

// drop implements target: what is in the bucket stays, marked, until the next open.
func (t *bucketTarget) drop() error { return nil }

// brought is what fill does: an empty engine is opened, filled and closed.
func (r *rebuild) brought(ctx context.Context, t target, fill func(e kv.Engine) error) error {
	e, err := t.open(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(e), e.Close()); err != nil {
		return errors.Join(err, t.drop())
	}
	return nil
}

// refuseMeta keeps metadata that is there from being replaced.
func (r *rebuild) refuseMeta() error {
	names, err := r.fs.ReadDir(r.at.meta())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fsapi.Wrap(fsapi.IO, err, "look into "+r.at.meta())
	}
	if len(names) > 0 {
		return fsapi.Errorf(fsapi.Exist, "%s is not empty: move it away first, so that nothing is lost if it turns out to be good", r.at.meta())
	}
	return nil
}

// putKeyring makes a wrapped keyring the data directory's own, which has none, or
// is only a cache.
func (r *rebuild) putKeyring(data []byte) error {
	return fsapi.Wrap(fsapi.IO, osfs.ReplaceFile(r.fs, r.at.keyring(), data, 0o600), "write "+r.at.keyring())
}
