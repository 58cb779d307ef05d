package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// Schedules are settings, by the number of the volume, in JSON.

func scheduleSetting(id fsapi.VolumeID) string { return fmt.Sprintf("schedule/%d", id) }

// schedule is the schedule of a volume; zero where it has none.
func (n *Node) schedule(ctx context.Context, id fsapi.VolumeID) (s policy.Schedule, err error) {
	b, err := n.meta.Setting(ctx, scheduleSetting(id))
	if errors.Is(err, fsapi.NotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fsapi.Wrap(fsapi.Corrupt, err, "read the schedule of volume "+fmt.Sprint(id))
	}
	return s, nil
}

func (n *Node) listSchedules(ctx context.Context, _ api.Empty) (api.Schedules, error) {
	out := api.Schedules{Schedules: []api.Schedule{}}
	for _, v := range n.volumes.all() {
		s, err := n.schedule(ctx, v.id)
		if err != nil {
			return out, err
		}
		if !s.IsZero() {
			out.Schedules = append(out.Schedules, api.Schedule{Volume: v.name(), Hourly: s.Hourly, Daily: s.Daily, Weekly: s.Weekly, Monthly: s.Monthly})
		}
	}
	return out, nil
}

// setSchedule sets or (zeros) unsets a volume's schedule, and takes at once
// what is due by it.
func (n *Node) setSchedule(ctx context.Context, req api.Schedule) (api.Schedule, error) {
	v, err := n.volumes.get(req.Volume)
	if err != nil {
		return api.Schedule{}, err
	}
	s := policy.Schedule{Hourly: req.Hourly, Daily: req.Daily, Weekly: req.Weekly, Monthly: req.Monthly}
	if err := s.Validate(); err != nil {
		return api.Schedule{}, err
	}
	req.Volume = v.name()
	if s.IsZero() {
		return req, n.meta.DeleteSetting(ctx, scheduleSetting(v.id))
	}
	b, err := json.Marshal(s)
	if err != nil {
		return api.Schedule{}, fsapi.Wrap(fsapi.Other, err, "encode the schedule")
	}
	if err := n.meta.PutSetting(ctx, scheduleSetting(v.id), b); err != nil {
		return api.Schedule{}, err
	}
	return req, n.keepSchedule(ctx, v)
}

// scheduleEvery is how often schedules are looked at.
const scheduleEvery = time.Minute

// keepSchedules takes and gives up snapshots as the schedules say. What was
// missed while the server did not run is made up for once.
func (n *Node) keepSchedules(ctx context.Context) error {
	for {
		for _, v := range n.volumes.all() {
			if err := n.keepSchedule(ctx, v); err != nil && ctx.Err() == nil {
				n.log.Error("snapshots could not be taken as scheduled; it is tried again", "volume", v.name(), "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.clock.After(scheduleEvery):
		}
	}
}

// keepSchedule does for a volume what is due.
func (n *Node) keepSchedule(ctx context.Context, v *volume) error {
	s, err := n.schedule(ctx, v.id)
	if err != nil || s.IsZero() {
		return err
	}
	list, err := v.local.Snapshots(ctx)
	if err != nil {
		return err
	}
	now := n.clock.Now()
	slot := s.Slot(now)
	taken := []time.Time{slot}
	due := true
	for _, old := range list {
		t, ok := policy.ParseSlotName(old.Name)
		switch {
		case !ok || !old.Auto || old.Deleting:
		case t.Equal(slot):
			due = false
		default:
			taken = append(taken, t)
		}
	}
	if due {
		if _, err := v.local.CreateSnapshot(ctx, admin, vfs.Snapshot{Name: policy.SlotName(slot), Auto: true}); err != nil && !errors.Is(err, fsapi.Exist) {
			return err
		}
	}
	for _, t := range s.Surplus(taken, now) {
		if err := v.local.DeleteSnapshot(ctx, admin, policy.SlotName(t)); err != nil && !errors.Is(err, fsapi.NotExist) && !errors.Is(err, fsapi.Immutable) {
			return err
		}
	}
	return nil
}
