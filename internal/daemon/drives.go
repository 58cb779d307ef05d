package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// driveUp is the state of a drive in use, in its record.
const driveUp = "up"

// mainDrive is the name of the drive inside the data directory.
const mainDrive = "main"

// drives is the table of drives: all that are recorded, and those of them that
// are open. Safe for concurrent use.
type drives struct {
	n    *Node
	set  *blob.DriveSet
	mu   sync.Mutex
	recs map[fsapi.DriveID]meta.DriveRecord // guarded by mu
	errs map[fsapi.DriveID]error            // why one is not open; guarded by mu
}

// openDrives opens every recorded drive. One that cannot be opened is noted and
// left out: its replicas may exist elsewhere.
func (n *Node) openDrives(ctx context.Context, mode openMode) error {
	n.drives = &drives{n: n, set: blob.NewDriveSet(), recs: map[fsapi.DriveID]meta.DriveRecord{}, errs: map[fsapi.DriveID]error{}}
	n.onClose(n.drives.close)
	recs, err := n.meta.Drives(ctx)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if err := n.drives.start(rec); err != nil {
			n.log.Error("a drive cannot be opened", "drive", rec.Name, "where", rec.Where, "err", err)
		}
	}
	if mode == openExisting {
		return nil
	}
	if len(recs) == 0 && len(n.cfg.Drives) == 0 {
		_, err := n.drives.add(ctx, api.DriveAdd{Name: mainDrive, Path: n.at.mainDrive(), Tier: "hot"})
		return err
	}
	for _, c := range n.cfg.Drives {
		if n.drives.byName(c.Name) != 0 {
			continue
		}
		if _, err := n.drives.add(ctx, api.DriveAdd{Name: c.Name, Path: c.Path, Tier: c.Tier, Domain: c.Domain, Reserve: int64(c.Reserve), Spindown: c.Spindown, Cache: int64(c.Cache)}); err != nil {
			return fsapi.Errorf(fsapi.KindOf(err), "[[drive]] %s: %w", c.Name, err)
		}
	}
	return nil
}

// add makes a directory a drive, or takes it over if it is one already that
// this store does not know under another name, and records it.
func (ds *drives) add(ctx context.Context, req api.DriveAdd) (fsapi.DriveID, error) {
	rec, err := ds.plan(req)
	if err != nil {
		return 0, err
	}
	if err := ds.start(rec); err != nil {
		return 0, err
	}
	if err := ds.n.meta.PutDrive(ctx, rec); err != nil {
		return 0, errors.Join(err, ds.drop(rec.ID))
	}
	return rec.ID, nil
}

func (ds *drives) plan(req api.DriveAdd) (meta.DriveRecord, error) {
	var rec meta.DriveRecord
	switch {
	case req.Name == "":
		return rec, fsapi.Errorf(fsapi.Invalid, "a drive needs a name")
	case ds.byName(req.Name) != 0:
		return rec, fsapi.Errorf(fsapi.Exist, "there is a drive named %s already", req.Name)
	case !filepath.IsAbs(req.Path):
		return rec, fsapi.Errorf(fsapi.Invalid, "drive path %q is not absolute", req.Path)
	case !slices.Contains([]string{"", "hot", "warm", "cold"}, req.Tier):
		return rec, fsapi.Errorf(fsapi.Invalid, "tier %q is not hot, warm or cold", req.Tier)
	}
	id, err := dir.ReadIdentity(ds.n.fs, req.Path)
	if errors.Is(err, fsapi.NotExist) {
		id = dir.Identity{ID: newDriveID(), Created: ds.n.clock.Now()}
		err = dir.Init(ds.n.fs, req.Path, id)
	}
	if err != nil {
		return rec, err
	}
	rec = meta.DriveRecord{ID: id.ID, Name: req.Name, Kind: "dir", Where: req.Path, Tier: req.Tier, Domain: req.Domain, State: driveUp, Reserve: req.Reserve, Spindown: req.Spindown, Cache: req.Cache}
	if rec.Tier == "" {
		rec.Tier = "hot"
	}
	if rec.Domain == "" {
		rec.Domain = rec.Name
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if o, ok := ds.recs[rec.ID]; ok {
		return rec, fsapi.Errorf(fsapi.Exist, "%s is drive %s already", req.Path, o.Name)
	}
	return rec, nil
}

// start opens a recorded drive and lets it be used.
func (ds *drives) start(rec meta.DriveRecord) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.recs[rec.ID] = rec
	d, err := dir.Open(dir.Options{
		FS: ds.n.fs, Path: rec.Where, Expect: rec.ID, Name: rec.Name, Tier: rec.Tier, Domain: rec.Domain, Reserve: rec.Reserve, Spindown: rec.Spindown,
	})
	if err == nil {
		if err = ds.set.Add(d); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err != nil {
		ds.errs[rec.ID] = err
	}
	return err
}

// drop undoes start.
func (ds *drives) drop(id fsapi.DriveID) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.recs, id)
	d, err := ds.set.Remove(id)
	if err != nil {
		return err
	}
	return d.Close()
}

