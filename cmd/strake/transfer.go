package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/transfer"
)

// remoteMark starts a path on the server, where both kinds are possible.
const remoteMark = "strake:"

type migrateCmd struct {
	Paths    []string `arg:"" help:"Local directories, then the directory of the volume that they go to. A directory keeps its name there, unless it ends in a slash: then what it holds goes there."`
	Volume   string   `help:"Volume." short:"V"`
	Verify   bool     `help:"Read everything back at the end and compare it."`
	DryRun   bool     `help:"Change nothing; say what would be done."`
	Checksum bool     `help:"Compare content, not size and time, to find out what is there already."`
	Workers  int      `help:"Directories and files worked on at one time." default:"8"`
	Journal  string   `help:"File that remembers what was copied, for when it is cut short (default: one for these directories in the user's cache)." type:"path" placeholder:"FILE"`
}

func (c *migrateCmd) Run(g *globals) error {
	if len(c.Paths) < 2 {
		return fsapi.Errorf(fsapi.Invalid, "name one or more local directories, and where they go")
	}
	n := len(c.Paths) - 1
	dest := strings.TrimPrefix(c.Paths[n], remoteMark)
	if err := c.makeDest(g, dest); err != nil {
		return err
	}
	o := transfer.Options{
		Dest: transfer.NewRemote(g.client(), c.Volume, dest), Owner: true,
		Checksum: c.Checksum, DryRun: c.DryRun, Verify: c.Verify, Workers: c.Workers,
	}
	for _, p := range c.Paths[:n] {
		s, err := migrateSource(p)
		if err != nil {
			return err
		}
		o.Sources = append(o.Sources, s)
	}
	if c.DryRun {
		return runTransfer(g, o)
	}
	j, err := c.openJournal(o.Sources, o.Dest)
	if err != nil {
		return err
	}
	o.Journal = j
	return errors.Join(runTransfer(g, o), j.Close())
}

// makeDest makes the destination where it is missing.
func (c *migrateCmd) makeDest(g *globals, dest string) error {
	if c.DryRun {
		return nil
	}
	root := transfer.NewRemote(g.client(), c.Volume, "/")
	at := ""
	for _, part := range strings.FieldsFunc(dest, func(r rune) bool { return r == '/' }) {
		at = path.Join(at, part)
		_, err := root.Stat(g.ctx, at)
		if errors.Is(err, fsapi.NotExist) {
			err = root.Apply(g.ctx, []transfer.Op{{Entry: &transfer.Entry{Path: at, Type: fsapi.TypeDirectory}}})[0]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func migrateSource(p string) (transfer.Source, error) {
	abs, err := filepath.Abs(p)
	s := transfer.Source{Tree: transfer.NewLocal(abs)}
	if !strings.HasSuffix(p, "/") {
		s.Into = filepath.Base(abs)
	}
	return s, err
}

// openJournal opens the journal of this copy.
func (c *migrateCmd) openJournal(from []transfer.Source, to transfer.Tree) (*transfer.Journal, error) {
	what := to.String()
	for _, s := range from {
		what += "\n" + s.Tree.String() + "\n" + s.Into
	}
	name := c.Journal
	if name == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fsapi.Errorf(fsapi.Invalid, "there is no place for the journal: name one with --journal (%w)", err)
		}
		name = filepath.Join(cache, "strake", fmt.Sprintf("migrate-%x.journal", sha256.Sum256([]byte(what)))[:32])
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, err
		}
	}
	return transfer.OpenJournal(name, what)
}

type syncCmd struct {
	From     string `arg:"" help:"Directory: of this machine, or strake:PATH of the volume."`
	To       string `arg:"" help:"Directory that is made like it: strake:PATH, or of this machine."`
	Volume   string `help:"Volume." short:"V"`
	Delete   bool   `help:"Remove from the destination what the source does not have."`
	DryRun   bool   `help:"Change nothing; say what would be done."`
	Checksum bool   `help:"Compare content, not size and time."`
	Verify   bool   `help:"Read everything back at the end and compare it."`
	Workers  int    `help:"Directories and files worked on at one time." default:"8"`
}

func (c *syncCmd) Run(g *globals) error {
	if strings.HasPrefix(c.From, remoteMark) == strings.HasPrefix(c.To, remoteMark) {
		return fsapi.Errorf(fsapi.Invalid, "one of the two is on the server, written as strake:/PATH, and the other a directory of this machine")
	}
	from, err := c.tree(g, c.From)
	if err != nil {
		return err
	}
	to, err := c.tree(g, c.To)
	if err != nil {
		return err
	}
	o := transfer.Options{
		Sources: []transfer.Source{{Tree: from}}, Dest: to, Owner: true, Delete: c.Delete,
		Checksum: c.Checksum, DryRun: c.DryRun, Verify: c.Verify, Workers: c.Workers,
	}
	if l, ok := to.(*transfer.Local); ok {
		o.Owner = l.Owns()
		if !c.DryRun {
			if err := os.MkdirAll(l.String(), 0o755); err != nil {
				return err
			}
		}
	} else if err := (&migrateCmd{Volume: c.Volume, DryRun: c.DryRun}).makeDest(g, strings.TrimPrefix(c.To, remoteMark)); err != nil {
		return err
	}
	return runTransfer(g, o)
}

