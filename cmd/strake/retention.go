package main

import (
	"fmt"
	"io"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type retentionCmd struct {
	Show    retentionShowCmd    `cmd:"" help:"Show what holds a file."`
	Set     retentionSetCmd     `cmd:"" help:"Let nobody change or delete a file before a time."`
	Hold    retentionHoldCmd    `cmd:"" help:"Put a legal hold on a file: nobody changes or deletes it until it is released."`
	Release retentionReleaseCmd `cmd:"" help:"Release a legal hold; retention until a time stays."`
}

type retentionShowCmd struct{ target }

func (c *retentionShowCmd) Run(g *globals) error {
	r, err := client.Call[api.Retention](g.ctx, g.client(), "GET", "/v1/admin/retention", c.req())
	if err != nil {
		return err
	}
	return g.out.value(r, func(w io.Writer) { printRetention(w, r) })
}

func printRetention(w io.Writer, r api.Retention) {
	mode, state := r.Mode, "free: it can be changed"
	if mode == "" {
		mode = "none"
	}
	if r.Active {
		state = "held: it cannot be changed, moved or deleted"
	}
	hold := "no"
	if r.Hold {
		hold = "yes"
	}
	fmt.Fprintf(w, "path        %s\nmode        %s\nuntil       %s\nlegal hold  %s\n%s\n", r.Path, mode, when(r.Until), hold, state)
}

type retentionSetCmd struct {
	target
	Mode     string   `help:"governance: the superuser can override it; compliance: nobody can; none: no retention until a time." enum:"governance,compliance,none" required:""`
	For      spanFlag `help:"How long from now, as in 365d." placeholder:"TIME" xor:"end"`
	Until    timeFlag `help:"Until when, as in 2027-01-31T00:00:00Z." placeholder:"TIME" xor:"end"`
	Override bool     `help:"End governance retention sooner."`
}

func (c *retentionSetCmd) Run(g *globals) error {
	end := c.Until.Time
	if end.IsZero() {
		end = c.For.ends().Truncate(time.Second)
	}
	return setRetention(g, api.RetentionSet{Volume: c.Volume, Path: c.Path, Mode: c.Mode, Until: end, Override: c.Override})
}

func setRetention(g *globals, req api.RetentionSet) error {
	r, err := client.Call[api.Retention](g.ctx, g.client(), "POST", "/v1/admin/retention", req)
	if err != nil {
		return err
	}
	return g.out.value(r, func(w io.Writer) { printRetention(w, r) })
}

type retentionHoldCmd struct{ target }

func (c *retentionHoldCmd) Run(g *globals) error { return setHold(g, c.target, true) }

type retentionReleaseCmd struct{ target }

func (c *retentionReleaseCmd) Run(g *globals) error { return setHold(g, c.target, false) }

func setHold(g *globals, t target, on bool) error {
	return setRetention(g, api.RetentionSet{Volume: t.Volume, Path: t.Path, Hold: &on})
}
