package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/daemon"
)

type metaCmd struct {
	Dump    metaDumpCmd    `cmd:"" help:"Write all metadata as lines of JSON, not encrypted; the server must be down."`
	Load    metaLoadCmd    `cmd:"" help:"Fill a store that has lost its metadata from a dump; the server must be down."`
	History metaHistoryCmd `cmd:"" help:"Show since when each drive can restore the metadata as of any moment; the server must be down."`
	Restore metaRestoreCmd `cmd:"" help:"Put the metadata as of a moment in the place of the present; the server must be down."`
}

type metaDumpCmd struct {
	configFlags
	File string `arg:"" help:"File to write, which must not exist; - is standard output."`
}

func (c *metaDumpCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if c.File == "-" {
		return daemon.MetaDump(g.ctx, cfg, g.out.w)
	}
	return daemon.MetaDumpFile(g.ctx, cfg, c.File)
}

type metaLoadCmd struct {
	configFlags
	File string `arg:"" help:"Dump to read; - is standard input."`
}

func (c *metaLoadCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	var in io.Reader = os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return daemon.MetaLoad(g.ctx, cfg, in)
}

type metaHistoryCmd struct {
	configFlags
	Drive []string `help:"A drive to read, the path of its directory or the URL of its bucket; may be given several times (default: those that are recorded)." placeholder:"DIR|URL" sep:"none"`
}

func (c *metaHistoryCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	spans, err := daemon.MetaHistory(g.ctx, cfg, absolute(c.Drive))
	if err != nil {
		return err
	}
	return g.out.value(spans, func(w io.Writer) {
		var t [][]any
		for _, s := range spans {
			t = append(t, []any{s.Drive, s.From.Format(time.RFC3339Nano), s.To.Format(time.RFC3339Nano), size(s.Bytes)})
		}
		rows(w, []any{"DRIVE", "FROM", "TO", "SIZE"}, t)
	})
}

type metaRestoreCmd struct {
	configFlags
	At     time.Time `help:"The moment, as 2006-01-02T15:04:05Z or with an offset." required:"" format:"2006-01-02T15:04:05.999999999Z07:00" placeholder:"TIME"`
	Drive  []string  `help:"A drive to read, the path of its directory or the URL of its bucket; may be given several times (default: those that are recorded)." placeholder:"DIR|URL" sep:"none"`
	DryRun bool      `help:"Say what would be restored, and change nothing."`
}

func (c *metaRestoreCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	v := &verdict{g: g, bar: newProgress(g)}
	defer v.bar.clear()
	r, err := daemon.MetaRestore(g.ctx, cfg, daemon.MetaRestoring{At: c.At, Drives: absolute(c.Drive), DryRun: c.DryRun}, v.event)
	if err != nil {
		return err
	}
	v.bar.clear()
	if c.DryRun {
		return g.out.done(r, "would restore the metadata as of %s", r.As.Format(time.RFC3339Nano))
	}
	if !g.JSON {
		fmt.Fprintf(g.out.w, "restored the metadata as of %s; what there was is in %s\n", r.As.Format(time.RFC3339Nano), r.Kept)
	}
	return v.end(nil)
}

// absolute makes the paths among drives absolute.
func absolute(drives []string) []string {
	out := make([]string, len(drives))
	for i, d := range drives {
		if out[i] = d; !strings.Contains(d, "://") {
			if abs, err := filepath.Abs(d); err == nil {
				out[i] = abs
			}
		}
	}
	return out
}
