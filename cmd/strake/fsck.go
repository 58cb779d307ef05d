package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/daemon"
)

type fsckCmd struct {
	configFlags
	Shallow bool     `help:"Check records and presence only; do not read every stored byte."`
	Repair  bool     `help:"Mend what can be mended without losing anything."`
	Deep    bool     `help:"With --rebuild: read every stored byte, too, and name what is damaged. Without --rebuild that is done unless --shallow is given."`
	Rebuild bool     `help:"Make the metadata anew from the drives alone; needs no server."`
	Drive   []string `help:"With --rebuild: a drive to read, the path of its directory or the URL of its bucket; may be given several times (default: those inside the data directory and in the configuration)." aliases:"from" placeholder:"DIR|URL" sep:"none"`
	Online  bool     `help:"Ask the running server instead of opening the data directory."`
}

func (c *fsckCmd) Run(g *globals) error {
	v := &verdict{g: g, bar: newProgress(g)}
	defer v.bar.clear()
	req := api.Fsck{Deep: !c.Shallow, Repair: c.Repair}
	if c.Online || g.Server != "" {
		return v.end(client.Follow(g.ctx, g.client(), "POST", "/v1/admin/fsck", req, v.event))
	}
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if c.Rebuild {
		return v.end(daemon.Rebuild(g.ctx, cfg, daemon.Rebuilding{From: absolute(c.Drive), Deep: c.Deep, Ask: password()}, v.event))
	}
	return v.end(daemon.Fsck(g.ctx, cfg, req, v.event))
}

// verdict prints a check's events and remembers how it ended.
type verdict struct {
	g    *globals
	bar  *progress
	last api.FsckEvent
}

func (v *verdict) event(e api.FsckEvent) error {
	if e.End {
		v.last = e
	}
	if v.g.JSON {
		return json.NewEncoder(v.g.out.w).Encode(e)
	}
	switch {
	case e.Problem != "":
		v.bar.clear()
		mended := ""
		if e.Mended {
			mended = " (mended)"
		}
		fmt.Fprintf(v.g.out.w, "problem: %s%s\n", e.Problem, mended)
	case e.AsOf != nil:
		v.bar.clear()
		fmt.Fprintf(v.g.out.w, "the drives have the metadata as of %s; content written later is in lost+found\n", e.AsOf.Format(time.RFC3339))
	case e.Phase != "" && e.Unit == api.UnitBytes:
		v.bar.show(e.Phase, e.Done, e.Total, size)
	case e.Phase != "":
		v.bar.show(e.Phase, e.Done, e.Total, count)
	}
	return nil
}

func (v *verdict) end(err error) error {
	v.bar.clear()
	switch {
	case err != nil:
		return err
	case v.last.Error != "":
		return fmt.Errorf("%s", v.last.Error)
	case !v.last.Clean:
		fmt.Fprintf(os.Stderr, "strake: %d problems\n", v.last.Problems)
		return errProblems
	case !v.g.JSON:
		fmt.Fprintln(v.g.out.w, "clean")
	}
	return nil
}
