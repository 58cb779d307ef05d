package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type pendingCmd struct {
	Limit int `help:"Entries to list." default:"100"`
}

func (c *pendingCmd) Run(g *globals) error {
	l, err := client.Call[api.PendingList](g.ctx, g.client(), "GET", "/v1/admin/pending", api.PendingReq{Limit: c.Limit})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) { printPending(w, l) })
}

func printPending(w io.Writer, l api.PendingList) {
	fmt.Fprintln(w, backlogLine(l.Backlog))
	var t [][]any
	for _, p := range l.Pending {
		what := strings.Join(p.Owed, ", ")
		if len(p.Surplus) > 0 {
			what = strings.TrimPrefix(what+"; to go: "+strings.Join(p.Surplus, ", "), "; ")
		}
		t = append(t, []any{p.Segment, size(p.Size), what, when(p.Since), p.Attempts, when(p.Next), p.Waits, p.Error})
	}
	if len(t) > 0 {
		rows(w, []any{"SEGMENT", "SIZE", "OWED", "SINCE", "FAILED", "NEXT", "WAITS FOR", "LAST ERROR"}, t)
	}
	for _, d := range l.Drives {
		fmt.Fprintln(w, troubleLine(d))
	}
	if l.More {
		fmt.Fprintln(w, "there are more: --limit shows them")
	}
}

// troubleLine says of a drive why it takes no copies.
func troubleLine(d api.DriveTrouble) string {
	line := fmt.Sprintf("drive %s (%s) takes none: it is %s", d.Name, d.Tier, d.State)
	if d.Since != nil {
		line += " since " + when(*d.Since)
	}
	if d.Error != "" {
		line += ": " + d.Error
	}
	if d.Next != nil {
		line += "; it is tried at " + when(*d.Next)
	}
	return line
}

// backlogLine is what is pending, in a line.
func backlogLine(b api.Backlog) string {
	if b.Segments == 0 {
		return "nothing is pending: every segment has the copies it should have"
	}
	line := fmt.Sprintf("%d segments of %s have copies pending", b.Segments, size(b.Bytes))
	if b.Oldest != nil {
		line += ", the oldest since " + when(*b.Oldest)
	}
	if b.Failing > 0 {
		line += fmt.Sprintf("; the last attempt failed for %d", b.Failing)
	}
	return line
}
