package daemon

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// roomPatience is how long somebody waits for a drive to say how much room it has.
// Those who write wait for it: a drive that hangs must not hold them up until it is
// left alone, whichever tier it is on.
const roomPatience = time.Second

// room is what an open drive said last of its capacity.
type room struct {
	device string // the file system that it is on
	cap    drive.Capacity
	err    error         // instead of cap
	asked  time.Time     // when it was asked what it has not said yet
	said   chan struct{} // closed when it has; nil: nothing is asked
}

// capacity is a drive's, or an error where it does not say in time.
func (ds *drives) capacity(ctx context.Context, id fsapi.DriveID) (drive.Capacity, error) {
	if err := ds.waitRoom(ctx, []fsapi.DriveID{id}); err != nil {
		return drive.Capacity{}, err
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	r := ds.rooms[id]
	switch {
	case r == nil:
		return drive.Capacity{}, fsapi.Errorf(fsapi.NotExist, "drive %s is not open", ds.recs[id].Name)
	case r.said != nil:
		return drive.Capacity{}, fsapi.Errorf(fsapi.TimedOut, "%s was asked for its capacity %s ago and has not answered",
			ds.recs[id].Where, ds.n.clock.Now().Sub(r.asked).Round(time.Second))
	}
	return r.cap, r.err
}

// available adds up what the drives have room for, in bytes, those of one file
// system once: directories on one disk share its space. Of a drive that does not
// answer in time it is what it said before.
func (ds *drives) available(ctx context.Context) (avail int64, err error) {
	all := ds.set.All()
	ids := make([]fsapi.DriveID, len(all))
	for i, d := range all {
		ids[i] = d.Info().ID
	}
	if err := ds.waitRoom(ctx, ids); err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, id := range ids {
		r := ds.rooms[id]
		if r == nil || r.err != nil || seen[r.device] {
			continue // offline: its space is not there
		}
		seen[r.device] = true
		avail += r.cap.Avail
	}
	return avail, nil
}

// waitRoom asks drives for their capacity and waits for what they say, for as long
// as there is patience, and not for one that others have waited for so long. The
// error is ctx's.
func (ds *drives) waitRoom(ctx context.Context, ids []fsapi.DriveID) error {
	var said []chan struct{}
	for _, id := range ids {
		if c := ds.askRoom(id); c != nil {
			said = append(said, c)
		}
	}
	late := ds.n.clock.After(roomPatience)
	for _, c := range said {
		select {
		case <-c:
		case <-late:
			return nil
		case <-ctx.Done():
			return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "measure the drives")
		}
	}
	return nil
}

// askRoom asks a drive for its capacity unless somebody does. What it returns is
// closed when the drive has said it; nil: it is not open, or not worth waiting for.
func (ds *drives) askRoom(id fsapi.DriveID) chan struct{} {
	now := ds.n.clock.Now()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	r := ds.rooms[id]
	switch {
	case r == nil || ds.ended:
		return nil
	case r.said != nil && now.Sub(r.asked) >= roomPatience:
		return nil
	case r.said != nil:
		return r.said
	}
	r.asked, r.said = now, make(chan struct{})
	ds.asking.Go(func() {
		c, err := ds.set.Capacity(ds.asks, id)
		ds.mu.Lock()
		defer ds.mu.Unlock()
		close(r.said)
		r.cap, r.err, r.said = c, err, nil
	})
	return r.said
}
