package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/door/rest"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
)

// following is what a read-only server has in the place of copies of the metadata:
// it shows what the server that writes to the bucket makes durable there, and
// writes nothing but this machine's cache.
type following struct {
	n      *Node
	engine *bucket.Follower
	seen   kv.Seq // the newest batch that the caches know; of Run, once it runs

	mu  sync.Mutex
	err error // why they do not know the next; guarded by mu

	renewing sync.Mutex    // held by who reads the keyring again
	renewals atomic.Uint64 // how often that was begun; written with renewing held
}

var _ metaCopies = (*following)(nil)

// retryEvery is between attempts to take a batch in.
const retryEvery = time.Second

// followTimeout bounds how long the kernel trusts what it knows, for when it could
// not be told: where batches were missed, of inodes that are in no cache here.
const followTimeout = 10 * time.Second

// bucketFollower opens the metadata without taking it over.
func (n *Node) bucketFollower(ctx context.Context) (kv.Engine, error) {
	o, err := n.bucketOptions(ctx)
	if err != nil {
		return nil, err
	}
	e, err := bucket.Follow(ctx, o)
	if err != nil {
		return nil, err
	}
	n.follow = &following{n: n, engine: e, seen: e.LastSeq()}
	return e, nil
}

// Run implements metaCopies: it gives the caches each batch that has come.
func (f *following) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.take(ctx)
		f.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case err != nil && f.err == nil:
			f.n.log.Warn("what another server wrote cannot be taken in yet; trying again", "err", err)
		case err == nil && f.err != nil:
			f.n.log.Info("what another server wrote is taken in again")
		}
		f.err = err
		f.mu.Unlock()
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-f.n.clock.After(retryEvery):
		}
	}
	return nil
}

// take waits for batches and takes them in, until it fails or has to begin anew.
func (f *following) take(ctx context.Context) error {
	tail, err := f.engine.Tail(f.seen + 1)
	if errors.Is(err, fsapi.NotExist) {
		return f.jump(ctx)
	}
	if err != nil {
		return err
	}
	defer tail.Close()
	for {
		b, err := tail.Next(ctx)
		switch {
		case errors.Is(err, fsapi.NotExist):
			return f.jump(ctx)
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := f.batch(ctx, b); err != nil {
			return err
		}
		f.seen = b.Seq
		f.mu.Lock()
		f.err = nil
		f.mu.Unlock()
	}
}

// batch takes one batch in.
func (f *following) batch(ctx context.Context, b kv.Batch) error {
	touched, store, err := meta.TouchedBy(b)
	if err != nil {
		return err
	}
	f.n.meta.Refreshed()
	for _, t := range touched {
		if v := f.n.volumes.byID(t.Volume); v != nil {
			if err := v.local.Refresh(ctx, t); err != nil {
				return err
			}
		}
	}
	if !store {
		return nil
	}
	return f.reload(ctx)
}

// jump takes in that newer metadata took the place of batches.
func (f *following) jump(ctx context.Context) error {
	last := f.engine.LastSeq()
	f.n.meta.Refreshed()
	for _, v := range f.n.volumes.all() {
		if err := v.local.RefreshAll(ctx); err != nil {
			return err
		}
	}
	if err := f.reload(ctx); err != nil {
		return err
	}
	f.seen = last
	return nil
}

// reload takes in what belongs to no volume: tokens, drives, and which volumes there
// are.
func (f *following) reload(ctx context.Context) error {
	if err := f.n.tokens.reload(ctx); err != nil {
		return err
	}
	if err := f.n.drives.reload(ctx); err != nil {
		return err
	}
	return f.n.volumes.reload(ctx)
}

// Flush implements metaCopies: what is shown is in the bucket.
func (f *following) Flush(context.Context) error { return nil }

// Renew implements metaCopies.
func (f *following) Renew(context.Context) error { return nil }

// Anew implements metaCopies: nothing is written.
func (f *following) Anew(string) {}

// Close implements metaCopies: the engine is closed with the node.
func (f *following) Close() {}

// Status implements metaCopies.
func (f *following) Status() checkpoint.Status {
	return checkpoint.Status{Seq: f.engine.LastSeq(), Based: true}
}

// problem is why this server does not show the newest; nil: it does, as far as it
// knows.
func (f *following) problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.engine.Failure(), f.err)
}

// keysOf are the keys for blobs. A server that follows another finds those that
// came since it was started.
func (n *Node) keysOf() blob.Keys {
	if n.follow == nil {
		return n.keys
	}
	return followedKeys{n.keys, n.follow}
}

// followedKeys is a keyring that is read again where it does not have a key.
type followedKeys struct {
	blob.Keys
	f *following
}

// DataKey implements blob.Keys.
func (k followedKeys) DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error) {
	key, err := k.Keys.DataKey(vol, v)
	if errors.Is(err, fsapi.NotExist) && k.f.renewKeys() == nil {
		key, err = k.Keys.DataKey(vol, v)
	}
	return key, err
}

