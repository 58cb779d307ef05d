package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

type snapshotCmd struct {
	Create   snapshotCreateCmd   `cmd:"" help:"Keep the volume as it is now, in no time and, at first, no space."`
	List     snapshotListCmd     `cmd:"" help:"List snapshots, the oldest first."`
	Show     snapshotShowCmd     `cmd:"" help:"Show one snapshot."`
	Diff     snapshotDiffCmd     `cmd:"" help:"Show what differs between a snapshot and a newer one, or the present."`
	Restore  snapshotRestoreCmd  `cmd:"" help:"Make the volume, or a path, what it was; a snapshot is taken before."`
	Delete   snapshotDeleteCmd   `cmd:"" help:"Give a snapshot up; its space is released in the background."`
	Schedule snapshotScheduleCmd `cmd:"" help:"Snapshots taken by the clock."`
}

// spanFlag is a time such as 90m, 24h or 365d.
type spanFlag time.Duration

// UnmarshalText reads the flag.
func (f *spanFlag) UnmarshalText(text []byte) error {
	d, err := policy.ParseSpan(string(text))
	*f = spanFlag(d)
	return err
}

// ends is that long from now; zero where the flag was not given.
func (f spanFlag) ends() time.Time {
	if f == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(f))
}

type snapshotCreateCmd struct {
	Name    string   `arg:"" help:"Name."`
	Volume  string   `help:"Volume." short:"V"`
	KeepFor spanFlag `help:"Let nobody delete it before this time has passed, as in 30d." placeholder:"TIME"`
}

func (c *snapshotCreateCmd) Run(g *globals) error {
	s, err := client.Call[api.Snapshot](g.ctx, g.client(), "POST", "/v1/admin/snapshots", api.SnapshotCreate{Volume: c.Volume, Name: c.Name, Until: c.KeepFor.ends()})
	if err != nil {
		return err
	}
	return g.out.done(s, "snapshot %s is at .strake/snapshots/%s", s.Name, s.Name)
}

type snapshotListCmd struct {
	Volume string `help:"Volume." short:"V"`
}

func (c *snapshotListCmd) Run(g *globals) error {
	l, err := client.Call[api.Snapshots](g.ctx, g.client(), "GET", "/v1/admin/snapshots", api.VolumeReq{Volume: c.Volume})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, s := range l.Snapshots {
			t = append(t, []any{s.Name, when(s.Created), size(s.Held), when(s.Until), snapshotState(s)})
		}
		rows(w, []any{"NAME", "CREATED", "HOLDS", "KEPT UNTIL", ""}, t)
	})
}

func snapshotState(s api.Snapshot) string {
	switch {
	case s.Deleting:
		return "being deleted"
	case s.Auto:
		return "automatic"
	}
	return ""
}

type snapshotShowCmd struct {
	Name   string `arg:"" help:"Name."`
	Volume string `help:"Volume." short:"V"`
}