func (c *syncCmd) tree(g *globals, p string) (transfer.Tree, error) {
	if rest, ok := strings.CutPrefix(p, remoteMark); ok {
		return transfer.NewRemote(g.client(), c.Volume, rest), nil
	}
	abs, err := filepath.Abs(p)
	return transfer.NewLocal(abs), err
}

// transferReport is what a copy did, for programs. Bytes.
type transferReport struct {
	DryRun    bool              `json:"dry_run,omitempty"`
	Files     int64             `json:"files"`
	Bytes     int64             `json:"bytes"`
	Dirs      int64             `json:"directories"`
	Links     int64             `json:"links"`
	Other     int64             `json:"other"`
	Attrs     int64             `json:"attributes"`
	Same      int64             `json:"unchanged"`
	SameBytes int64             `json:"unchanged_bytes"`
	Deleted   int64             `json:"deleted"`
	Verified  int64             `json:"verified"`
	Failed    int64             `json:"failed"`
	Seconds   float64           `json:"seconds"`
	Failures  []transferFailure `json:"failures"`
}

type transferFailure struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// runTransfer copies, shows how it goes, and prints what came of it. What could
// not be copied makes it fail.
func runTransfer(g *globals, o transfer.Options) error {
	if o.DryRun && !g.JSON {
		o.Say = func(action, path string) { fmt.Fprintf(g.out.w, "%s %s\n", action, path) }
	}
	run, err := transfer.New(o)
	if err != nil {
		return err
	}
	start := time.Now()
	stop := showTransfer(g, run, o.Sources)
	err = run.Do(g.ctx)
	stop()
	if err != nil {
		return err
	}
	rep := reportOf(run, o.DryRun, time.Since(start))
	if err := g.out.value(rep, func(w io.Writer) { printTransfer(w, rep) }); err != nil {
		return err
	}
	if rep.Failed > 0 {
		if !g.JSON {
			for _, f := range rep.Failures {
				fmt.Fprintf(os.Stderr, "strake: %s: %s\n", f.Path, f.Error)
			}
		}
		return fsapi.Errorf(fsapi.Other, "%d things were not copied as they are: run it again when their cause is mended", rep.Failed)
	}
	return nil
}

func reportOf(run *transfer.Run, dry bool, took time.Duration) transferReport {
	c := &run.Counts
	rep := transferReport{
		DryRun: dry, Files: c.Files.Load(), Bytes: c.Bytes.Load(), Dirs: c.Dirs.Load(), Links: c.Links.Load(), Other: c.Other.Load(),
		Attrs: c.Attrs.Load(), Same: c.Same.Load(), SameBytes: c.SameBytes.Load(), Deleted: c.Deleted.Load(), Verified: c.Verified.Load(),
		Failed: c.Failed.Load(), Seconds: took.Seconds(), Failures: []transferFailure{},
	}
	for _, f := range run.Failures() {
		rep.Failures = append(rep.Failures, transferFailure{f.Path, f.Err.Error()})
	}
	return rep
}

func printTransfer(w io.Writer, r transferReport) {
	did := "copied"
	if r.DryRun {
		did = "would copy"
	}
	fmt.Fprintf(w, "%s %d files, %s; %d directories, %d links, %d others; attributes of %d; %d unchanged (%s); deleted %d",
		did, r.Files, size(r.Bytes), r.Dirs, r.Links, r.Other, r.Attrs, r.Same, size(r.SameBytes), r.Deleted)
	if r.Verified > 0 {
		fmt.Fprintf(w, "; verified %d", r.Verified)
	}
	fmt.Fprintf(w, "; %d failed, in %.1f s\n", r.Failed, r.Seconds)
}

// showTransfer shows progress until stop is called: how much of what the
// sources hold is done, at what rate, and when it will end.
func showTransfer(g *globals, run *transfer.Run, sources []transfer.Source) (stop func()) {
	bar := newProgress(g)
	if !bar.live {
		return func() {}
	}
	ctx, cancel := context.WithCancel(g.ctx)
	var wg sync.WaitGroup
	var total atomic.Int64
	var counted atomic.Bool
	wg.Go(func() {
		for _, s := range sources {
			countBytes(ctx, s.Tree, &total)
		}
		counted.Store(ctx.Err() == nil)
	})
	wg.Go(func() {
		start := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
			done := run.Bytes.Load() + run.SameBytes.Load()
			bar.show(transferLine(run, time.Since(start), total.Load()-done, counted.Load()), done, total.Load(), size)
		}
	})
	return func() {
		cancel()
		wg.Wait()
		bar.clear()
	}
}

func transferLine(run *transfer.Run, took time.Duration, left int64, counted bool) string {
	rate := float64(run.Bytes.Load()) / took.Seconds()
	line := fmt.Sprintf("%d files %s/s", run.Files.Load()+run.Same.Load(), size(int64(rate)))
	if counted && rate > 0 && left > 0 {
		line += " " + time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return line
}

// countBytes adds up what the files of a local source hold.
func countBytes(ctx context.Context, t transfer.Tree, total *atomic.Int64) {
	l, ok := t.(*transfer.Local)
	if !ok {
		return
	}
	// What cannot be read here is reported by the copy.
	_ = filepath.WalkDir(l.String(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ctx.Err()
		}
		if fi, err := d.Info(); err == nil {
			total.Add(fi.Size())
		}
		return ctx.Err()
	})
}
