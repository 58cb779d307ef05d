package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type driveCmd struct {
	Add driveAddCmd `cmd:"" help:"Add a directory on a disk or NAS, or a bucket, as a drive."`
	Set driveSetCmd `cmd:"" help:"Change a drive."`

	Evacuate driveEvacuateCmd `cmd:"" help:"Move everything on a drive elsewhere."`
	Remove   driveRemoveCmd   `cmd:"" help:"Forget a drive; refused while it holds the only copy of anything."`
	Replicas driveReplicasCmd `cmd:"" help:"List what a drive holds of segments."`
	List     driveListCmd     `cmd:"" help:"List drives."`
	Show     driveShowCmd     `cmd:"" help:"Show one drive; one that is away is tried at once."`
	Only     driveOnlyCmd     `cmd:"" help:"Show what on a drive has no other readable copy."`
}

type driveAddCmd struct {
	Name    string   `arg:"" help:"Name for the drive."`
	Path    string   `arg:"" help:"Directory on it, made if missing; or the URL of a bucket, as in s3://BUCKET/PREFIX."`
	Tier    string   `help:"hot, warm or cold." default:"hot" enum:"hot,warm,cold"`
	Domain  string   `help:"Failure domain: drives of one domain fail together. A path such as rack1/node2 spreads over racks first (default: the drive's name)."`
	Reserve sizeFlag `help:"Space to leave free on it." placeholder:"SIZE"`

	Quota    sizeFlag      `help:"Bytes that may be used." placeholder:"SIZE"`
	Rate     sizeFlag      `help:"Bytes per second." placeholder:"SIZE"`
	Calls    int           `help:"Calls at a time." placeholder:"N"`
	Deadline time.Duration `help:"Time after which a call is given up." placeholder:"TIME"`
	Spindown bool          `help:"Let the disk rest: upkeep touches it in batches only, reads take other copies first."`
	Cache    sizeFlag      `help:"Keep so much of what is read from it on a local disk." placeholder:"SIZE"`
	TakeOver bool          `help:"Claim a place that belongs to another store or another copy of this one, which is gone for good: two stores in one place destroy each other's data. Nothing is removed from it."`
}

func (c *driveAddCmd) Run(g *globals) error {
	path, err := drivePath(c.Path)
	if err != nil {
		return err
	}
	d, err := client.Call[api.Drive](g.ctx, g.client(), "POST", "/v1/admin/drives", api.DriveAdd{
		Name: c.Name, Path: path, Tier: c.Tier, Domain: c.Domain, Reserve: int64(c.Reserve), TakeOver: c.TakeOver,
		DriveLimits: api.DriveLimits{Quota: int64(c.Quota), Rate: int64(c.Rate), Calls: c.Calls, Deadline: c.Deadline, Spindown: c.Spindown, Cache: int64(c.Cache)},
	})
	if err != nil {
		return err
	}
	return g.out.done(d, "added drive %s (%s) with %s available", d.Name, d.ID, size(d.Avail))
}

// drivePath makes a directory absolute; a URL stays as it is.
func drivePath(path string) (string, error) {
	if strings.Contains(path, "://") {
		return path, nil
	}
	return filepath.Abs(path)
}

type driveSetCmd struct {
	Name     string         `arg:"" help:"Name of the drive."`
	Rename   *string        `help:"Another name." placeholder:"NAME"`
	Path     *string        `help:"Where it is now, after a disk was mounted elsewhere. Its identity must be the same." placeholder:"PATH"`
	Tier     *string        `help:"hot, warm or cold." placeholder:"TIER"`
	Domain   *string        `help:"Failure domain." placeholder:"DOMAIN"`
	State    *string        `help:"online or readonly." placeholder:"STATE"`
	Reserve  *sizeFlag      `help:"Space to leave free on it." placeholder:"SIZE"`
	Quota    *sizeFlag      `help:"Bytes that may be used; 0: no bound." placeholder:"SIZE"`
	Rate     *sizeFlag      `help:"Bytes per second; 0: no bound." placeholder:"SIZE"`
	Calls    *int           `help:"Calls at a time; 0: the default." placeholder:"N"`
	Deadline *time.Duration `help:"Time after which a call is given up; 0: the default." placeholder:"TIME"`
	Spindown *bool          `help:"Let the disk rest." negatable:""`
	Cache    *sizeFlag      `help:"Keep so much of what is read from it on a local disk; 0: nothing." placeholder:"SIZE"`
	TakeOver bool           `help:"Claim its place back from another store, or another copy of this one, that took it over."`
}

func (c *driveSetCmd) Run(g *globals) error {
	req := api.DriveSet{
		Name: c.Name, Rename: c.Rename, Path: c.Path, Tier: c.Tier, Domain: c.Domain, State: c.State, Reserve: (*int64)(c.Reserve),
		Quota: (*int64)(c.Quota), Rate: (*int64)(c.Rate), Calls: c.Calls, Deadline: c.Deadline, Spindown: c.Spindown, Cache: (*int64)(c.Cache), TakeOver: c.TakeOver,
	}
	if c.Path != nil {
		path, err := drivePath(*c.Path)
		if err != nil {
			return err
		}
		req.Path = &path
	}
	d, err := client.Call[api.Drive](g.ctx, g.client(), "POST", "/v1/admin/drives/set", req)
	if err != nil {
		return err
	}
	return g.out.done(d, "drive %s is %s on tier %s, %s available", d.Name, d.State, d.Tier, size(d.Avail))
}

type driveListCmd struct{}

func (c *driveListCmd) Run(g *globals) error {
	l, err := client.Call[api.Drives](g.ctx, g.client(), "GET", "/v1/admin/drives", nil)
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) { printDrives(w, l.Drives) })
}

