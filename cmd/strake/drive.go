package main

import (
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type driveCmd struct {
	Add  driveAddCmd  `cmd:"" help:"Add a directory on a disk or NAS as a drive."`
	List driveListCmd `cmd:"" help:"List drives."`
	Show driveShowCmd `cmd:"" help:"Show one drive."`
}

type driveAddCmd struct {
	Name    string   `arg:"" help:"Name for the drive."`
	Path    string   `arg:"" type:"path" help:"Directory on it; made if missing."`
	Tier    string   `help:"hot, warm or cold." default:"hot" enum:"hot,warm,cold"`
	Domain  string   `help:"Failure domain: drives of one domain fail together (default: the drive's name)."`
	Reserve sizeFlag `help:"Space to leave free on it." placeholder:"SIZE"`

	Spindown bool     `help:"It sleeps while it is not used: gather upkeep's work for it, read other copies first."`
	Cache    sizeFlag `help:"Keep so much of what is read from it on a local disk." placeholder:"SIZE"`
}

func (c *driveAddCmd) Run(g *globals) error {
	d, err := client.Call[api.Drive](g.ctx, g.client(), "POST", "/v1/admin/drives", api.DriveAdd{
		Name: c.Name, Path: c.Path, Tier: c.Tier, Domain: c.Domain, Reserve: int64(c.Reserve), Spindown: c.Spindown, Cache: int64(c.Cache),
	})
	if err != nil {
		return err
	}
	return g.out.done(d, "added drive %s (%s) with %s available", d.Name, d.ID, size(d.Avail))
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
		fmt.Fprintf(w, "name      %s\nid        %s\nkind      %s\nwhere     %s\ntier      %s\ndomain    %s\nstate     %s %s\nsegments  %d, %s\ncapacity  %s used of %s, %s available, %s reserved\n",
			d.Name, d.ID, d.Kind, d.Where, d.Tier, d.Domain, d.State, d.Error, d.Segments, size(d.Bytes), size(d.Used), size(d.Total), size(d.Avail), size(d.Reserve))
	})
}
