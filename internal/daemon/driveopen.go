package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/bucket"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/lawful"
	"github.com/strakefs/strake/internal/drive/limit"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/url"
)

// driveOf is a configured drive as it would be added by hand.
func driveOf(c config.Drive) api.DriveAdd {
	return api.DriveAdd{
		Name: c.Name, Path: c.Path, Tier: c.Tier, Domain: c.Domain, Reserve: int64(c.Reserve),
		DriveLimits: api.DriveLimits{Quota: int64(c.Quota), Rate: int64(c.Rate), Calls: c.Calls, Deadline: c.Deadline, Spindown: c.Spindown, Cache: int64(c.Cache)},
	}
}

// add makes a place a drive, or takes it over if it is one already that this
// store does not know under another name, and records it.
func (ds *drives) add(ctx context.Context, req api.DriveAdd) (fsapi.DriveID, error) {
	rec, err := ds.plan(ctx, req)
	if err != nil {
		return 0, err
	}
	if req.TakeOver {
		if err := ds.claim(ctx, rec); err != nil {
			return 0, err
		}
	}
	if err := ds.start(ctx, rec); err != nil {
		ds.forget(rec.ID)
		return 0, err
	}
	if err := ds.n.meta.PutDrive(ctx, rec); err != nil {
		return 0, errors.Join(err, ds.drop(rec.ID))
	}
	ds.n.drivesChanged()
	if req.TakeOver {
		ds.tookOver(rec)
	}
	return rec.ID, nil
}

func (ds *drives) plan(ctx context.Context, req api.DriveAdd) (meta.DriveRecord, error) {
	rec := meta.DriveRecord{
		Name: req.Name, Where: req.Path, Tier: req.Tier, Domain: req.Domain, Reserve: req.Reserve,
		State: drive.Online.String(), DriveLimits: meta.DriveLimits(req.DriveLimits),
	}
	if rec.Tier == "" {
		rec.Tier = "hot"
	}
	if rec.Domain == "" {
		rec.Domain = rec.Name
	}
	if err := ds.check(&rec); err != nil {
		return rec, err
	}
	if ds.byName(req.Name) != 0 {
		return rec, fsapi.Errorf(fsapi.Exist, "there is a drive named %s already", req.Name)
	}
	if err := ds.identifyWithin(ctx, &rec); err != nil {
		return rec, err
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if o, ok := ds.recs[rec.ID]; ok {
		return rec, fsapi.Errorf(fsapi.Exist, "%s is drive %s already", req.Path, o.Name)
	}
	return rec, nil
}

// check refuses what cannot be in a drive's record, and fills in its kind.
func (ds *drives) check(rec *meta.DriveRecord) error {
	switch {
	case rec.Name == "":
		return fsapi.Errorf(fsapi.Invalid, "a drive needs a name")
	case !slices.Contains([]string{"hot", "warm", "cold"}, rec.Tier):
		return fsapi.Errorf(fsapi.Invalid, "tier %q is not hot, warm or cold", rec.Tier)
	case rec.Quota < 0 || rec.Rate < 0 || rec.Calls < 0 || rec.Deadline < 0 || rec.Cache < 0:
		return fsapi.Errorf(fsapi.Invalid, "drive %s: quota, rate, calls, deadline and cache are not negative; 0 is none", rec.Name)
	case rec.Cache > 0 && rec.Cache < int64(config.MinCache):
		return fsapi.Errorf(fsapi.Invalid, "drive %s: a cache of %d bytes: want 0 (none) or at least %v", rec.Name, rec.Cache, config.MinCache)
	case strings.Contains(rec.Where, "://"):
		rec.Kind = bucketKind
		return url.All().Check(rec.Where)
	case !filepath.IsAbs(rec.Where):
		return fsapi.Errorf(fsapi.Invalid, "drive path %q is not absolute, nor the URL of a bucket", rec.Where)
	case rec.Quota > 0:
		return fsapi.Errorf(fsapi.Invalid, "drive %s: a quota bounds a bucket; a directory is bounded by its file system and by reserve", rec.Name)
	}
	rec.Kind = dirKind
	return nil
}

// dirKind is the kind of drives in a directory.
const dirKind = "dir"

// identifyWithin is identify that waits so long only, of a directory: its mount may
// hang.
func (ds *drives) identifyWithin(ctx context.Context, rec *meta.DriveRecord) error {
	if rec.Kind == bucketKind {
		return ds.identify(ctx, rec)
	}
	place := *rec
	done := make(chan error, 1)
	go func() { done <- ds.identify(ctx, &place) }()
	select {
	case err := <-done:
		rec.ID = place.ID
		return err
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "ask "+rec.Where+" which drive it is")
	case <-ds.n.clock.After(openPatience):
		return late(rec)
	}
}

