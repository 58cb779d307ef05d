package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type infoCmd struct{ target }

func (c *infoCmd) Run(g *globals) error {
	i, err := client.Call[api.Info](g.ctx, g.client(), "GET", "/v1/admin/info", c.req())
	if err != nil {
		return err
	}
	return g.out.value(i, func(w io.Writer) {
		fmt.Fprintf(w, "path    %s\nvolume  %s\ninode   %d\ntype    %s\nsize    %s (%s stored ranges)\n", i.Path, i.Volume, i.Ino, i.Type, size(i.Size), size(i.Used))
		if i.Type == "directory" {
			fmt.Fprintf(w, "holds   %d files, %d directories\n", i.Files, i.Dirs)
		} else {
			fmt.Fprintf(w, "chunks  %d\n", i.Chunks)
		}
		fmt.Fprintf(w, "policy  %s\n", i.Policy)
	})
}

type explainCmd struct {
	target
	Chunks bool `help:"Each chunk by itself, not what lies side by side in a line."`
}

func (c *explainCmd) Run(g *globals) error {
	x, err := client.Call[api.Explain](g.ctx, g.client(), "GET", "/v1/admin/explain", c.req())
	if err != nil {
		return err
	}
	return g.out.value(x, func(w io.Writer) { printExplain(w, x, c.Chunks) })
}

func printExplain(w io.Writer, x api.Explain, chunks bool) {
	fmt.Fprintf(w, "%s: inode %d, %s, %s used, %s not stored yet\npolicy %s\n\n", x.Path, x.Ino, size(x.Size), size(x.Used), size(x.Dirty), x.Policy)
	if chunks {
		printChunks(w, x.Extents)
	} else {
		printRuns(w, x.Extents)
	}
	if len(x.Segments) == 0 {
		return
	}
	fmt.Fprintln(w)
	var t [][]any
	for _, s := range x.Segments {
		var copies []string
		for _, c := range s.Copies {
			copies = append(copies, copyText(c))
		}
		t = append(t, []any{s.ID, size(s.Size), size(s.Live), strings.Join(copies, "; "), survivesText(s.Survives), stillToCome(s.Pending)})
	}
	rows(w, []any{"SEGMENT", "SIZE", "LIVE", "COPIES", "SURVIVES LOSS OF", "STILL TO COME"}, t)
}

func printChunks(w io.Writer, extents []api.ExplainExtent) {
	var t [][]any
	for _, e := range extents {
		t = append(t, []any{e.Off, e.Len, e.Kind, short(e.Chunk), fmt.Sprintf("%d+%d", e.ChunkOff, e.ChunkLen), where(e)})
	}
	rows(w, []any{"OFFSET", "LENGTH", "KIND", "CHUNK", "IN CHUNK", "LIES AT"}, t)
}

// printRuns prints extents that follow each other in the file, and in what they lie
// in, as one.
func printRuns(w io.Writer, extents []api.ExplainExtent) {
	var t [][]any
	for len(extents) > 0 {
		n := 1
		for n < len(extents) && follows(extents[n-1], extents[n]) {
			n++
		}
		first, last := extents[0], extents[n-1]
		run := first
		run.Stored = last.SegOff + last.Stored - first.SegOff
		chunks := ""
		if first.Chunk != "" {
			chunks = fmt.Sprint(n)
		}
		t = append(t, []any{first.Off, last.Off + last.Len - first.Off, first.Kind, chunks, where(run)})
		extents = extents[n:]
	}
	rows(w, []any{"OFFSET", "LENGTH", "KIND", "CHUNKS", "LIES AT"}, t)
}

// follows reports whether b goes on where a ends.
func follows(a, b api.ExplainExtent) bool {
	return a.Off+a.Len == b.Off && a.Kind == b.Kind && a.Journal == b.Journal && a.Segment == b.Segment && (a.Chunk == "") == (b.Chunk == "") &&
		(a.Journal || a.Segment == "" || a.SegOff+a.Stored == b.SegOff)
}

// copyText is one copy: its tier, its layout where that is shards, its drives.
func copyText(c api.ExplainCopy) string {
	drives := make([]string, len(c.Drives))
	for i, d := range c.Drives {
		if drives[i] = d; d == "" {
			drives[i] = "(missing)"
		}
	}
	tier := c.Tier
	if strings.Contains(c.Layout, "+") {
		tier += " " + c.Layout
	}
	return tier + ": " + strings.Join(drives, ", ")
}

func survivesText(n int) string {
	switch {
	case n < 0:
		return "cannot be read now"
	case n == 1:
		return "1 drive"
	}
	return fmt.Sprintf("%d drives", n)
}

// stillToCome is what is pending of a segment.
func stillToCome(p *api.Pending) string {
	if p == nil {
		return ""
	}
	text := strings.Join(p.Owed, ", ")
	if p.Error != "" {
		text += fmt.Sprintf(" (%d attempts failed: %s)", p.Attempts, p.Error)
	}
	return text
}

func where(e api.ExplainExtent) string {
	switch {
	case e.Journal:
		return "journal"
	case e.Segment == "":
		return "metadata"
	}
	return fmt.Sprintf("%s+%d (%d bytes)", e.Segment, e.SegOff, e.Stored)
}

func short(id string) string {
	if len(id) > 16 {
		return id[:16]
	}
	return id
}
