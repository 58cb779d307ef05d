package main

import (
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
)

type writer = io.Writer

type statusCmd struct{}

func (c *statusCmd) Run(g *globals) error {
	s, err := client.Call[api.Status](g.ctx, g.client(), "GET", "/v1/status", nil)
	if err != nil {
		return err
	}
	return g.out.value(s, func(w io.Writer) { printStatus(w, s) })
}

func printStatus(w io.Writer, s api.Status) {
	fmt.Fprintf(w, "strake %s, up since %s\ndata   %s\n", s.Version, when(s.Started), s.DataDir)
	if s.Mount != "" {
		fmt.Fprintf(w, "mount  %s\n", s.Mount)
	}
	if s.Rest != "" {
		fmt.Fprintf(w, "rest   %s\n", s.Rest)
	}
	fmt.Fprintf(w, "meta   %s, batch %d (durable %d, on drives %d), %s\n", s.Metadata.Engine, s.Metadata.LastSeq, s.Metadata.DurableSeq, s.Metadata.BackupSeq, size(s.Metadata.DiskBytes))
	if f := s.Following; f != nil {
		fmt.Fprintf(w, "follows %s, read-only, to batch %d\n", f.URL, f.Seq)
	}
	fmt.Fprintf(w, "write  %s dirty, %s in the journal\n", size(s.Write.DirtyBytes), size(s.Write.JournalBytes))
	fmt.Fprintf(w, "copies %s\n", backlogLine(s.Backlog))
	fmt.Fprintf(w, "cache  %s, %d hits, %d misses\n\n", size(s.Cache.Bytes), s.Cache.Hits, s.Cache.Misses)
	printVolumes(w, s.Volumes)
	fmt.Fprintln(w)
	printDrives(w, s.Drives)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "\nproblem: %s\n", p)
	}
}
