package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/daemon"
	"github.com/strakefs/strake/internal/fsapi"
)

type metaCmd struct {
	Backup  metaBackupCmd  `cmd:"" help:"Bring all metadata, encrypted, to a place of its own, and read it back."`
	Dump    metaDumpCmd    `cmd:"" help:"Write all metadata as of one moment into a file, as lines of JSON."`
	Load    metaLoadCmd    `cmd:"" help:"Fill a store that has no metadata from a dump; the server must be down."`
	History metaHistoryCmd `cmd:"" help:"Show since when each drive or backup can restore the metadata as of any moment; the server must be down."`
	Restore metaRestoreCmd `cmd:"" help:"Make a store's metadata anew from a backup, or put that of a moment in the place of the present; the server must be down."`
}

// running is the server to ask instead of opening the data directory: the one that
// was named, or the one that has the directory open; nil where there is none.
func (f configFlags) running(g *globals, dataDir string) *client.Client {
	if g.Server != "" {
		return g.client()
	}
	conn, err := net.DialTimeout("unix", client.Socket(dataDir), time.Second)
	if err != nil {
		return nil
	}
	_ = conn.Close() // it was only to see whether somebody listens
	return client.Dial("", "", dataDir)
}

// password asks for the store's password on the terminal; nil where there is none.
func password() func() ([]byte, error) { return daemon.AskPassword(os.Stdin, os.Stderr) }

type metaBackupCmd struct {
	configFlags
	To string `help:"Directory, made if missing, or URL of a bucket, for nothing but such backups. One that has an older backup of this store gets what it lacks." required:"" placeholder:"DIR|URL"`
}

func (c *metaBackupCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	bar := newProgress(g)
	defer bar.clear()
	var last api.MetaBackupEvent
	event := func(e api.MetaBackupEvent) error {
		last = e
		if !e.End {
			bar.show(e.Phase, e.Done, 0, size)
		}
		return nil
	}
	req := api.MetaBackup{To: absolute([]string{c.To})[0]}
	if server := c.running(g, cfg.Data.Dir); server != nil {
		err = client.Follow(g.ctx, server, "POST", "/v1/admin/meta/backup", req, event)
	} else {
		err = daemon.MetaBackup(g.ctx, cfg, req, event)
	}
	bar.clear()
	switch {
	case err != nil:
		return err
	case last.Error != "":
		return errors.New(last.Error)
	case last.Backup == nil:
		return errors.New("the server ended before the backup did: run it again, it goes on from what is there")
	}
	return g.out.done(last.Backup, "%s holds the metadata as of %s", last.Backup.Place, last.Backup.AsOf.Format(time.RFC3339Nano))
}

type metaDumpCmd struct {
	configFlags
	File    string `arg:"" help:"File to write, which must not exist; - is standard output."`
	Encrypt bool   `help:"Encrypt it with the key of the store, and put the keyring in front: it and the password are enough to load it."`
}

func (c *metaDumpCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if !c.Encrypt {
		fmt.Fprintln(os.Stderr, "strake: this dump is not encrypted: names, sizes and small files can be read in it (--encrypt)")
	}
	write := func(w io.Writer) error { return daemon.MetaDump(g.ctx, cfg, api.MetaDump{Encrypt: c.Encrypt}, w) }
	if server := c.running(g, cfg.Data.Dir); server != nil {
		write = func(w io.Writer) error {
			return server.Download(g.ctx, "/v1/admin/meta/dump", api.MetaDump{Encrypt: c.Encrypt}, w)
		}
	}
	bar := newProgress(g)
	defer bar.clear()
	shown := func(w io.Writer) error { return write(&moved{w: w, bar: bar, what: "write the dump"}) }
	if c.File == "-" {
		return shown(g.out.w)
	}
	return writeNew(c.File, shown)
}

// moved shows how many bytes passed it. One goroutine at a time.
type moved struct {
	r           io.Reader
	w           io.Writer
	bar         *progress
	what        string
	done, total int64 // bytes; total 0: not known
}

// Read implements io.Reader.
func (m *moved) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.add(n)
	return n, err
}

