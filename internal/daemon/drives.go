package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// mainDrive is the name of the drive inside the data directory.
const mainDrive = "main"

// drives is the table of drives: all that are recorded, and those of them that
// are open. Safe for concurrent use.
type drives struct {
	n        *Node
	set      *blob.DriveSet
	claims   *claims
	changing sync.Mutex // held while a record is changed; before mu
	mu       sync.Mutex
	recs     map[fsapi.DriveID]meta.DriveRecord     // guarded by mu
	errs     map[fsapi.DriveID]error                // why one is not open; guarded by mu
	refused  map[fsapi.DriveID]refusal              // of those that wait for a person; guarded by mu
	watched  map[fsapi.DriveID]*watch.Drive         // how the open ones fare; guarded by mu
	rooms    map[fsapi.DriveID]*room                // what the open ones have room for; guarded by mu
	opening  map[fsapi.DriveID]meta.DriveRecord     // what somebody tries to open; guarded by mu
	next     time.Time                              // when those that are away are looked at; guarded by mu
	unclean  map[fsapi.DriveID]drive.Attached       // not detached cleanly, and not looked after yet; guarded by mu
	retaken  map[fsapi.DriveID]identity.Incarnation // what those are marked with that were taken over; guarded by mu
	ended    bool                                   // nothing is to be opened any more; guarded by mu
	restored bool                                   // the metadata was, and not opened for serving since
	news     chan struct{}                          // holds a token when a drive may have changed
	asks     context.Context                        // of what asks drives for their capacity, which may hang
	endAsks  context.CancelFunc
	asking   sync.WaitGroup // those who do
}

// openDrives opens every recorded drive. One that cannot be opened is noted and
// left out: its replicas may exist elsewhere.
func (n *Node) openDrives(ctx context.Context, mode openMode) error {
	n.drives = &drives{
		n: n, set: blob.NewDriveSet(), claims: &claims{meta: n.meta}, recs: map[fsapi.DriveID]meta.DriveRecord{}, errs: map[fsapi.DriveID]error{}, refused: map[fsapi.DriveID]refusal{},
		watched: map[fsapi.DriveID]*watch.Drive{}, rooms: map[fsapi.DriveID]*room{}, opening: map[fsapi.DriveID]meta.DriveRecord{}, unclean: map[fsapi.DriveID]drive.Attached{}, retaken: map[fsapi.DriveID]identity.Incarnation{}, news: make(chan struct{}, 1),
	}
	n.drives.asks, n.drives.endAsks = context.WithCancel(context.WithoutCancel(ctx))
	n.onClose(n.drives.close)
	recs, err := n.meta.Drives(ctx)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if err := n.drives.tryStart(ctx, rec, openPatience); err != nil {
			n.log.Error("a drive cannot be opened", "drive", rec.Name, "where", rec.Where, "err", err)
		}
	}
	if mode != openOrCreate {
		return nil
	}
	if err := n.addConfigured(ctx, len(recs) == 0); err != nil {
		return err
	}
	n.drives.restored, err = n.drives.claims.settle(ctx, recs)
	return err
}

// addConfigured makes what the configuration names drives, or the first drive of a
// store that has none.
func (n *Node) addConfigured(ctx context.Context, none bool) error {
	if none && len(n.cfg.Drives) == 0 {
		_, err := n.drives.add(ctx, api.DriveAdd{Name: mainDrive, Path: n.firstDrive(), Tier: "hot"})
		return err
	}
	for _, c := range n.cfg.Drives {
		if n.drives.byName(c.Name) != 0 {
			continue
		}
		if _, err := n.drives.add(ctx, driveOf(c)); err != nil {
			return fsapi.Errorf(fsapi.KindOf(err), "[[drive]] %s: %w", c.Name, err)
		}
	}
	return nil
}

// forget takes a drive that is not open off the table.
func (ds *drives) forget(id fsapi.DriveID) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.recs, id)
	delete(ds.errs, id)
	delete(ds.refused, id)
	delete(ds.watched, id)
	delete(ds.rooms, id)
	delete(ds.unclean, id)
}

// drop undoes start: fsapi.NotExist where the drive is not open. One that cannot be
// closed is gone all the same: it hangs, or its disk is not there any more.
func (ds *drives) drop(id fsapi.DriveID) error {
	ds.forget(id)
	d, err := ds.set.Remove(id)
	if err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		ds.n.log.Warn("a drive was not closed cleanly", "drive", d.Info().Name, "err", err)
	}
	return nil
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

// kind is the kind of a drive, "" where it is not known.
func (ds *drives) kind(id fsapi.DriveID) string {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.recs[id].Kind
}

// hasKind reports whether there is a drive of a kind.
func (ds *drives) hasKind(kind string) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, r := range ds.recs {
		if r.Kind == kind {
			return true
		}
	}
	return false
}

// why is the reason that a drive is not open.
func (ds *drives) why(id fsapi.DriveID) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.errs[id]
}

func (ds *drives) close() error {
	ds.mu.Lock()
	ds.ended = true
	ds.mu.Unlock()
	ds.endAsks()
	ds.asking.Wait()
	var errs []error
	for _, d := range ds.set.All() {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
