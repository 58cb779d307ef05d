package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// healthTick is between two looks at drives that are away: to open those that
// could not be opened, and to ask those that failed.
const (
	healthTick     = 5 * time.Second
	healthPatience = time.Second
)

// refusedPace is how often a place is asked that refuses us: every healthTick at
// first, then ever less.
var refusedPace = backoff.Policy{Base: 2 * healthTick, Max: time.Minute}

// refusal is of a place that is there, and is not opened before a person changes
// something: it is another drive or another store's, or we are not let in.
type refusal struct {
	times int       // in a row
	until time.Time // it is not asked before, unless somebody wants that
}

// refuses reports whether an error of opening a place is a refusal, and not one of
// a place that is away.
func refuses(err error) bool {
	switch fsapi.KindOf(err) {
	case fsapi.Stale, fsapi.Busy, fsapi.Unauthorized, fsapi.Access, fsapi.Invalid, fsapi.Corrupt, fsapi.NotSupported:
		return true
	}
	return false
}

// putOffLocked notes that a place could not be opened. REQUIRES: mu held.
func (ds *drives) putOffLocked(id fsapi.DriveID, err error) {
	if !refuses(err) {
		delete(ds.refused, id)
		return
	}
	r := ds.refused[id]
	r.until = ds.n.clock.Now().Add(refusedPace.Wait(r.times))
	r.times++
	ds.refused[id] = r
}

// observed is told by a drive's calls that it fares differently. It must not
// block.
func (ds *drives) observed(fsapi.DriveID) {
	select {
	case ds.news <- struct{}{}:
	default:
	}
}

// mind keeps the states of drives true until ctx ends.
func (ds *drives) mind(ctx context.Context) error {
	last := map[fsapi.DriveID]drive.State{}
	for {
		ds.review(ctx, last)
		ds.mu.Lock()
		ds.next = ds.n.clock.Now().Add(healthTick)
		ds.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-ds.news:
			ds.settle(last)
			ds.lookAfter(ctx)
			continue
		case <-ds.n.clock.After(healthTick):
		}
	}
}

// review looks after the drives that are away, then tells of what changed.
func (ds *drives) review(ctx context.Context, last map[fsapi.DriveID]drive.State) {
	for _, rec := range ds.closed() {
		ds.retry(ctx, rec)
	}
	for _, w := range ds.unwell() {
		probe, end := context.WithTimeout(ctx, healthPatience)
		_ = w.Probe(probe) // what it answers is seen in its status
		end()
	}
	ds.settle(last)
	ds.lookAfter(ctx)
}

// retry opens a drive that is not open, where that is possible now.
func (ds *drives) retry(ctx context.Context, rec meta.DriveRecord) {
	if ds.tryStart(ctx, rec, healthPatience) == nil {
		ds.n.log.Info("a drive is back", "drive", rec.Name, "where", rec.Where)
		ds.n.drivesChanged()
	}
}

// ask retries a drive because somebody wants to know, whatever it said before.
func (ds *drives) ask(ctx context.Context, id fsapi.DriveID) {
	ds.mu.Lock()
	rec, away := ds.recs[id], ds.errs[id] != nil
	ds.mu.Unlock()
	if away && wantedState(rec) != drive.Retired {
		ds.retry(ctx, rec)
	}
}

// lookAfter has what is at risk on drives that were not detached cleanly verified,
// by a job that is on record before the drive is told so.
func (ds *drives) lookAfter(ctx context.Context) {
	ds.mu.Lock()
	unclean := maps.Clone(ds.unclean)
	ds.mu.Unlock()
	for id, d := range unclean {
		since, _ := d.AtRisk()
		_, err := ds.n.upkeep.StartJob(ctx, upkeep.JobVerify, id.String(), since.UTC().Format(time.RFC3339))
		if err == nil {
			err = ds.n.meta.Sync(ctx)
		}
		if err != nil {
			if ctx.Err() == nil {
				ds.n.log.Error("what was written last to a drive cannot be verified yet; trying again", "drive", ds.label(id), "err", err)
			}
			continue
		}
		ds.n.log.Info("a drive was not detached cleanly: what was written to it last is verified", "drive", ds.label(id), "since", since)
		d.Settled()
		ds.mu.Lock()
		if ds.unclean[id] == d {
			delete(ds.unclean, id)
		}
		ds.mu.Unlock()
	}
}

