// Package bucket is a drive in an object store: a bucket, or what is below a
// prefix of one.
//
// It owns: the drive's identity object, how conditions of the store make a
// commit exclusive, and the count of bytes. It must not know providers, nor what
// is in the blobs.
//
// Layout: a blob is the object of its name. Names of blobs have no part that
// starts with a dot; .strake/drive holds the identity, .strake/owner the store it
// belongs to and .strake/usage the count of bytes, while the drive is closed.
//
// A bucket has no locks: two processes of one store may have it open, those of two
// stores or of two copies of one may not: one that is taken over is noticed before
// the next deletion, and soon by commits. Where the object store keeps conditions
// (object.Probe) no commit of one replaces a blob of the other; where it does not,
// commits of one process exclude each other only. A commit that ended without an
// answer may take place yet.
//
// Locks: Drive.mu guards commits in progress, usage.mu the count; the latter is
// held while the bucket is listed, which happens once after a crash, and now and
// then where another machine writes. They are not held together. No goroutine is
// started but by DeleteMany, which waits.
package bucket

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// Unbounded is what is said to be available on a drive without a quota, in bytes,
// however much is on it: 1 PiB, which is more than anybody wants to write at once,
// and a number that programs which ask for free space can bear.
const Unbounded = 1 << 50

// Options say which store, and how.
type Options struct {
	Store object.Store // owned by the Drive, once Open has succeeded
	// Expect is the id the bucket must have; zero: any.
	Expect fsapi.DriveID
	// Role is what it must be for; "": a drive.
	Role identity.Role
	// Owner is the store that it must belong to, and belongs to from now on if it
	// belongs to none; nil: any. TakeOver: whichever it belongs to.
	Owner    *identity.Owner
	TakeOver bool
	// Claiming is asked before Owner is written there; nil: nobody is.
	Claiming identity.Claiming
	// ReadOnly opens a place that another machine writes to: it must belong to
	// Owner already, nothing in it is changed, and what would fails with
	// fsapi.ReadOnly.
	ReadOnly bool
	// Name, Tier and Domain go into Info.
	Name, Tier, Domain string
	// Quota is bytes of blobs; 0: none, see Unbounded. Replace may exceed it.
	Quota int64
	// Has is what the store can do; nil: Open probes it.
	Has *object.Capabilities
	// Clock says how old what is known of the owner is; nil: the machine's.
	Clock clock.Clock
}

// Drive is an object store that is open as a drive. Safe for concurrent use.
type Drive struct {
	opts  Options
	store object.Store
	info  drive.Info
	has   object.Capabilities
	usage usage
	// claimed is nil where it does not matter whose the bucket is.
	claimed *identity.Claim
	// buffers are of streams: *[]byte.
	buffers sync.Pool

	mu      sync.Mutex
	commits map[string]chan struct{} // running, by blob; closed at the end; guarded by mu
	closed  bool                     // guarded by mu
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
	_ drive.Claimed      = (*Drive)(nil)
	_ drive.Streamer     = (*Drive)(nil)
)

// Open opens the drive in a store that Init made one. fsapi.NotExist: there is
// none; fsapi.Stale: it is another one than expected; fsapi.Busy: it belongs to
// another store; fsapi.Invalid: it has another role; fsapi.Corrupt: its identity
// is damaged.
func Open(ctx context.Context, o Options) (*Drive, error) {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	where := o.Store.Info().URL
	id, err := ReadIdentity(ctx, o.Store)
	if err != nil {
		return nil, err
	}
	if o.Expect != 0 && o.Expect != id.ID {
		return nil, fsapi.Errorf(fsapi.Stale, "%s holds drive %s, not %s: it is another bucket or prefix", where, id.ID, o.Expect)
	}
	if err := id.Is(o.Role, where); err != nil {
		return nil, err
	}
	mark, err := admit(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.ReadOnly {
		o.Has = &object.Capabilities{} // nothing that is written depends on them
	}
	if o.Has == nil {
		has, err := object.Probe(ctx, o.Store)
		if err != nil {
			return nil, fsapi.Errorf(fsapi.KindOf(err), "open drive %s: %w", id.ID, err)
		}
		o.Has = &has
	}
	if mark != nil {
		if err := mark(*o.Has); err != nil {
			return nil, err
		}
	}
	d := &Drive{
		opts: o, store: o.Store, has: *o.Has,
		info:    drive.Info{ID: id.ID, Name: o.Name, Kind: "bucket", Where: where, Tier: o.Tier, Domain: o.Domain},
		commits: map[string]chan struct{}{},
	}
	if !o.ReadOnly {
		d.claimed = identity.NewClaim(o.Owner, where, o.Clock.Now, func(ctx context.Context) (identity.Owner, error) { return ReadOwner(ctx, o.Store) })
	}
	d.usage.store, d.usage.at = o.Store, o.Clock.Now()
	if err := d.usage.load(ctx); err != nil {
		return nil, d.fail(err, "read the count of bytes of", usageKey)
	}
	return d, nil
}

// Info implements drive.Drive.
func (d *Drive) Info() drive.Info { return d.info }

// Has is what the store was seen to do.
func (d *Drive) Has() object.Capabilities { return d.has }

// Requests counts what was asked of the provider since the store was opened.
func (d *Drive) Requests() object.Requests { return d.store.Requests() }

func (d *Drive) label() string {
	if d.info.Name != "" {
		return d.info.Name
	}
	return d.info.ID.String()
}

// fail names drive and blob in an error of the store. io.EOF stays as it is.
func (d *Drive) fail(err error, verb, name string) error {
	if err == nil || err == io.EOF { //nolint:errorlint // ReadAt returns it bare
		return err
	}
	switch kind := fsapi.KindOf(err); kind {
	case fsapi.NotExist:
		return fsapi.Errorf(kind, "drive %s: %s: no such blob", d.label(), drive.Doing(verb, name))
	default:
		return fsapi.Errorf(kind, "drive %s: %s: %w", d.label(), drive.Doing(verb, name), err)
	}
}

// check refuses bad names and ended contexts, and calls after Close.
func (d *Drive) check(ctx context.Context, verb, name string) error {
	if err := drive.CheckName(name); err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "drive "+d.label()+": "+verb)
	}
	return d.checkOpen(ctx, verb, name)
}