func (ds *drives) byName(name string) fsapi.DriveID {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for id, r := range ds.recs {
		if r.Name == name {
			return id
		}
	}
	return 0
}

// label is a drive's name, or its id where it has none.
func (ds *drives) label(id fsapi.DriveID) string {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if r, ok := ds.recs[id]; ok {
		return r.Name
	}
	return id.String()
}

// why is the reason that a drive is not open.
func (ds *drives) why(id fsapi.DriveID) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.errs[id]
}

func (ds *drives) close() error {
	var errs []error
	for _, d := range ds.set.All() {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// capacity adds the drives of one file system up once: directories on one disk
// share its space.
func (ds *drives) capacity(ctx context.Context) (total, avail int64, err error) {
	seen := map[string]bool{}
	for _, d := range ds.set.All() {
		c, err := ds.set.Capacity(ctx, d.Info().ID)
		if err != nil {
			continue // offline: its space is not there
		}
		key := deviceOf(d.Info().Where)
		if seen[key] {
			continue
		}
		seen[key] = true
		total += c.Total
		avail += c.Avail
	}
	return total, avail, nil
}

func (n *Node) addDrive(ctx context.Context, req api.DriveAdd) (api.Drive, error) {
	id, err := n.drives.add(ctx, req)
	if err != nil {
		return api.Drive{}, err
	}
	return n.describeDrive(ctx, id)
}

func (n *Node) listDrives(ctx context.Context, _ api.Empty) (api.Drives, error) {
	out := api.Drives{Drives: []api.Drive{}}
	use, err := n.driveUse(ctx)
	if err != nil {
		return out, err
	}
	n.drives.mu.Lock()
	ids := make([]fsapi.DriveID, 0, len(n.drives.recs))
	for id := range n.drives.recs {
		ids = append(ids, id)
	}
	n.drives.mu.Unlock()
	for _, id := range ids {
		out.Drives = append(out.Drives, n.describeDriveUse(ctx, id, use[id]))
	}
	slices.SortFunc(out.Drives, func(a, b api.Drive) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (n *Node) showDrive(ctx context.Context, req api.Named) (api.Drive, error) {
	id := n.drives.byName(req.Name)
	if id == 0 {
		return api.Drive{}, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", req.Name)
	}
	return n.describeDrive(ctx, id)
}

func (n *Node) describeDrive(ctx context.Context, id fsapi.DriveID) (api.Drive, error) {
	use, err := n.driveUse(ctx)
	return n.describeDriveUse(ctx, id, use[id]), err
}

// usage is what segments take on one drive.
type usage struct{ segments, bytes int64 }

func (n *Node) driveUse(ctx context.Context) (map[fsapi.DriveID]usage, error) {
	use := map[fsapi.DriveID]usage{}
	err := n.meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		for _, c := range s.Copies {
			for _, id := range c.Drives {
				u := use[id]
				use[id] = usage{u.segments + 1, u.bytes + s.Size}
			}
		}
		return true
	})
	return use, err
}

func (n *Node) describeDriveUse(ctx context.Context, id fsapi.DriveID, u usage) api.Drive {
	n.drives.mu.Lock()
	rec, openErr := n.drives.recs[id], n.drives.errs[id]
	n.drives.mu.Unlock()
	out := api.Drive{
		ID: id.String(), Name: rec.Name, Kind: rec.Kind, Where: rec.Where, Tier: rec.Tier, Domain: rec.Domain, State: "online",
		Reserve: rec.Reserve, Segments: u.segments, Bytes: u.bytes, Spindown: rec.Spindown, Cache: rec.Cache,
	}
	if _, err := n.drives.set.Drive(id); err != nil {
		out.State, out.Error = "offline", fmt.Sprint(openErr)
		return out
	}
	c, err := n.drives.set.Capacity(ctx, id)
	if err != nil {
		out.State, out.Error = "offline", err.Error()
		return out
	}
	out.Total, out.Used, out.Avail = c.Total, c.Used, c.Avail
	return out
}

// newDriveID draws an id; 0 is no drive.
func newDriveID() fsapi.DriveID {
	var b [8]byte
	rand.Read(b[:])
	return fsapi.DriveID(binary.BigEndian.Uint64(b[:]) | 1)
}
