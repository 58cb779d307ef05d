package daemon

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	objecturl "github.com/strakefs/strake/internal/object/url"
	"github.com/strakefs/strake/internal/osfs"
)

// Parts of a bucket that holds everything, below the URL.
const (
	bucketKeys = "keys"  // the keyring
	bucketMeta = "meta"  // the metadata engine's
	bucketData = "drive" // the first drive
)

// bucketState is a store whose whole state is in a bucket.
type bucketState struct {
	n      *Node
	keys   *bucketKeyring
	engine *bucket.Engine // nil: not open yet, or followed
	left   *loadMark      // of a load that has come to its end; nil: there is none
}

var _ metaCopies = (*bucketState)(nil)

// below is the URL of a part of a bucket.
func below(raw, part string) (string, error) {
	if err := objecturl.All().Check(raw); err != nil {
		return "", fsapi.Errorf(fsapi.KindOf(err), "engine.url: %w", err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", fsapi.Errorf(fsapi.Invalid, "engine.url is malformed")
	}
	u.Path = path.Join("/", u.Path, part)
	return u.String(), nil
}

// partOpener opens a part of the bucket at a URL.
type partOpener func(ctx context.Context, raw, part string) (object.Store, error)

func openPart(ctx context.Context, raw, part string) (object.Store, error) {
	where, err := below(raw, part)
	if err != nil {
		return nil, err
	}
	return objecturl.All().Open(ctx, where, objecturl.Secrets{}, provider.Options{})
}

// firstDrive is where the first drive goes.
func (n *Node) firstDrive() string {
	if n.state == nil {
		return n.at.mainDrive()
	}
	where, err := below(n.cfg.Engine.URL, bucketData)
	if err != nil {
		panic(err) // other parts of it are open
	}
	return where
}

// openBucketDir makes the data directory a cache of the bucket: its lock, and the
// keyring that the bucket has. On a bucket that has none it is made by openKeys.
func (n *Node) openBucketDir(ctx context.Context, mode openMode) (err error) {
	if err := n.refuseOwnStore(); err != nil {
		return err
	}
	if n.lock, err = n.at.take(n.fs); err != nil {
		return err
	}
	n.onClose(n.lock.Close)
	store, err := n.part(ctx, n.cfg.Engine.URL, bucketKeys)
	if err != nil {
		return err
	}
	n.onClose(store.Close)
	keys := &bucketKeyring{FS: n.fs, ctx: context.WithoutCancel(ctx), store: store, path: n.at.keyring(), conditional: !n.cfg.Engine.Lease}
	n.state = &bucketState{n: n, keys: keys}
	n.keyFS = keys
	data, err := keys.load()
	if err == nil || errors.Is(err, fsapi.NotExist) {
		var merr error
		if n.state.left, merr = refusePart(ctx, store, n.cfg.Engine.URL, err == nil); merr != nil {
			return merr
		}
	}
	switch {
	case errors.Is(err, fsapi.NotExist) && mode != openOrCreate:
		return fsapi.Errorf(fsapi.NotExist, "%s holds no Strake store: make one with strake serve --bucket", n.cfg.Engine.URL)
	case errors.Is(err, fsapi.NotExist):
		return n.dropCache()
	case err != nil:
		return err
	}
	if err := n.wantPassword(data); err != nil {
		return err
	}
	return fsapi.Wrap(fsapi.IO, osfs.ReplaceFile(n.fs, n.at.keyring(), data, 0o600), "write "+n.at.keyring())
}

// refuseOwnStore keeps a directory that holds a store from becoming a cache.
func (n *Node) refuseOwnStore() error {
	if _, err := n.fs.Stat(n.at.meta()); err == nil {
		return fsapi.Errorf(fsapi.Exist, "%s holds a store of its own: give another directory with --data, which is only a cache of the bucket", n.at.dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fsapi.Wrap(fsapi.IO, err, "look into data directory "+n.at.dir)
	}
	return nil
}

// refuseCache keeps a cache of a bucket from being taken for a store.
func (n *Node) refuseCache() error {
	if _, err := n.fs.Stat(n.at.bucket()); err == nil {
		return fsapi.Errorf(fsapi.Exist, "%s is a cache of a bucket, which holds the store: name the bucket with --bucket", n.at.dir)
	}
	return nil
}

// dropCache forgets a keyring of another bucket than this one, which has none.
func (n *Node) dropCache() error {
	err := n.fs.Remove(n.at.keyring())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fsapi.Wrap(fsapi.IO, err, "remove "+n.at.keyring())
	}
	return nil
}

// wantPassword says what is missing on a machine that has nothing yet to open the
// bucket's keyring with.
func (n *Node) wantPassword(data []byte) error {
	given, err := n.givenPassword()
	if err != nil || given != nil || n.asked != nil || n.cfg.Keys.File != "" || len(n.cfg.KMS) > 0 {
		return err
	}
	if _, err := n.fs.Stat(n.at.password()); err == nil {
		return nil
	}
	wraps, err := keyring.Wrappings(data)
	if err != nil {
		return err
	}
	var names []string
	for _, w := range wraps {
		names = append(names, w.Name)
	}
	return fsapi.Errorf(fsapi.Unauthorized, "%s holds a store that opens with: %s. Give the password with --password-file or in the environment variable %s",
		n.cfg.Engine.URL, strings.Join(names, ", "), n.cfg.Data.PasswordEnv)
}

// bucketEngine opens the metadata, taking it over from whoever has it.
func (n *Node) bucketEngine(ctx context.Context) (kv.Engine, error) {
	e, err := n.openBucketEngine(ctx)
	if err != nil {
		return nil, err
	}
	n.state.engine = e
	// From here on a machine that had it before cannot change the keyring either.
	if err := n.state.keys.fence(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if n.state.left != nil {
		if err := n.state.left.end(ctx); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

func (n *Node) openBucketEngine(ctx context.Context) (*bucket.Engine, error) {
	o, err := n.bucketOptions(ctx)
	if err != nil {
		return nil, err
	}
	return bucket.Open(ctx, o)
}

// bucketOptions opens the part of the bucket that holds the metadata, for an engine.
func (n *Node) bucketOptions(ctx context.Context) (bucket.Options, error) {
	store, err := n.part(ctx, n.cfg.Engine.URL, bucketMeta)
	if err != nil {
		return bucket.Options{}, err
	}
	n.onClose(store.Close)
	o := bucket.Options{
		Objects: store, Key: n.keys.StoreKey(), FS: n.fs, Dir: n.at.bucket(), Holder: hostname(),
		DiskBytes: int64(n.cfg.Engine.Cache), CacheBytes: int64(n.cfg.Cache.Metadata), Clock: n.clock, Log: n.log,
	}
	if n.cfg.Engine.Lease {
		o.Lease = &bucket.Lease{Term: n.cfg.Engine.Term}
	}
	return o, nil
}

// Run implements metaCopies: the engine itself does what there is to do.
func (s *bucketState) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Flush implements metaCopies.
func (s *bucketState) Flush(ctx context.Context) error { return s.engine.Sync(ctx) }

// Renew implements metaCopies: no start reads older metadata any more.
func (s *bucketState) Renew(ctx context.Context) error { return s.engine.Checkpoint(ctx) }

// Anew has nothing to do: the bucket has one history.
func (s *bucketState) Anew(string) {}

// Close has nothing to end: the engine is closed with the node.
func (s *bucketState) Close() {}

// Status implements metaCopies.
func (s *bucketState) Status() checkpoint.Status {
	st := s.engine.Status()
	return checkpoint.Status{Seq: s.engine.DurableSeq(), Based: true, Err: st.Err}
}
