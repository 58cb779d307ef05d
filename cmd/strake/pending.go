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
		t = append(t, []any{p.Segment, size(p.Size), what, when(p.Since), p.Attempts, when(p.Next), p.Error})
	}
	if len(t) > 0 {
		rows(w, []any{"SEGMENT", "SIZE", "OWED", "SINCE", "FAILED", "NEXT", "WHY"}, t)
	}
	if l.More {
		fmt.Fprintln(w, "there are more: --limit shows them")
	}
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