// identify reads a place's identity, giving it one if it has none.
func (ds *drives) identify(ctx context.Context, rec *meta.DriveRecord) error {
	if rec.Kind == bucketKind {
		return ds.identifyBucket(ctx, rec)
	}
	id, err := dir.ReadIdentity(ds.n.fs, rec.Where)
	if errors.Is(err, fsapi.NotExist) {
		id = dir.Identity{ID: newDriveID(), Created: ds.n.clock.Now()}
		err = dir.Init(ds.n.fs, rec.Where, id)
	}
	rec.ID = id.ID
	return err
}

func (ds *drives) identifyBucket(ctx context.Context, rec *meta.DriveRecord) error {
	store, err := ds.bucket(ctx, rec.Where)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // nothing was left in it to be written
	id, err := bucket.ReadIdentity(ctx, store)
	if errors.Is(err, fsapi.NotExist) {
		id = bucket.Identity{ID: newDriveID(), Created: ds.n.clock.Now()}
		err = bucket.Init(ctx, store, id)
	}
	rec.ID = id.ID
	return err
}

// bucket opens the object store that a URL names, with the credentials that the
// provider's own tools would use.
func (ds *drives) bucket(ctx context.Context, where string) (object.Store, error) {
	return url.All().Open(ctx, where, url.Secrets{}, provider.Options{Hold: ds.n.hold})
}

// holdMemory is of the bound of memory what the buckets that segments are written to
// may hold together for uploads in one request: a sixth.
func holdMemory(limit config.Size) *provider.Memory {
	if limit > 0 {
		return provider.NewMemory(int64(limit) / 6)
	}
	return provider.NewMemory(provider.DefaultHold)
}

// start opens a recorded drive and lets it be used.
func (ds *drives) start(ctx context.Context, rec meta.DriveRecord) error {
	return ds.startIf(ctx, rec, false)
}

