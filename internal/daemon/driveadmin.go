package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/diskcache"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

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
	n.drives.ask(ctx, id)
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
		for i := range s.Copies {
			c := &s.Copies[i]
			for part, id := range c.Drives {
				if id != 0 {
					u := use[id]
					use[id] = usage{u.segments + 1, u.bytes + blob.PartSize(s.Size, c, part)}
				}
			}
		}
		return true
	})
	return use, err
}

func (n *Node) describeDriveUse(ctx context.Context, id fsapi.DriveID, u usage) api.Drive {
	n.drives.mu.Lock()
	rec, openErr, watched := n.drives.recs[id], n.drives.errs[id], n.drives.watched[id]
	n.drives.mu.Unlock()
	out := api.Drive{
		ID: id.String(), Name: rec.Name, Kind: rec.Kind, Where: rec.Where, Tier: rec.Tier, Domain: rec.Domain, State: n.drives.set.State(id).String(),
		Reserve: rec.Reserve, DriveLimits: api.DriveLimits(rec.DriveLimits), Segments: u.segments, Bytes: u.bytes,
	}
	d, err := n.drives.set.Drive(id)
	if err != nil {
		out.Error = fmt.Sprint(openErr)
		return out
	}
	out.Latency = latencies(watched)
	if c, ok := d.(*diskcache.Drive); ok {
		out.Cached = c.Stats().PageBytes
	}
	c, err := n.drives.capacity(ctx, id)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Total, out.Used, out.Avail = c.Total, c.Used, c.Avail
	return out
}

// latencies are what each class of calls took lately, of those that were made.
func latencies(w *watch.Drive) map[string]time.Duration {
	if w == nil {
		return nil
	}
	took := map[string]time.Duration{}
	for _, op := range watch.Ops() {
		if s := w.Stats(op); s.Calls > 0 {
			took[op.String()] = s.Latency
		}
	}
	return took
}

// setDrive changes a drive's record, and opens it anew where that asks for it.
func (n *Node) setDrive(ctx context.Context, req api.DriveSet) (api.Drive, error) {
	id := n.drives.byName(req.Name)
	if id == 0 {
		return api.Drive{}, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", req.Name)
	}
	if err := n.drives.change(ctx, id, req); err != nil {
		return api.Drive{}, err
	}
	return n.describeDrive(ctx, id)
}

// change applies a request to a record and what it asks of the open drive.
func (ds *drives) change(ctx context.Context, id fsapi.DriveID, req api.DriveSet) error {
	ds.changing.Lock()
	defer ds.changing.Unlock()
	ds.mu.Lock()
	old := ds.recs[id]
	ds.mu.Unlock()
	rec := old
	for _, f := range []struct {
		to   *string
		from *string
	}{{&rec.Name, req.Rename}, {&rec.Where, req.Path}, {&rec.Tier, req.Tier}, {&rec.Domain, req.Domain}, {&rec.State, req.State}} {
		assign(f.to, f.from)
	}
	assign(&rec.Reserve, req.Reserve)
	assign(&rec.Quota, req.Quota)
	assign(&rec.Rate, req.Rate)
	assign(&rec.Calls, req.Calls)
	assign(&rec.Deadline, req.Deadline)
	assign(&rec.Spindown, req.Spindown)
	assign(&rec.Cache, req.Cache)
	if err := ds.check(&rec); err != nil {
		return err
	}
	if rec.Kind != old.Kind {
		return fsapi.Errorf(fsapi.Invalid, "drive %s is a %s and cannot become a %s: add another drive and evacuate this one", old.Name, old.Kind, rec.Kind)
	}
	if st, err := drive.ParseState(rec.State); err != nil {
		return err
	} else if req.State != nil && st != drive.Online && st != drive.ReadOnly {
		return fsapi.Errorf(fsapi.Invalid, "state %s cannot be set by hand: want online or readonly, or use 'strake drive evacuate' or 'strake drive remove'", rec.State)
	}
	if req.TakeOver {
		if err := ds.reclaim(ctx, rec); err != nil {
			return err
		}
	}
	return ds.apply(ctx, old, rec)
}

// reclaim makes a place belong to this store again, and opens it anew, unless it
// is open and does.
func (ds *drives) reclaim(ctx context.Context, rec meta.DriveRecord) error {
	ds.mu.Lock()
	w := ds.watched[rec.ID]
	ds.mu.Unlock()
	if w != nil {
		c, ok := undecorated(w).(drive.Claimed)
		if !ok {
			return nil
		}
		if err := c.Claimed(ctx); !errors.Is(err, fsapi.NoDevice) {
			return err
		}
		if err := ds.drop(rec.ID); err != nil {
			return err
		}
	}
	if err := ds.claim(ctx, rec); err != nil {
		return err
	}
	ds.tookOver(rec) // before anything is written there
	return ds.start(ctx, rec)
}

// apply makes a changed record hold: durably first, then of the open drive. Of a
// place where the drive is not, nothing is kept: it stays where it was.
func (ds *drives) apply(ctx context.Context, old, rec meta.DriveRecord) error {
	if err := ds.n.meta.PutDrive(ctx, rec); err != nil {
		return err
	}
	reopen := rec
	reopen.State = old.State
	if reopen == old { // the place is the same, and may be away
		ds.mu.Lock()
		ds.recs[rec.ID] = rec
		ds.mu.Unlock()
		if err := ds.set.SetState(rec.ID, wantedState(rec)); err != nil && !errors.Is(err, fsapi.NotExist) {
			return err
		}
		ds.n.drivesChanged()
		ds.ask(ctx, rec.ID)
		return nil
	}
	if err := ds.drop(rec.ID); err != nil && !errors.Is(err, fsapi.NotExist) {
		return err
	}
	err := ds.startWithin(ctx, rec, openPatience)
	if err != nil && rec.Where != old.Where {
		if back := ds.n.meta.PutDrive(ctx, old); back != nil {
			return errors.Join(err, back)
		}
		_ = ds.startWithin(ctx, old, openPatience) // it may have been away before: the table says so
		ds.n.drivesChanged()
		return err
	}
	ds.n.drivesChanged()
	if wantedState(rec) == drive.Retired {
		return nil // a drive that is given up need not be there
	}
	return err
}

// assign sets what is given.
func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// drivesChanged tells those who may have waited for another drive.
func (n *Node) drivesChanged() {
	n.drives.observed(0)
	if n.upkeep != nil {
		n.upkeep.Hurry()
	}
}
