package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/api"
)

// TestExplainRuns: what lies side by side is one line, and nothing else is.
func TestExplainRuns(t *testing.T) {
	x := api.Explain{Extents: []api.ExplainExtent{
		{Off: 0, Len: 100, Kind: "data", Chunk: "a", Segment: "s1", SegOff: 64, Stored: 120},
		{Off: 100, Len: 50, Kind: "data", Chunk: "b", Segment: "s1", SegOff: 184, Stored: 60},
		{Off: 150, Len: 10, Kind: "data", Chunk: "c", Segment: "s1", SegOff: 1000, Stored: 20},
		{Off: 160, Len: 10, Kind: "data", Chunk: "d", Segment: "s2", SegOff: 1020, Stored: 20},
		{Off: 180, Len: 10, Kind: "data", Chunk: "e", Segment: "s2", SegOff: 1040, Stored: 20}, // behind a hole
		{Off: 190, Len: 5, Kind: "inline"},
	}}
	for chunks, want := range map[bool][]string{
		false: {"0 150 data 2 s1+64 (180 bytes)", "150 10 data 1 s1+1000 (20 bytes)", "160 10 data 1 s2+1020 (20 bytes)", "180 10 data 1 s2+1040 (20 bytes)", "190 5 inline metadata"},
		true:  {"0 100 data a 0+0 s1+64 (120 bytes)", "100 50 data b 0+0 s1+184 (60 bytes)", "150 10 data c 0+0 s1+1000 (20 bytes)", "160 10 data d 0+0 s2+1020 (20 bytes)", "180 10 data e 0+0 s2+1040 (20 bytes)", "190 5 inline 0+0 metadata"},
	} {
		var b bytes.Buffer
		printExplain(&b, x, chunks)
		var got []string
		for line := range strings.Lines(b.String()) {
			if text := strings.Join(strings.Fields(line), " "); text != "" && text[0] >= '0' && text[0] <= '9' {
				got = append(got, text)
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("chunks %v:\n%s\nwant\n%s", chunks, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