// startIf is start. recorded: the drive is used only if rec is still its record when
// it is open, which may take as long as its place hangs.
func (ds *drives) startIf(ctx context.Context, rec meta.DriveRecord, recorded bool) error {
	o, err := ds.open(ctx, rec)
	device := rec.Where
	if err == nil {
		device = deviceOf(rec.Where)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.ended {
		if err == nil {
			err = errors.Join(fsapi.Errorf(fsapi.Closed, "drive %s: the store is closed", rec.Name), o.top.Close())
		}
		return err
	}
	if now, ok := ds.recs[rec.ID]; recorded && (!ok || now != rec) {
		if err == nil {
			err = errors.Join(fsapi.Errorf(fsapi.Stale, "drive %s was changed while %s was opened", rec.Name, rec.Where), o.top.Close())
		}
		return err
	}
	if _, away := ds.set.Drive(rec.ID); away == nil { // somebody else opened it just now
		delete(ds.errs, rec.ID)
		delete(ds.refused, rec.ID)
		if err == nil {
			return o.top.Close()
		}
		return nil
	}
	ds.recs[rec.ID] = rec
	delete(ds.errs, rec.ID)
	if err == nil {
		if err = ds.set.Add(o.top); err != nil {
			err = errors.Join(err, o.top.Close())
		}
	}
	if err != nil {
		ds.errs[rec.ID] = err
		ds.putOffLocked(rec.ID, err)
		return err
	}
	delete(ds.refused, rec.ID)
	ds.watched[rec.ID] = o.watch
	ds.rooms[rec.ID] = &room{device: device}
	if o.unclean != nil {
		ds.unclean[rec.ID] = o.unclean
		ds.observed(rec.ID)
	}
	return ds.set.SetState(rec.ID, wantedState(rec))
}

// openPatience is how long the opening of one drive may hold up the others.
const openPatience = 10 * time.Second

// tryStart is startWithin unless somebody waits for the drive to be opened already.
func (ds *drives) tryStart(ctx context.Context, rec meta.DriveRecord, patience time.Duration) error {
	ds.mu.Lock()
	opening, ok := ds.opening[rec.ID]
	ds.mu.Unlock()
	if ok && opening == rec {
		return late(&rec)
	}
	return ds.startWithin(ctx, rec, patience)
}

func late(rec *meta.DriveRecord) error {
	return fsapi.Errorf(fsapi.TimedOut, "drive %s: %s does not answer", rec.Name, rec.Where)
}

// startWithin is start that waits so long only: a place that hangs is opened when
// it comes back, by the goroutine that waits for it, which nothing can end, unless
// the drive's record is another by then.
func (ds *drives) startWithin(ctx context.Context, rec meta.DriveRecord, patience time.Duration) error {
	late := late(&rec)
	ds.mu.Lock()
	ds.opening[rec.ID] = rec
	ds.recs[rec.ID] = rec
	ds.errs[rec.ID] = late
	ds.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		err := ds.startIf(context.WithoutCancel(ctx), rec, true)
		ds.mu.Lock()
		if ds.opening[rec.ID] == rec {
			delete(ds.opening, rec.ID)
		}
		ds.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	case <-ds.n.clock.After(patience):
	}
	return late
}

// opened is an open drive and the decorator that watches it. unclean is not nil
// where it was not detached cleanly.
type opened struct {
	top     drive.Drive
	watch   *watch.Drive
	unclean drive.Attached
}

// Bounds of what each kind of drive is asked at a time.
const (
	dirCalls    = 64
	bucketCalls = 64
)

// open opens the place of a record, under what watches, limits and caches it.
func (ds *drives) open(ctx context.Context, rec meta.DriveRecord) (opened, error) {
	base, err := ds.openPlace(ctx, rec, false)
	if err != nil {
		return opened{}, err
	}
	id := rec.ID
	o := opened{watch: watch.New(ownHistory(base), patience(rec, func(watch.Change) { ds.observed(id) }))}
	if a, ok := base.(drive.Attached); ok {
		if _, risk := a.AtRisk(); risk {
			o.unclean = a
		}
	}
	below := drive.Drive(o.watch)
	if ds.n.state != nil && ds.n.follow == nil {
		below = lawful.New(o.watch, ds.n.state.engine.CheckFence)
	}
	o.top = limit.New(below, limit.Options{Read: rec.Rate, Write: rec.Rate, Calls: calls(rec)})
	o.top = ds.n.cached(rec, o.top)
	return o, nil
}

// undecorated is the directory or bucket itself below what watches it.
func undecorated(w *watch.Drive) drive.Drive {
	if d, ok := w.Unwrap().(claimedHistory); ok {
		return d.Drive
	}
	return w.Unwrap()
}

func calls(rec meta.DriveRecord) int {
	switch {
	case rec.Calls > 0:
		return rec.Calls
	case rec.Kind == bucketKind:
		return bucketCalls
	}
	return dirCalls
}

// Deadlines of a bucket's calls, which make several attempts of their own. Writes wait
// for others on their way, however slow the line is: a segment takes half an hour on
// one of 300 kbit/s. Where it is a network's, the client ends by itself what does not
// move; that of a directory cannot.
const (
	bucketCall   = 2 * time.Minute
	bucketCommit = 10 * time.Minute
	bucketUpload = 4 * time.Hour
)

