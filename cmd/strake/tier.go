package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type warmupCmd struct {
	target
	Tier string `help:"Tier to bring it to: hot, warm or cold (default: the hottest that the policy names)." enum:",hot,warm,cold" default:""`
}

func (c *warmupCmd) Run(g *globals) error {
	at := c.req()
	var last api.WarmupEvent
	p := newProgress(g)
	err := client.Follow(g.ctx, g.client(), "POST", "/v1/admin/warmup", api.Warmup{Volume: at.Volume, Path: at.Path, Tier: c.Tier}, func(ev api.WarmupEvent) error {
		last = ev
		p.show(fmt.Sprintf("%d files, %d segments", ev.Files, ev.Segments), ev.Promoted+ev.Cached, 0, size)
		if ev.Problem != "" {
			p.clear()
			fmt.Fprintln(os.Stderr, ev.Problem)
		}
		if ev.Error != "" {
			return errors.New(ev.Error)
		}
		return nil
	})
	p.clear()
	if err == nil && !last.End {
		err = errors.New("the server ended before the warmup did: run it again, it goes on where it was")
	}
	if err != nil {
		return err
	}
	if err := g.out.value(last, func(w io.Writer) {
		fmt.Fprintf(w, "%d files in %d segments: %s promoted, %s cached\n", last.Files, last.Segments, size(last.Promoted), size(last.Cached))
	}); err != nil {
		return err
	}
	if last.Failed > 0 {
		return fmt.Errorf("%d segments stay where they are", last.Failed)
	}
	return nil
}

type evictCmd struct {
	Path   string `arg:"" optional:"" help:"Path in the volume (default, with --tier: everything)."`
	Volume string `help:"Volume (default: the default one)." short:"V"`
	Tier   string `help:"Tier to take copies from: hot, warm or cold (default: any that a colder pinned copy stands behind)." enum:",hot,warm,cold" default:""`
}

func (c *evictCmd) Run(g *globals) error {
	if c.Path == "" && c.Tier == "" {
		return errors.New("give a path, or --tier for everything on that tier")
	}
	r, err := client.Call[api.EvictReport](g.ctx, g.client(), "POST", "/v1/admin/evict", api.Evict{Volume: c.Volume, Path: c.Path, Tier: c.Tier})
	if err != nil {
		return err
	}
	return g.out.value(r, func(w io.Writer) {
		fmt.Fprintf(w, "evicted %d copies (%s)\n", r.Copies, size(r.Bytes))
		for _, k := range r.Kept {
			fmt.Fprintf(w, "kept: %s\n", k)
		}
	})
}
