package daemon

import (
	"context"
	"errors"
	"os"
	"time"

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

// bucketTarget is a prefix of a bucket that holds no store. The keyring comes
// last: without it there is none.
type bucketTarget struct {
	r    *rebuild
	keys *bucketKeyring
}

// open implements target.
func (t *bucketTarget) open(ctx context.Context) (kv.Engine, error) {
	r, at := t.r, t.r.cfg.Engine.URL
	store, err := openPart(ctx, at, bucketKeys)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, store.Close)
	t.keys = &bucketKeyring{FS: r.fs, ctx: context.WithoutCancel(ctx), store: store, path: r.at.keyring(), conditional: !r.cfg.Engine.Lease}
	if _, err := t.keys.load(); !errors.Is(err, fsapi.NotExist) {
		if err == nil {
			err = fsapi.Errorf(fsapi.Exist, "%s holds a store already: give an empty prefix", at)
		}
		return nil, err
	}
	n := r.node()
	n.keys, n.state = r.keys, &bucketState{n: n, keys: t.keys}
	e, err := n.openBucketEngine(ctx)
	r.closers = append(r.closers, n.closeLayers)
	if err != nil {
		return nil, err
	}
	err = e.View(ctx, func(kr kv.Reader) error {
		return kr.Scan([]byte{0}, nil, func(k, _ []byte) (bool, error) {
			return false, fsapi.Errorf(fsapi.Exist, "%s holds metadata, but no keyring: what a restore that was interrupted left. Give an empty prefix", at)
		})
	})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// commit implements target.
func (t *bucketTarget) commit(context.Context) (string, error) {
	return "", t.keys.save(t.r.keys.Bytes())
}

// drop implements target: nothing is removed from a bucket.
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
