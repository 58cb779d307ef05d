package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/daemon"
)

type debugCmd struct {
	Kv      debugKvCmd      `cmd:"" name:"kv" help:"Print metadata records; the server must be down."`
	Segment debugSegmentCmd `cmd:"" help:"Print a segment's header and directory; the server must be down."`
	Frame   debugFrameCmd   `cmd:"" help:"Print one frame's header, or its decoded bytes; the server must be down."`
}

type debugKvCmd struct {
	configFlags
	Prefix string `help:"Only keys that start with these hexadecimal bytes." placeholder:"HEX"`
	Limit  int    `help:"Most records to print (0: all)." default:"1000"`
}

func (c *debugKvCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	return daemon.DebugKV(g.ctx, cfg, c.Prefix, c.Limit, func(r daemon.DebugRecord) error {
		if g.JSON {
			return json.NewEncoder(g.out.w).Encode(r)
		}
		_, err := fmt.Fprintf(g.out.w, "%s %s = %s\n", r.Table, r.Key, r.Value)
		return err
	})
}

type debugSegmentCmd struct {
	configFlags
	ID string `arg:"" help:"Segment id."`
}

func (c *debugSegmentCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	s, err := daemon.DebugSegment(g.ctx, cfg, c.ID)
	if err != nil {
		return err
	}
	return g.out.value(s, func(w io.Writer) {
		fmt.Fprintf(w, "segment %s on %s, %d bytes, volume %d, made %s, key version %d\n", s.ID, s.Drive, s.Size, s.Volume, when(s.Created), s.KeyVersion)
		var t [][]any
		for i, f := range s.Frames {
			t = append(t, []any{i, f.Offset, f.Length, f.Len, f.Chunk, f.Ino, f.FileOff})
		}
		rows(w, []any{"FRAME", "OFFSET", "LENGTH", "PLAIN", "CHUNK", "INODE", "FILE OFFSET"}, t)
	})
}

type debugFrameCmd struct {
	configFlags
	ID    string `arg:"" help:"Segment id."`
	Index int    `arg:"" help:"Index of the frame in the segment's directory."`
	Raw   bool   `help:"Write the decoded bytes to standard output."`
}

func (c *debugFrameCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	f, plain, err := daemon.DebugFrame(g.ctx, cfg, c.ID, c.Index)
	if err != nil {
		return err
	}
	if c.Raw {
		_, err := g.out.w.Write(plain)
		return err
	}
	return g.out.value(f, func(w io.Writer) {
		fmt.Fprintf(w, "chunk %s\noffset %d, %d bytes stored, %d plain\nwritten for inode %d at %d\nverified\n", f.Chunk, f.Offset, f.Length, f.Len, f.Ino, f.FileOff)
	})
}
