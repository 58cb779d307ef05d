package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

// remote is how the file commands reach one volume.
type remote struct {
	c *client.Client
	q url.Values
}

func (g *globals) remote(volume string) remote {
	q := url.Values{}
	if volume != "" {
		q.Set("volume", volume)
	}
	return remote{g.client(), q}
}

func (r remote) do(ctx context.Context, method, prefix, path string, more url.Values, body io.Reader) (*http.Response, error) {
	q := url.Values{}
	for _, vs := range []url.Values{r.q, more} {
		for k, v := range vs {
			q[k] = v
		}
	}
	return r.c.Do(ctx, method, client.FilePath(prefix, path), q, nil, body)
}

func (r remote) meta(ctx context.Context, path string) (api.Meta, error) {
	return decode[api.Meta](r.do(ctx, "GET", "/v1/meta", path, nil, nil)) //nolint:bodyclose // decode closes it
}

func decode[T any](resp *http.Response, err error) (T, error) {
	var v T
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

// list calls fn for every entry of a directory, in order of name.
func (r remote) list(ctx context.Context, dir string, fn func(api.Meta) error) error {
	after := ""
	for {
		q := url.Values{"after": {after}}
		page, err := decode[api.Listing](r.do(ctx, "GET", "/v1/ls", dir, q, nil)) //nolint:bodyclose // decode closes it
		if err != nil {
			return err
		}
		for _, m := range page.Entries {
			if err := fn(m); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		after = page.Next
	}
}

type lsCmd struct {
	Path   string `arg:"" optional:"" default:"/" help:"Directory or file."`
	Long   bool   `short:"l" help:"Show attributes."`
	Volume string `help:"Volume." short:"V"`
}

func (c *lsCmd) Run(g *globals) error {
	r := g.remote(c.Volume)
	m, err := r.meta(g.ctx, c.Path)
	if err != nil {
		return err
	}
	show := func(m api.Meta) error {
		switch {
		case g.JSON:
			return json.NewEncoder(g.out.w).Encode(m)
		case c.Long:
			_, err := fmt.Fprintf(g.out.w, "%s %3d %5d %5d %12d %s %s\n", modeString(m), m.Nlink, m.Uid, m.Gid, m.Size, m.Mtime.Local().Format("2006-01-02 15:04"), longName(m))
			return err
		}
		_, err := fmt.Fprintln(g.out.w, m.Name)
		return err
	}
	if m.Type != "directory" {
		return show(m)
	}
	return r.list(g.ctx, c.Path, show)
}

func longName(m api.Meta) string {
	if m.Target != "" {
		return m.Name + " -> " + m.Target
	}
	return m.Name
}

// modeString is the first column of ls -l.
func modeString(m api.Meta) string {
	kinds := map[string]byte{"file": '-', "directory": 'd', "symlink": 'l', "chardev": 'c', "blockdev": 'b', "fifo": 'p', "socket": 's'}
	s := []byte{kinds[m.Type]}
	for i, ch := range "rwxrwxrwx" {
		if m.Mode&(1<<(8-i)) != 0 {
			s = append(s, byte(ch))
		} else {
			s = append(s, '-')
		}
	}
	special := func(bit uint32, at int, on, off byte) {
		if m.Mode&bit == 0 {
			return
		}
		if s[at] == 'x' {
			s[at] = on
		} else {
			s[at] = off
		}
	}
	special(fsapi.ModeSetuid, 3, 's', 'S')
	special(fsapi.ModeSetgid, 6, 's', 'S')
	special(fsapi.ModeSticky, 9, 't', 'T')
	return string(s)
}

type catCmd struct {
	Path   string `arg:"" help:"File."`
	Volume string `help:"Volume." short:"V"`
}

func (c *catCmd) Run(g *globals) error {
	resp, err := g.remote(c.Volume).do(g.ctx, "GET", "/v1/files", c.Path, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(g.out.w, resp.Body)
	return err
}

type putCmd struct {
	From   []string `arg:"" help:"Local files or directories, then the path to put them at; '-' is standard input."`
	Volume string   `help:"Volume." short:"V"`
}

func (c *putCmd) Run(g *globals) error {
	if len(c.From) < 2 {
		return fsapi.Errorf(fsapi.Invalid, "put takes what to copy and where to: strake put FILE... PATH")
	}
	from, to := c.From[:len(c.From)-1], c.From[len(c.From)-1]
	r := g.remote(c.Volume)
	m, err := r.meta(g.ctx, to)
	into := err == nil && m.Type == "directory"
	if !into && len(from) > 1 {
		return fsapi.Errorf(fsapi.NotDir, "%s is not a directory, so only one file can be put there", to)
	}
	p := &put{r: r, bar: newProgress(g)}
	defer p.bar.clear()
	for _, f := range from {
		dst := to
		if into {
			dst = path.Join(to, filepath.Base(f))
		}
		if err := p.tree(g.ctx, f, dst); err != nil {
			return err
		}
	}
	p.bar.clear()
	return g.out.done(p.total, "put %d files, %s", p.total.Files, size(p.total.Bytes))
}

// put copies local trees in.
type put struct {
	r     remote
	bar   *progress
	total struct {
		Files int64 `json:"files"`
		Bytes int64 `json:"bytes"`
	}
}

func (p *put) tree(ctx context.Context, from, to string) error {
	if from == "-" {
		return p.file(ctx, os.Stdin, 0, to)
	}
	return filepath.WalkDir(from, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		dst := path.Join(to, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			return p.batch(ctx, api.BatchOp{Op: "mkdir", Path: dst, Parents: true})
		case d.Type()&os.ModeSymlink != 0:
			t, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return p.batch(ctx, api.BatchOp{Op: "symlink", Path: dst, Target: t})
		case !d.Type().IsRegular():
			fmt.Fprintf(os.Stderr, "strake: %s is not a regular file: passed over\n", name)
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		return p.file(ctx, f, fi.Mode().Perm(), dst)
	})
}

func (p *put) batch(ctx context.Context, op api.BatchOp) error {
	_, err := client.Call[api.BatchResult](ctx, p.r.c, "POST", "/v1/batch", api.Batch{Volume: p.r.q.Get("volume"), Ops: []api.BatchOp{op}})
	return err
}

func (p *put) file(ctx context.Context, f io.Reader, mode os.FileMode, to string) error {
	q := url.Values{}
	if mode != 0 {
		q.Set("mode", strconv.FormatUint(uint64(mode), 8))
	}
	n := &counter{r: f, tick: func(n int64) { p.bar.show("put "+to, p.total.Bytes+n, 0, size) }}
	resp, err := p.r.do(ctx, "PUT", "/v1/files", to, q, n)
	if err != nil {
		return err
	}
	resp.Body.Close()
	p.total.Files++
	p.total.Bytes += n.n
	return nil
}

// counter counts the bytes read through it.
type counter struct {
	r    io.Reader
	n    int64
	tick func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.tick(c.n)
	return n, err
}

type getCmd struct {
	Path   string `arg:"" help:"File in the volume."`
	To     string `arg:"" optional:"" help:"Local file or directory (default: its name here)." type:"path"`
	Volume string `help:"Volume." short:"V"`
}

func (c *getCmd) Run(g *globals) error {
	to := c.To
	if to == "" {
		to = "."
	}
	if fi, err := os.Stat(to); err == nil && fi.IsDir() {
		to = filepath.Join(to, path.Base(c.Path))
	}
	resp, err := g.remote(c.Volume).do(g.ctx, "GET", "/v1/files", c.Path, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := saveFile(to, resp.Body, resp.ContentLength, newProgress(g))
	if err != nil {
		return err
	}
	return g.out.done(map[string]any{"to": to, "bytes": n}, "got %s, %s", to, size(n))
}

// saveFile writes a local file whole or not at all.
func saveFile(to string, from io.Reader, total int64, bar *progress) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(to), ".strake-get-*")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is gone where it got its name
	defer f.Close()
	defer bar.clear()
	n, err := io.Copy(f, &counter{r: from, tick: func(n int64) { bar.show("get "+to, n, total, size) }})
	if err != nil {
		return n, err
	}
	if err := f.Chmod(0o644); err != nil {
		return n, err
	}
	if err := f.Close(); err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), to)
}