// checkWrite is check for a call that changes something.
func (d *Drive) checkWrite(ctx context.Context, verb, name string) error {
	if d.opts.ReadOnly {
		return fsapi.Errorf(fsapi.ReadOnly, "drive %s: %s: it is open read-only here", d.label(), drive.Doing(verb, name))
	}
	return d.check(ctx, verb, name)
}

func (d *Drive) checkOpen(ctx context.Context, verb, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fsapi.Errorf(fsapi.Closed, "drive %s: %s: the drive is closed", d.label(), drive.Doing(verb, name))
	}
	return d.fail(cmp.Or(ctx.Err(), d.claimed.Lost()), verb, name)
}

// claimAge is how old what is known of the owner may be where a blob is added; of
// what removes or replaces one, nothing may be old. What another store does not
// know it leaves alone for longer.
const claimAge = 30 * time.Second

// ours refuses a change of a bucket that was taken over (D7).
func (d *Drive) ours(ctx context.Context, age time.Duration, verb, name string) error {
	return d.fail(d.claimed.Holds(ctx, age), verb, name)
}

// Claimed implements drive.Claimed.
func (d *Drive) Claimed(ctx context.Context) error { return d.ours(ctx, 0, "look whose it is", "") }

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	if err := d.check(ctx, "read", name); err != nil {
		return 0, err
	}
	n, _, err := d.store.Get(ctx, name, off, p)
	return n, d.fail(err, "read", name)
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	if err := d.check(ctx, "stat", name); err != nil {
		return drive.Blob{}, err
	}
	o, err := d.store.Stat(ctx, name)
	if err != nil {
		return drive.Blob{}, d.fail(err, "stat", name)
	}
	return blob(o), nil
}

// blob is an object as a blob. Some providers tell the time in full in listings
// only.
func blob(o object.Object) drive.Blob {
	return drive.Blob{Name: o.Key, Size: o.Size, Created: o.Modified.UTC().Truncate(1e9)}
}

// List implements drive.Drive.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	if err := d.checkOpen(ctx, "list", prefix); err != nil {
		return err
	}
	var stopped error
	err := d.store.List(ctx, prefix, after, func(o object.Object) error {
		if drive.CheckName(o.Key) != nil {
			return nil // the drive's own, or put there by somebody else
		}
		stopped = fn(blob(o))
		return stopped
	})
	if stopped != nil {
		return err // nil where fn ended it so
	}
	return d.fail(err, "list", prefix)
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	if err := d.checkWrite(ctx, "replace", name); err != nil {
		return err
	}
	if len(data) > drive.MaxReplace {
		return fsapi.Errorf(fsapi.TooBig, "drive %s: replace %s: %d bytes, want at most %d", d.label(), name, len(data), drive.MaxReplace)
	}
	if err := d.ours(ctx, 0, "replace", name); err != nil {
		return err
	}
	old, err := d.store.Stat(ctx, name)
	if err != nil && !errors.Is(err, fsapi.NotExist) {
		return d.fail(err, "replace", name)
	}
	if err := d.usage.touch(ctx); err != nil {
		return d.fail(err, "replace", name)
	}
	if _, err := object.PutBytes(ctx, d.store, name, data, object.Condition{}); err != nil {
		return d.fail(err, "replace", name)
	}
	d.usage.add(int64(len(data)) - old.Size)
	return nil
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	if err := d.checkOpen(ctx, "measure", ""); err != nil {
		return drive.Capacity{}, err
	}
	if d.opts.ReadOnly && d.opts.Quota > 0 { // without one what is said to be there is the same anyway
		d.usage.recount(d.opts.Clock.Now())
	}
	used, err := d.usage.bytes(ctx)
	if err != nil {
		return drive.Capacity{}, d.fail(err, "measure", "")
	}
	if d.opts.Quota <= 0 {
		return drive.Capacity{Total: used + Unbounded, Used: used, Avail: Unbounded}, nil
	}
	return drive.Capacity{Total: max(d.opts.Quota, used), Used: used, Avail: max(d.opts.Quota-used, 0)}, nil
}

// Close implements drive.Drive. It waits for running calls.
func (d *Drive) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	var saved error
	if !d.opts.ReadOnly && d.claimed.Holds(context.Background(), 0) == nil {
		saved = d.usage.save(context.Background())
	}
	return d.fail(errors.Join(saved, d.store.Close()), "close", "")
}
