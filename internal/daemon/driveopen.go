package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
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
	if err := ds.start(ctx, rec); err != nil {
		return 0, err
	}
	if err := ds.n.meta.PutDrive(ctx, rec); err != nil {
		return 0, errors.Join(err, ds.drop(rec.ID))
	}
	ds.n.drivesChanged()
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
	if err := ds.identify(ctx, &rec); err != nil {
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
	case filepath.IsAbs(rec.Where):
		rec.Kind = dirKind
	default:
		return fsapi.Errorf(fsapi.Invalid, "drive path %q is not absolute", rec.Where)
	}
	return nil
}

// dirKind is the kind of drives in a directory.
const dirKind = "dir"

// identify reads a place's identity, giving it one if it has none.
func (ds *drives) identify(_ context.Context, rec *meta.DriveRecord) error {
	id, err := dir.ReadIdentity(ds.n.fs, rec.Where)
	if errors.Is(err, fsapi.NotExist) {
		id = dir.Identity{ID: newDriveID(), Created: ds.n.clock.Now()}
		err = dir.Init(ds.n.fs, rec.Where, id)
	}
	rec.ID = id.ID
	return err
}

// start opens a recorded drive and lets it be used.
func (ds *drives) start(ctx context.Context, rec meta.DriveRecord) error {
	d, err := ds.open(ctx, rec)
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.recs[rec.ID] = rec
	delete(ds.errs, rec.ID)
	if err == nil {
		if err = ds.set.Add(d); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err == nil {
		err = ds.set.SetState(rec.ID, wantedState(rec))
	}
	if err != nil {
		ds.errs[rec.ID] = err
	}
	return err
}

// open opens the place of a record, behind its disk cache if it has one.
func (ds *drives) open(_ context.Context, rec meta.DriveRecord) (drive.Drive, error) {
	d, err := dir.Open(dir.Options{
		FS: ds.n.fs, Path: rec.Where, Expect: rec.ID, Name: rec.Name, Tier: rec.Tier, Domain: rec.Domain, Reserve: rec.Reserve, Spindown: rec.Spindown,
	})
	if err != nil {
		return nil, err
	}
	return ds.n.cached(rec, d), nil
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