// patience is how long the calls of a drive may take.
func patience(rec meta.DriveRecord, changed func(watch.Change)) watch.Options {
	o := watch.Options{OnChange: changed}
	switch {
	case rec.Deadline > 0:
		o.Read, o.Write, o.Commit, o.Other = rec.Deadline, rec.Deadline, 2*rec.Deadline, rec.Deadline
	case rec.Kind == bucketKind && strings.HasPrefix(rec.Where, "file:"):
		o.Read, o.Write, o.Commit, o.Other = bucketCall, bucketCall, bucketCommit, bucketCall
	case rec.Kind == bucketKind:
		o.Read, o.Write, o.Commit, o.Other, o.Upload = bucketCall, bucketCall, bucketCommit, bucketCall, bucketUpload
	}
	return o
}

// openPlace opens the place of a record, which must belong to this store and does
// from now on. takeOver: whichever store it belonged to.
func (ds *drives) openPlace(ctx context.Context, rec meta.DriveRecord, takeOver bool) (drive.Drive, error) {
	owner := ds.n.owner()
	owner.Incarnation = ds.incarnation(rec.ID)
	claiming := ds.claiming(rec, owner.Incarnation, takeOver)
	if rec.Kind != bucketKind {
		d, err := dir.Open(dir.Options{
			FS: ds.n.fs, Path: rec.Where, Expect: rec.ID, Owner: owner, TakeOver: takeOver, Claiming: claiming, ReadOnly: ds.n.follow != nil,
			Name: rec.Name, Tier: rec.Tier, Domain: rec.Domain, Reserve: rec.Reserve, Spindown: rec.Spindown, Clock: ds.n.clock,
		})
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	store, err := ds.bucket(ctx, rec.Where)
	if err != nil {
		return nil, err
	}
	d, err := bucket.Open(ctx, bucket.Options{
		Store: store, Expect: rec.ID, Owner: owner, TakeOver: takeOver, Claiming: claiming, ReadOnly: ds.n.follow != nil,
		Name: rec.Name, Tier: rec.Tier, Domain: rec.Domain, Quota: rec.Quota, Clock: ds.n.clock,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return d, nil
}

// claim makes a place belong to this store, whichever it belonged to, with an
// incarnation that no copy of it can know.
func (ds *drives) claim(ctx context.Context, rec meta.DriveRecord) error {
	ds.renew(rec.ID)
	d, err := ds.openPlace(ctx, rec, true)
	if err != nil {
		return err
	}
	ds.n.log.Warn("a drive was claimed for this store", "drive", rec.Name, "where", rec.Where)
	return d.Close()
}

// tookOver has the copies of the metadata begin anew, as whoever had the drive may
// have written others there that look the same.
func (ds *drives) tookOver(rec meta.DriveRecord) {
	if ds.n.ships != nil {
		ds.n.ships.Anew("drive " + rec.Name + " was taken over")
	}
}

// release lets the place of a drive that was forgotten belong to no store.
func (ds *drives) release(ctx context.Context, rec meta.DriveRecord) error {
	if rec.Kind != bucketKind {
		if err := dir.Release(ds.n.fs, rec.Where); err != nil {
			return err
		}
		return ds.claims.drop(ctx, rec.ID)
	}
	store, err := ds.bucket(ctx, rec.Where)
	if err != nil {
		return err
	}
	if err := errors.Join(bucket.Release(ctx, store), store.Close()); err != nil {
		return err
	}
	return ds.claims.drop(ctx, rec.ID)
}

// wantedState is what an administrator wants of a drive.
func wantedState(rec meta.DriveRecord) drive.State {
	st, err := drive.ParseState(rec.State)
	if err != nil {
		return drive.ReadOnly // by a newer version: nothing new goes there
	}
	return st
}

// newDriveID draws an id; 0 is no drive.
func newDriveID() fsapi.DriveID {
	var b [8]byte
	rand.Read(b[:])
	return fsapi.DriveID(binary.BigEndian.Uint64(b[:]) | 1)
}
