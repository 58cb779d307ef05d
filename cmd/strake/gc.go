package main

import (
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type gcCmd struct {
	Now        bool `help:"Do not wait out the delay before deletion."`
	Unreadable bool `help:"Delete also what is dead or has no record, and is too damaged to say what is in it, after all metadata was searched for something that refers to it."`
}

func (c *gcCmd) Run(g *globals) error {
	r, err := client.Call[api.GCReport](g.ctx, g.client(), "POST", "/v1/admin/gc", api.GC{Now: c.Now, Unreadable: c.Unreadable})
	if err != nil {
		return err
	}
	return g.out.value(r, func(w io.Writer) {
		fmt.Fprintf(w, "packed %d frames, swept %d chunks, compacted %d segments, condemned %d, deleted %d (%s), %d orphan files\n",
			r.Packed, r.Swept, r.Compacted, r.Condemned, r.Deleted, size(r.Freed), r.Orphans)
		if r.Unreadable > 0 {
			fmt.Fprintf(w, "%d of them could not be read\n", r.Unreadable)
		}
		for _, k := range r.Kept {
			fmt.Fprintf(w, "kept: %s\n", k)
		}
	})
}