func printDrives(w io.Writer, ds []api.Drive) {
	var t [][]any
	for _, d := range ds {
		t = append(t, []any{d.Name, d.Tier, d.State, size(d.Bytes), size(d.Avail), size(d.Total), d.Domain, d.Where})
	}
	rows(w, []any{"DRIVE", "TIER", "STATE", "SEGMENTS", "AVAIL", "SIZE", "DOMAIN", "WHERE"}, t)
	for _, d := range ds {
		if d.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", d.Name, d.Error)
		}
	}
}

type driveShowCmd struct {
	Name string `arg:"" help:"Name of the drive."`
}

func (c *driveShowCmd) Run(g *globals) error {
	d, err := client.Call[api.Drive](g.ctx, g.client(), "GET", "/v1/admin/drives/show", api.Named{Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.value(d, func(w io.Writer) {
		fmt.Fprintf(w, "name      %s\nid        %s\nkind      %s\nwhere     %s\ntier      %s\ndomain    %s\nstate     %s %s\nsegments  %d, %s\ncapacity  %s used of %s, %s available, %s reserved\ncache     %s of %s\n",
			d.Name, d.ID, d.Kind, d.Where, d.Tier, d.Domain, d.State, d.Error, d.Segments, size(d.Bytes), size(d.Used), size(d.Total), size(d.Avail), size(d.Reserve), size(d.Cached), size(d.Cache))
		for _, l := range [][2]string{{"latency", latencyText(d.Latency)}, {"limits", limitsText(d.DriveLimits)}} {
			if l[1] != "" {
				fmt.Fprintf(w, "%-9s %s\n", l[0], l[1])
			}
		}
	})
}

// latencyText is what calls took lately, those first that people wait for.
func latencyText(took map[string]time.Duration) string {
	var parts []string
	for _, call := range []string{"read", "write", "commit", "stat", "delete"} {
		if d, ok := took[call]; ok {
			parts = append(parts, call+" "+d.Round(10*time.Microsecond).String())
		}
	}
	return strings.Join(parts, ", ")
}

// limitsText is how the use of a drive is bounded, as far as it is.
func limitsText(l api.DriveLimits) string {
	var parts []string
	for _, p := range []struct {
		set  bool
		text string
	}{
		{l.Quota > 0, "quota " + size(l.Quota)}, {l.Rate > 0, "rate " + size(l.Rate) + "/s"}, {l.Calls > 0, fmt.Sprintf("%d calls at a time", l.Calls)},
		{l.Deadline > 0, "deadline " + l.Deadline.String()}, {l.Spindown, "spins down"},
	} {
		if p.set {
			parts = append(parts, p.text)
		}
	}
	return strings.Join(parts, ", ")
}

type driveEvacuateCmd struct {
	Name string `arg:"" help:"Name of the drive."`
}

func (c *driveEvacuateCmd) Run(g *globals) error {
	d, err := client.Call[api.Drive](g.ctx, g.client(), "POST", "/v1/admin/drives/evacuate", api.Named{Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.done(d, "drive %s is %s: a job moves %d segments of %s elsewhere (strake job list)", d.Name, d.State, d.Segments, size(d.Bytes))
}

type driveRemoveCmd struct {
	Name string `arg:"" help:"Name of the drive."`
	Lose bool   `help:"Even if data is lost with it."`
}

func (c *driveRemoveCmd) Run(g *globals) error {
	d, err := client.Call[api.Drive](g.ctx, g.client(), "POST", "/v1/admin/drives/remove", api.DriveRemove{Name: c.Name, Lose: c.Lose})
	if err != nil {
		return err
	}
	if d.Error != "" {
		return g.out.done(d, "drive %s: %s", d.Name, d.Error)
	}
	return g.out.done(d, "drive %s is %s", d.Name, d.State)
}

type driveReplicasCmd struct {
	Name  string `arg:"" help:"Name of the drive."`
	Limit int    `help:"Entries to list; 0: all." default:"1000"`
}

func (c *driveReplicasCmd) Run(g *globals) error {
	l := api.Replicas{Replicas: []api.Replica{}}
	var err error
	l.More, err = pages(c.Limit, func(limit int) (int, bool, error) {
		req := api.ReplicasReq{Name: c.Name, Limit: limit}
		if n := len(l.Replicas); n > 0 {
			req.After = l.Replicas[n-1].Segment
		}
		page, err := client.Call[api.Replicas](g.ctx, g.client(), "GET", "/v1/admin/drives/replicas", req)
		l.Replicas = append(l.Replicas, page.Replicas...)
		return len(l.Replicas), page.More, err
	})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, r := range l.Replicas {
			t = append(t, []any{r.Blob, size(r.Bytes), size(r.Live), survivesText(r.Survives)})
		}
		rows(w, []any{"BLOB", "SIZE", "LIVE IN SEGMENT", "SURVIVES LOSS OF"}, t)
		if l.More {
			fmt.Fprintln(w, "there are more: --limit shows them")
		}
	})
}

type driveOnlyCmd struct {
	Name string `arg:"" help:"Name of the drive."`
}

func (c *driveOnlyCmd) Run(g *globals) error {
	o, err := client.Call[api.OnlyHere](g.ctx, g.client(), "GET", "/v1/admin/drives/only", api.Named{Name: c.Name})
	if err != nil {
		return err
	}
	return g.out.value(o, func(w io.Writer) {
		fmt.Fprintf(w, "%d segments with %s of live data cannot be read without drive %s\n", o.Segments, size(o.Bytes), c.Name)
		for _, s := range o.Listed {
			fmt.Fprintf(w, "segment %s of volume %s: %s\n", s.Segment, s.Volume, strings.Join(s.Files, ", "))
		}
	})
}
