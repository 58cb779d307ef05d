package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type pendingCmd struct {
	Limit int `help:"Entries to list; 0: all." default:"100"`
}

func (c *pendingCmd) Run(g *globals) error {
	l := api.PendingList{Pending: []api.Pending{}}
	var err error
	l.More, err = pages(c.Limit, func(limit int) (int, bool, error) {
		req := api.PendingReq{Limit: limit}
		if n := len(l.Pending); n > 0 {
			req.After = l.Pending[n-1].Segment
		}
		page, err := client.Call[api.PendingList](g.ctx, g.client(), "GET", "/v1/admin/pending", req)
		l.Backlog, l.Pending = page.Backlog, append(l.Pending, page.Pending...)
		for _, d := range page.Drives {
			if !slices.ContainsFunc(l.Drives, func(o api.DriveTrouble) bool { return o.Name == d.Name }) {
				l.Drives = append(l.Drives, d)
			}
		}
		return len(l.Pending), page.More, err
	})
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) { printPending(w, l) })
}

// pageSize is how many entries of a list are asked for at a time.
const pageSize = 1000

// pages reads a list until it has so many entries, 0 for all, and says whether there
// are more. next reads up to limit of them, and returns how many there are now and
// whether more follow.
func pages(want int, next func(limit int) (have int, more bool, err error)) (bool, error) {
	if want < 0 {
		return false, fmt.Errorf("--limit=%d: want a number of entries, or 0 for all", want)
	}
	for have := 0; ; {
		limit := pageSize
		if want > 0 {
			limit = min(limit, want-have)
		}
		now, more, err := next(limit)
		if err != nil || !more || now == have || want > 0 && now >= want {
			return more, err
		}
		have = now
	}
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
