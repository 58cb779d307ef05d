package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

// target is a path of a volume on the command line.
type target struct {
	Path   string `arg:"" help:"Path in the volume."`
	Volume string `help:"Volume (default: the default one)." short:"V"`
}

func (t target) req() api.PathReq { return api.PathReq{Volume: t.Volume, Path: t.Path} }

type policyCmd struct {
	Set   policySetCmd   `cmd:"" help:"Set the policy of a path; what is there already follows in the background."`
	Show  policyShowCmd  `cmd:"" help:"Show a path's own policy, what holds for it, and what is still to come."`
	Unset policyUnsetCmd `cmd:"" help:"Take a path's own policy away."`
}

type policySetCmd struct {
	target
	Policy []string `arg:"" help:"key=value pairs, such as copies=hot:2 compression=zstd-9."`
}

func (c *policySetCmd) Run(g *globals) error {
	text := ""
	for i, p := range c.Policy {
		if i > 0 {
			text += " "
		}
		text += p
	}
	return setPolicy(g, c.target, text)
}

func setPolicy(g *globals, t target, text string) error {
	p, err := client.Call[api.Policy](g.ctx, g.client(), "POST", "/v1/admin/policy", api.PolicySet{Volume: t.Volume, Path: t.Path, Policy: text})
	if err != nil {
		return err
	}
	return g.out.value(p, func(w io.Writer) { printPolicy(w, p) })
}

func printPolicy(w io.Writer, p api.Policy) {
	own := p.Own
	if own == "" {
		own = "(none)"
	}
	fmt.Fprintf(w, "path     %s\nown      %s\nholds    %s\n", p.Path, own, p.Effective)
	for _, j := range p.Relayouts {
		note := strings.TrimSpace(j.Error + " " + j.Note)
		if note != "" {
			note = ": " + note
		}
		fmt.Fprintf(w, "to come  relayout of %s, %s, %s (job %d)%s\n", j.Args[1], j.State, jobDone(j), j.ID, note)
	}
	switch {
	case p.Backlog.Segments > 0:
		fmt.Fprintf(w, "to come  of the whole store %s (strake pending)\n", backlogLine(p.Backlog))
	case len(p.Relayouts) == 0:
		fmt.Fprintln(w, "to come  nothing: no relayout is left to do, and no copies are pending")
	}
}

type policyShowCmd struct{ target }

func (c *policyShowCmd) Run(g *globals) error {
	p, err := client.Call[api.Policy](g.ctx, g.client(), "GET", "/v1/admin/policy", c.req())
	if err != nil {
		return err
	}
	return g.out.value(p, func(w io.Writer) { printPolicy(w, p) })
}

type policyUnsetCmd struct{ target }

func (c *policyUnsetCmd) Run(g *globals) error { return setPolicy(g, c.target, "") }

type quotaCmd struct {
	Set  quotaSetCmd  `cmd:"" help:"Bound a directory; zeros take the bound away."`
	Show quotaShowCmd `cmd:"" help:"Show a directory's bound and use."`
}

type quotaSetCmd struct {
	target
	Bytes  sizeFlag `help:"Most bytes below it." placeholder:"SIZE"`
	Inodes int64    `help:"Most inodes below it."`
}

func (c *quotaSetCmd) Run(g *globals) error {
	q, err := client.Call[api.Quota](g.ctx, g.client(), "POST", "/v1/admin/quota", api.QuotaSet{
		Volume: c.Volume, Path: c.Path, Bytes: int64(c.Bytes), Inodes: c.Inodes,
	})
	if err != nil {
		return err
	}
	return g.out.value(q, func(w io.Writer) { printQuota(w, q) })
}

type quotaShowCmd struct{ target }

func (c *quotaShowCmd) Run(g *globals) error {
	q, err := client.Call[api.Quota](g.ctx, g.client(), "GET", "/v1/admin/quota", c.req())
	if err != nil {
		return err
	}
	return g.out.value(q, func(w io.Writer) { printQuota(w, q) })
}

func printQuota(w io.Writer, q api.Quota) {
	bound := func(n int64, print func(int64) string) string {
		if n == 0 {
			return "no bound"
		}
		return print(n)
	}
	fmt.Fprintf(w, "path    %s\nbytes   %s of %s\ninodes  %d of %s\n", q.Path, size(q.UsedBytes), bound(q.Bytes, size), q.UsedInodes, bound(q.Inodes, count))
}
