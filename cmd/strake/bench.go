package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/strakefs/strake/internal/api"
)

type benchCmd struct {
	Volume string   `help:"Volume to write to and read from." short:"V"`
	Size   sizeFlag `help:"Bytes of the large file." default:"256M"`
	Files  int      `help:"How many small files." default:"1000"`
	Dir    string   `help:"Directory to work in; made and removed." default:"/.strake-bench"`
}

// benchRow is one measurement.
type benchRow struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
	Unit    string  `json:"unit"`
}

func (c *benchCmd) Run(g *globals) error {
	b := &bench{ctx: g.ctx, r: g.remote(c.Volume), dir: c.Dir, bar: newProgress(g)}
	defer b.bar.clear()
	if err := b.all(int64(c.Size), c.Files); err != nil {
		return err
	}
	b.bar.clear()
	return g.out.value(b.rows, func(w io.Writer) {
		var t [][]any
		for _, r := range b.rows {
			t = append(t, []any{r.Name, fmt.Sprintf("%.2f s", r.Seconds), fmt.Sprintf("%.1f %s", r.Rate, r.Unit)})
		}
		rows(w, []any{"WORK", "TIME", "RATE"}, t)
	})
}

// bench measures through the REST door, so what it says includes HTTP.
type bench struct {
	ctx  context.Context
	r    remote
	dir  string
	bar  *progress
	rows []benchRow
}

func (b *bench) all(size int64, files int) (err error) {
	defer func() {
		err = errors.Join(err, b.request("DELETE", b.dir, url.Values{"recursive": {"true"}}, nil))
	}()
	p := put{r: b.r, bar: b.bar}
	if err := p.batch(b.ctx, api.BatchOp{Op: "mkdir", Path: b.dir, Parents: true}); err != nil {
		return err
	}
	mib := float64(size) / (1 << 20)
	if err := b.time("write a large file", mib, "MiB/s", func() error {
		return b.request("PUT", b.dir+"/large", nil, io.LimitReader(rand.Reader, size))
	}); err != nil {
		return err
	}
	if err := b.time("read it", mib, "MiB/s", func() error { return b.request("GET", b.dir+"/large", nil, nil) }); err != nil {
		return err
	}
	small := make([]byte, 4096)
	if err := b.time("write small files, each durable", float64(files), "files/s", func() error {
		return b.each(files, func(name string) error {
			rand.Read(small)
			return b.request("PUT", name, nil, bytes.NewReader(small))
		})
	}); err != nil {
		return err
	}
	return b.time("read small files", float64(files), "files/s", func() error {
		return b.each(files, func(name string) error { return b.request("GET", name, nil, nil) })
	})
}

func (b *bench) each(n int, fn func(name string) error) error {
	for i := range n {
		if err := fn(fmt.Sprintf("%s/small-%d", b.dir, i)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) time(name string, amount float64, unit string, fn func() error) error {
	b.bar.show(name, int64(len(b.rows)), 4, count)
	start := time.Now()
	if err := fn(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s := time.Since(start).Seconds()
	b.rows = append(b.rows, benchRow{name, s, amount / s, unit})
	return nil
}

func (b *bench) request(method, path string, q url.Values, body io.Reader) error {
	resp, err := b.r.do(b.ctx, method, "/v1/files", path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