// closed are the records of the drives that could not be opened and are to be tried
// now.
func (ds *drives) closed() (list []meta.DriveRecord) {
	now := ds.n.clock.Now()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for id := range ds.errs {
		if !now.Before(ds.refused[id].until) {
			list = append(list, ds.recs[id])
		}
	}
	return list
}

// unwell are the open drives that failed lately.
func (ds *drives) unwell() (list []*watch.Drive) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, w := range ds.watched {
		if w.Status().State != watch.Online {
			list = append(list, w)
		}
	}
	return list
}

// troubled are the drives of some tiers that take no copies now, by name.
func (ds *drives) troubled(tier func(string) bool) (list []api.DriveTrouble) {
	ds.mu.Lock()
	recs := slices.Collect(maps.Values(ds.recs))
	ds.mu.Unlock()
	for _, rec := range recs {
		if st := ds.state(rec); tier(rec.Tier) && !st.Writable() {
			list = append(list, ds.trouble(rec, st))
		}
	}
	slices.SortFunc(list, func(a, b api.DriveTrouble) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// trouble is what is known of a drive that is in a state.
func (ds *drives) trouble(rec meta.DriveRecord, st drive.State) api.DriveTrouble {
	out := api.DriveTrouble{Name: rec.Name, Tier: rec.Tier, State: st.String()}
	if st != drive.Suspect && st != drive.Offline {
		return out // as an administrator wants it
	}
	ds.mu.Lock()
	next, w, err := ds.next, ds.watched[rec.ID], ds.errs[rec.ID]
	if r := ds.refused[rec.ID]; r.until.After(next) {
		next = r.until
	}
	ds.mu.Unlock()
	if w != nil {
		s := w.Status()
		out.Since, err = &s.Since, s.Last
		if s.RetryAt.After(next) {
			next = s.RetryAt
		}
	}
	if err != nil {
		out.Error = err.Error()
	}
	out.Next = &next
	return out
}

// state is what may be done with a drive: what was observed of it where it is
// away, else what is wanted of it. A retired one stays so.
func (ds *drives) state(rec meta.DriveRecord) drive.State {
	want := wantedState(rec)
	ds.mu.Lock()
	defer ds.mu.Unlock()
	w := ds.watched[rec.ID]
	switch {
	case want == drive.Retired:
		return want
	case w == nil || w.Status().State == watch.Offline:
		return drive.Offline
	case w.Status().State == watch.Suspect && want == drive.Online:
		return drive.Suspect
	}
	return want
}

// settle lets everybody know the drives' states. last is what they were told
// before; where that is nothing, that all drives that are there are online. A drive
// that comes later is news: there may be room on it for what had none.
func (ds *drives) settle(last map[fsapi.DriveID]drive.State) {
	ds.mu.Lock()
	recs := make([]meta.DriveRecord, 0, len(ds.recs))
	for _, rec := range ds.recs {
		recs = append(recs, rec)
	}
	ds.mu.Unlock()
	start := len(last) == 0
	for _, rec := range recs {
		now := ds.state(rec)
		was, known := last[rec.ID]
		last[rec.ID] = now
		if known && was == now || start && now == drive.Online {
			continue
		}
		err := ds.set.SetState(rec.ID, now)
		if was != now && (err == nil || now == drive.Offline || now == drive.Retired) {
			ds.n.log.Info("a drive has another state", "drive", rec.Name, "was", was, "is", now)
		}
		ds.n.upkeep.DriveChanged(rec.ID, now)
		if now == drive.Online {
			ds.n.upkeep.Hurry()
		}
	}
}
