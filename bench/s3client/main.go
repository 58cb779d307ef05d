// Command s3client is the reference of the bench for buckets: the object store
// client that Strake uses, without Strake. It writes objects of the size of a
// segment and reads them again, and prints how fast that went, as JSON.
//
// It owns: nothing but the loop. It must not know what Strake keeps in objects.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/url"
)

// outcome is what is printed. Rates are MiB/s.
type outcome struct {
	Write float64 `json:"write,omitempty"`
	Read  float64 `json:"read,omitempty"`
	Puts  int64   `json:"puts"`
}

type work struct {
	store    object.Store
	objects  int
	size     int64 // bytes of each
	parallel int   // objects at a time
	piece    int64 // bytes of each request that reads; 0: the whole object
}

func main() {
	var w work
	where := flag.String("url", "", "bucket")
	read := flag.Bool("read", false, "read what was written before, instead of writing")
	flag.IntVar(&w.objects, "objects", 16, "objects")
	flag.Int64Var(&w.size, "size", 64<<20, "bytes of each")
	flag.IntVar(&w.parallel, "parallel", 4, "objects at a time")
	flag.Int64Var(&w.piece, "range", 0, "bytes of each request that reads (default: the whole object)")
	flag.Parse()
	out, err := w.run(context.Background(), *where, *read)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3client:", err)
		os.Exit(1)
	}
}

func (w *work) run(ctx context.Context, where string, read bool) (out outcome, err error) {
	if w.store, err = url.All().Open(ctx, where, url.Secrets{}, provider.Options{}); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	if read {
		out.Read, err = w.timed(func(key string) error { return w.read(ctx, key) })
		return out, err
	}
	body := make([]byte, w.size)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(body)
	out.Write, err = w.timed(func(key string) error { return w.write(ctx, key, body) })
	out.Puts = w.store.Requests().Puts
	return out, err
}

// timed does fn for every object and is the rate in MiB/s.
func (w *work) timed(fn func(key string) error) (float64, error) {
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(w.parallel)
	for i := range w.objects {
		g.Go(func() error { return fn(fmt.Sprintf("object-%d", i)) })
	}
	err := g.Wait()
	return float64(w.objects) * float64(w.size) / (1 << 20) / time.Since(begin).Seconds(), err
}

// write sends an object in the pieces in which segments are written.
func (w *work) write(ctx context.Context, key string, body []byte) error {
	out, err := w.store.Create(ctx, key, w.size, object.IfAbsent())
	if err != nil {
		return err
	}
	defer out.Abort()
	const piece = 1 << 20
	for at := 0; at < len(body); at += piece {
		if _, err := out.Write(body[at:min(at+piece, len(body))]); err != nil {
			return err
		}
	}
	_, err = out.Commit(ctx)
	return err
}

func (w *work) read(ctx context.Context, key string) error {
	buf := make([]byte, w.size)
	piece := w.size
	if w.piece > 0 {
		piece = w.piece
	}
	for at := int64(0); at < w.size; at += piece {
		part := buf[at:min(at+piece, w.size)]
		n, _, err := w.store.Get(ctx, key, at, part)
		if err != nil && (!errors.Is(err, io.EOF) || n < len(part)) {
			return err
		}
	}
	return nil
}