func (c *snapshotShowCmd) Run(g *globals) error {
	s, err := client.Call[api.Snapshot](g.ctx, g.client(), "GET", "/v1/admin/snapshots/show", api.SnapshotReq{Volume: c.Volume, Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.value(s, func(w io.Writer) {
		fmt.Fprintf(w, "name        %s\nnumber      %d\ncreated     %s\nholds       %s that the volume does not have any more\nkept until  %s\n",
			s.Name, s.ID, when(s.Created), size(s.Held), when(s.Until))
	})
}

type snapshotDiffCmd struct {
	From   string `arg:"" help:"The older snapshot."`
	To     string `arg:"" optional:"" help:"The newer snapshot (default: the present)."`
	Volume string `help:"Volume." short:"V"`
}

func (c *snapshotDiffCmd) Run(g *globals) error {
	ended := false
	err := client.Follow(g.ctx, g.client(), "GET", "/v1/admin/snapshots/diff", api.SnapshotDiff{Volume: c.Volume, From: c.From, To: c.To}, func(d api.Difference) error {
		ended = ended || d.End
		switch {
		case d.Error != "":
			return errors.New(d.Error)
		case g.JSON:
			return json.NewEncoder(g.out.w).Encode(d)
		case d.End:
			return nil
		}
		slash := ""
		if d.Type == "directory" && d.Path != "/" {
			slash = "/"
		}
		if d.From != "" {
			fmt.Fprintf(g.out.w, "%-8s  %s%s -> %s%s\n", d.Kind, d.From, slash, d.Path, slash)
			return nil
		}
		fmt.Fprintf(g.out.w, "%-8s  %s%s\n", d.Kind, d.Path, slash)
		return nil
	})
	if err == nil && !ended {
		err = errCutShort
	}
	return err
}

var errCutShort = errors.New("the server's answer was cut short")

type snapshotRestoreCmd struct {
	Name   string `arg:"" help:"Name of the snapshot."`
	Path   string `arg:"" optional:"" help:"File or directory to restore (default: everything)."`
	To     string `help:"Make a copy at this path instead of restoring in place." placeholder:"PATH"`
	Volume string `help:"Volume." short:"V"`
}

func (c *snapshotRestoreCmd) Run(g *globals) error {
	return followCopy(g, "/v1/admin/snapshots/restore", api.SnapshotRestore{Volume: c.Volume, Name: c.Name, Path: c.Path, To: c.To})
}

// followCopy shows how a restore or clone comes along, and what it did.
func followCopy(g *globals, path string, req any) error {
	bar := newProgress(g)
	defer bar.clear()
	var last api.CopyEvent
	err := client.Follow(g.ctx, g.client(), "POST", path, req, func(e api.CopyEvent) error {
		last = e
		if e.Error != "" {
			return errors.New(e.Error)
		}
		if g.JSON {
			return json.NewEncoder(g.out.w).Encode(e)
		}
		bar.show("inodes", e.Seen, 0, count)
		return nil
	})
	bar.clear()
	switch {
	case err != nil:
		return err
	case !last.End:
		return errCutShort
	case g.JSON:
		return nil
	}
	fmt.Fprintf(g.out.w, "%d inodes: %d made or changed, %d names removed\n", last.Seen, last.Changed, last.Removed)
	if last.Before != "" {
		fmt.Fprintf(g.out.w, "how it was before is snapshot %s\n", last.Before)
	}
	for _, p := range last.Kept {
		fmt.Fprintf(g.out.w, "under retention, as it is: %s\n", p)
	}
	return nil
}

type snapshotDeleteCmd struct {
	Name   string `arg:"" help:"Name."`
	Volume string `help:"Volume." short:"V"`
}

func (c *snapshotDeleteCmd) Run(g *globals) error {
	e, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/snapshots/delete", api.SnapshotReq{Volume: c.Volume, Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.done(e, "gave up snapshot %s", c.Name)
}

type snapshotScheduleCmd struct {
	List  scheduleListCmd  `cmd:"" help:"List the schedules of all volumes."`
	Set   scheduleSetCmd   `cmd:"" help:"Set how many snapshots of each period are kept of a volume."`
	Unset scheduleUnsetCmd `cmd:"" help:"Take no more snapshots of a volume by the clock; those there are stay."`
}

type scheduleListCmd struct{}

func (c *scheduleListCmd) Run(g *globals) error {
	l, err := client.Call[api.Schedules](g.ctx, g.client(), "GET", "/v1/admin/snapshots/schedules", api.Empty{})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, s := range l.Schedules {
			t = append(t, []any{s.Volume, s.Hourly, s.Daily, s.Weekly, s.Monthly})
		}
		rows(w, []any{"VOLUME", "HOURLY", "DAILY", "WEEKLY", "MONTHLY"}, t)
	})
}

type scheduleSetCmd struct {
	Volume  string `help:"Volume." short:"V"`
	Hourly  int    `help:"Hourly snapshots to keep."`
	Daily   int    `help:"Daily snapshots to keep."`
	Weekly  int    `help:"Weekly snapshots to keep."`
	Monthly int    `help:"Monthly snapshots to keep."`
}

func (c *scheduleSetCmd) Run(g *globals) error {
	if c.Hourly == 0 && c.Daily == 0 && c.Weekly == 0 && c.Monthly == 0 {
		return fsapi.Errorf(fsapi.Invalid, "say how many to keep, as in --hourly 24 --daily 7; 'strake snapshot schedule unset' ends a schedule")
	}
	return setSchedule(g, api.Schedule{Volume: c.Volume, Hourly: c.Hourly, Daily: c.Daily, Weekly: c.Weekly, Monthly: c.Monthly})
}

type scheduleUnsetCmd struct {
	Volume string `help:"Volume." short:"V"`
}

func (c *scheduleUnsetCmd) Run(g *globals) error {
	return setSchedule(g, api.Schedule{Volume: c.Volume})
}

func setSchedule(g *globals, s api.Schedule) error {
	s, err := client.Call[api.Schedule](g.ctx, g.client(), "POST", "/v1/admin/snapshots/schedules", s)
	if err != nil {
		return err
	}
	return g.out.done(s, "volume %s keeps %d hourly, %d daily, %d weekly and %d monthly snapshots", s.Volume, s.Hourly, s.Daily, s.Weekly, s.Monthly)
}

type cloneCmd struct {
	From   string `arg:"" help:"File or directory; below .strake/snapshots/NAME, as it was then."`
	To     string `arg:"" help:"Where the copy is made; nothing may be there."`
	Volume string `help:"Volume." short:"V"`
}

func (c *cloneCmd) Run(g *globals) error {
	return followCopy(g, "/v1/admin/clone", api.Clone{Volume: c.Volume, From: c.From, To: c.To})
}
