package main

import (
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
	req := api.MetaBackup{To: absolute([]string{c.To})[0]}
	var out api.MetaBackedUp
	if server := c.running(g, cfg.Data.Dir); server != nil {
		out, err = client.Call[api.MetaBackedUp](g.ctx, server, "POST", "/v1/admin/meta/backup", req)
	} else {
		out, err = daemon.MetaBackup(g.ctx, cfg, req)
	}
	if err != nil {
		return err
	}
	return g.out.done(out, "%s holds the metadata as of %s", out.Place, out.AsOf.Format(time.RFC3339Nano))
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
	if c.File == "-" {
		return write(g.out.w)
	}
	return writeNew(c.File, write)
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
	if c.File == "-" {
		return daemon.MetaLoad(g.ctx, cfg, os.Stdin, nil)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	return daemon.MetaLoad(g.ctx, cfg, f, password())
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
	At     time.Time `help:"The moment, as 2006-01-02T15:04:05Z or with an offset (default, with --from: the newest there is)." format:"2006-01-02T15:04:05.999999999Z07:00" placeholder:"TIME"`
	From   []string  `help:"A backup to read, the path of its directory or the URL of its bucket; may be given several times. The data directory (or --bucket) may be empty." placeholder:"DIR|URL" sep:"none"`
	Drive  []string  `help:"A drive to read, too, likewise, and where it is now (default: without --from, those that are recorded)." placeholder:"DIR|URL" sep:"none"`
	DryRun bool      `help:"Say what would be restored, and change nothing."`
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
		At: c.At, From: absolute(c.From), Drives: absolute(c.Drive), DryRun: c.DryRun, Ask: password(),
	}, v.event)
	if err != nil {
		return err
	}
	v.bar.clear()
	if c.DryRun {
		return g.out.done(r, "would restore the metadata as of %s", r.As.Format(time.RFC3339Nano))
	}
	if !g.JSON {
		fmt.Fprintf(g.out.w, "restored the metadata as of %s\n", r.As.Format(time.RFC3339Nano))
		if r.Kept != "" {
			fmt.Fprintf(g.out.w, "what there was is in %s\n", r.Kept)
		}
	}
	return v.end(nil)
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