type rmCmd struct {
	Paths     []string `arg:"" help:"What to remove."`
	Recursive bool     `short:"r" help:"Remove directories with what they hold."`
	Volume    string   `help:"Volume." short:"V"`
}

func (c *rmCmd) Run(g *globals) error {
	r := g.remote(c.Volume)
	for _, p := range c.Paths {
		q := url.Values{}
		if c.Recursive {
			q.Set("recursive", "true")
		}
		resp, err := r.do(g.ctx, "DELETE", "/v1/files", p, q, nil)
		if err != nil {
			return err
		}
		resp.Body.Close()
	}
	return g.out.done(map[string]any{"removed": c.Paths}, "removed %s", strings.Join(c.Paths, ", "))
}

type statCmd struct {
	Path   string `arg:"" help:"Path."`
	Volume string `help:"Volume." short:"V"`
}

func (c *statCmd) Run(g *globals) error {
	m, err := g.remote(c.Volume).meta(g.ctx, c.Path)
	if err != nil {
		return err
	}
	return g.out.value(m, func(w io.Writer) {
		fmt.Fprintf(w, "path    %s\ntype    %s\ninode   %d\nmode    %s %04o\nowner   %d:%d\nlinks   %d\nsize    %d\nused    %d\n", c.Path, m.Type, m.Ino, modeString(m), m.Mode, m.Uid, m.Gid, m.Nlink, m.Size, m.Used)
		for _, t := range []struct {
			name string
			t    time.Time
		}{{"access", m.Atime}, {"modify", m.Mtime}, {"change", m.Ctime}, {"birth", m.Btime}} {
			fmt.Fprintf(w, "%-7s %s\n", t.name, t.t.Local().Format("2006-01-02 15:04:05.000000000"))
		}
		if m.Target != "" {
			fmt.Fprintf(w, "target  %s\n", m.Target)
		}
		fmt.Fprintf(w, "etag    %s\n", m.ETag)
	})
}

type duCmd struct {
	Path   string `arg:"" optional:"" default:"/" help:"Directory or file."`
	Volume string `help:"Volume." short:"V"`
}

func (c *duCmd) Run(g *globals) error {
	d, err := client.Call[api.Du](g.ctx, g.client(), "GET", "/v1/admin/du", api.PathReq{Volume: c.Volume, Path: c.Path})
	if err != nil {
		return err
	}
	return g.out.value(d, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s in %d files and %d directories (%s apparent)\n", d.Path, size(d.Bytes), d.Files, d.Dirs, size(d.Apparent))
	})
}