// Write implements io.Writer.
func (m *moved) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.add(n)
	return n, err
}

func (m *moved) add(n int) {
	m.done += int64(n)
	m.bar.show(m.what, m.done, m.total, size)
}

// writeNew writes a new file that only its owner can read, durably. One that
// failed is removed.
func writeNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

type metaLoadCmd struct {
	configFlags
	File string `arg:"" help:"Dump to read, encrypted or not; - is standard input."`
}

func (c *metaLoadCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	in := &moved{bar: newProgress(g), what: "read the dump", r: os.Stdin}
	defer in.bar.clear()
	var ask func() ([]byte, error)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			in.total = st.Size()
		}
		in.r, ask = f, in.bar.interrupted(password())
	}
	if in.total == 0 { // it may make us wait
		in.r = untilInterrupted(g.ctx, in.r)
	}
	return daemon.MetaLoad(g.ctx, cfg, in, ask)
}

// untilInterrupted is r until ctx ends: then a Read that waits fails. What reads r
// ends with the process.
func untilInterrupted(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() {
		in.CloseWithError(fsapi.Errorf(fsapi.Interrupted, "wait for the dump: %w", context.Cause(ctx)))
	})
	return out
}

type metaHistoryCmd struct {
	configFlags
	From  []string `help:"A backup to read, the path of its directory or the URL of its bucket; may be given several times." placeholder:"DIR|URL" sep:"none"`
	Drive []string `help:"A drive to read, likewise (default: without --from, those that are recorded)." placeholder:"DIR|URL" sep:"none"`
}

func (c *metaHistoryCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	spans, err := daemon.MetaHistory(g.ctx, cfg, daemon.MetaRestoring{From: absolute(c.From), Drives: absolute(c.Drive), Ask: password()})
	if err != nil {
		return err
	}
	return g.out.value(spans, func(w io.Writer) {
		var t [][]any
		for _, s := range spans {
			t = append(t, []any{s.Drive, s.From.Format(time.RFC3339Nano), s.To.Format(time.RFC3339Nano), size(s.Bytes)})
		}
		rows(w, []any{"PLACE", "FROM", "TO", "SIZE"}, t)
	})
}

type metaRestoreCmd struct {
	configFlags
	At     timeFlag `help:"The moment, as 2006-01-02T15:04:05Z or with an offset (default, with --from: the newest there is)." placeholder:"TIME"`
	From   []string `help:"A backup to read, the path of its directory or the URL of its bucket; may be given several times. The data directory (or --bucket) may be empty." placeholder:"DIR|URL" sep:"none"`
	Drive  []string `help:"A drive to read, too, likewise, and where it is now (default: without --from, those that are recorded)." placeholder:"DIR|URL" sep:"none"`
	DryRun bool     `help:"Say what would be restored, and change nothing."`
}

func (c *metaRestoreCmd) Run(g *globals) error {
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if c.At.IsZero() && len(c.From) == 0 {
		return fsapi.Errorf(fsapi.Invalid, "say as of when, with --at, or from which backup, with --from")
	}
	v := &verdict{g: g, bar: newProgress(g)}
	defer v.bar.clear()
	r, err := daemon.MetaRestore(g.ctx, cfg, daemon.MetaRestoring{
		At: c.At.Time, From: absolute(c.From), Drives: absolute(c.Drive), DryRun: c.DryRun, Ask: password(),
	}, v.event)
	if err != nil {
		return err
	}
	v.bar.clear()
	switch {
	case g.JSON: // one line, as the events are
		err = json.NewEncoder(g.out.w).Encode(r)
	case c.DryRun:
		fmt.Fprintf(g.out.w, "would restore the metadata as of %s\n", r.As.Format(time.RFC3339Nano))
	default:
		fmt.Fprintf(g.out.w, "restored the metadata as of %s\n", r.As.Format(time.RFC3339Nano))
		if r.Kept != "" {
			fmt.Fprintf(g.out.w, "what there was is in %s\n", r.Kept)
		}
	}
	if c.DryRun {
		return err
	}
	return v.end(err)
}

// absolute makes the paths among places absolute.
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