// IDKey implements blob.Keys.
func (k followedKeys) IDKey(vol fsapi.VolumeID) ([]byte, error) {
	key, err := k.Keys.IDKey(vol)
	if errors.Is(err, fsapi.NotExist) && k.f.renewKeys() == nil {
		key, err = k.Keys.IDKey(vol)
	}
	return key, err
}

// renewKeys reads the keyring in the bucket again, where a key is in it before it is
// used. Concurrent calls share a reading that began after all of them.
func (f *following) renewKeys() error {
	was := f.renewals.Load()
	f.renewing.Lock()
	defer f.renewing.Unlock()
	if f.renewals.Load() > was {
		return nil
	}
	f.renewals.Add(1)
	n := f.n
	data, err := n.state.keys.load()
	var generation uint64
	if err == nil {
		generation, err = keyring.Generation(data)
	}
	if err == nil && generation <= n.keys.Generation() {
		return nil
	}
	if err == nil {
		err = osfs.ReplaceFile(n.fs, n.at.keyring(), data, 0o600)
	}
	if err != nil {
		n.log.Error("the keyring in the bucket cannot be read again", "err", err)
		return err
	}
	next, err := n.unlock(n.state.keys.ctx)
	if err != nil {
		n.log.Error("the keyring in the bucket does not open any more: start this server again with what opens it", "err", err)
		return err
	}
	n.keys.Adopt(next)
	return nil
}

// reload reads the tokens again.
func (t *tokens) reload(ctx context.Context) error {
	next, err := loadTokens(ctx, t.meta)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = next.list
	return nil
}

// reload makes the table of drives what is recorded. A drive that does not open is
// tried again, as ever.
func (ds *drives) reload(ctx context.Context) error {
	recs, err := ds.n.meta.Drives(ctx)
	if err != nil {
		return err
	}
	ds.mu.Lock()
	var gone, changed []meta.DriveRecord
	for id, old := range ds.recs {
		i := slices.IndexFunc(recs, func(r meta.DriveRecord) bool { return r.ID == id })
		if i < 0 || old != recs[i] {
			gone = append(gone, old)
		}
	}
	for _, rec := range recs {
		if old, ok := ds.recs[rec.ID]; !ok || old != rec {
			changed = append(changed, rec)
		}
	}
	ds.mu.Unlock()
	for _, rec := range gone {
		if err := ds.drop(rec.ID); err != nil && !errors.Is(err, fsapi.NotExist) {
			return err
		}
	}
	for _, rec := range changed {
		if wantedState(rec) == drive.Retired {
			continue
		}
		if err := ds.tryStart(ctx, rec, healthPatience); err != nil {
			ds.n.log.Error("a drive cannot be opened", "drive", rec.Name, "where", rec.Where, "err", err)
		}
	}
	if len(gone)+len(changed) > 0 {
		ds.n.drivesChanged()
	}
	return nil
}

// reload makes the table of volumes what is recorded.
func (vs *volumes) reload(ctx context.Context) error {
	recs, err := vs.n.meta.Volumes(ctx)
	if err != nil {
		return err
	}
	now := map[string]*volume{}
	for _, rec := range recs {
		if rec.Deleting {
			continue
		}
		v := vs.byID(rec.ID)
		if v == nil {
			if _, _, err := vs.n.keys.Current(rec.ID); errors.Is(err, fsapi.NotExist) {
				if err := vs.n.follow.renewKeys(); err != nil {
					return err
				}
			}
			if v, err = vs.make(rec); err != nil {
				return err
			}
		}
		now[rec.Name] = v
	}
	was := vs.all()
	vs.mu.Lock()
	vs.open = now
	vs.mu.Unlock()
	var errs []error
	for _, v := range was {
		if vs.byID(v.id) == nil {
			errs = append(errs, v.local.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// readOnlyCalls are the administrative calls, besides those that only read, that a
// server which follows another answers.
var readOnlyCalls = []string{"/v1/admin/mount", "/v1/admin/umount", "/v1/admin/flush"}

// refuseChanges keeps from a server that follows another what would change the store.
func (n *Node) refuseChanges(list []rest.Endpoint) []rest.Endpoint {
	if n.follow == nil {
		return list
	}
	for i, e := range list {
		if e.Method != http.MethodGet && !slices.Contains(readOnlyCalls, e.Path) {
			list[i] = e.Refused(fsapi.Errorf(fsapi.ReadOnly, "this server follows %s read-only: ask the one that writes", n.cfg.Engine.URL))
		}
	}
	return list
}

// followState is what status tells of following; nil: this server does not.
func (n *Node) followState() *api.Following {
	if n.follow == nil {
		return nil
	}
	f := &api.Following{URL: n.cfg.Engine.URL, Seq: uint64(n.follow.engine.LastSeq())}
	if err := n.follow.problem(); err != nil {
		f.Error = err.Error()
	}
	return f
}

// followed are the options of a volume that another server writes.
func (n *Node) followed(o *vfs.Options) {
	if n.follow != nil {
		o.ReadOnly, o.CatchUp = true, n.follow.engine.CatchUp
	}
}
