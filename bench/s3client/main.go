// Command s3client is the reference of the bench for buckets: Amazon's client
// with its defaults, or the object store client that Strake has made of it,
// without Strake. It writes objects of the size of a segment and reads them again,
// and prints how fast that went, as JSON.
//
// It owns: nothing but the loop. It must not know what Strake keeps in objects.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
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
	amazon   *amazon // in place of store, unless nil
	objects  int
	size     int64 // bytes of each
	parallel int   // objects at a time
	piece    int64 // bytes of each request that reads; 0: the whole object
	seal     bool  // hash and encrypt what is written
}

func main() {
	var w work
	where := flag.String("url", "", "bucket")
	read := flag.Bool("read", false, "read what was written before, instead of writing")
	flag.IntVar(&w.objects, "objects", 16, "objects")
	flag.Int64Var(&w.size, "size", 64<<20, "bytes of each")
	flag.IntVar(&w.parallel, "parallel", 4, "objects at a time")
	flag.Int64Var(&w.piece, "range", 0, "bytes of each request that reads (default: the whole object)")
	plain := flag.Bool("plain", false, "Amazon's client with its defaults, one request for each object, in place of Strake's")
	flag.BoolVar(&w.seal, "seal", false, "also take HMAC-SHA-256 of all that is written and encrypt it with AES-256-GCM, as storing chunks does")
	flag.Parse()
	ctx := context.Background()
	if err := w.open(ctx, *where, *plain); err != nil {
		fmt.Fprintln(os.Stderr, "s3client:", err)
		os.Exit(1)
	}
	out, err := w.run(ctx, *read)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3client:", err)
		os.Exit(1)
	}
}

func (w *work) open(ctx context.Context, where string, plain bool) (err error) {
	if plain {
		if w.seal || w.piece > 0 {
			return errors.New("-plain writes and reads whole objects as they are")
		}
		w.amazon, err = newAmazon(ctx, where)
		return err
	}
	w.store, err = url.All().Open(ctx, where, url.Secrets{}, provider.Options{Hold: provider.NewMemory(provider.DefaultHold)}) // as a server opens its drives
	return err
}

func (w *work) run(ctx context.Context, read bool) (out outcome, err error) {
	if w.store != nil {
		defer func() { err = errors.Join(err, w.store.Close()) }()
	}
	if read {
		out.Read, err = w.timed(func(key string) error { return w.read(ctx, key) })
		return out, err
	}
	body := make([]byte, w.size)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(body)
	out.Write, err = w.timed(func(key string) error { return w.write(ctx, key, body) })
	if out.Puts = int64(w.objects); w.store != nil {
		out.Puts = w.store.Requests().Puts
	}
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
	if w.amazon != nil {
		return w.amazon.write(ctx, key, body)
	}
	out, err := w.store.Create(ctx, key, w.size, object.IfAbsent())
	if err != nil {
		return err
	}
	defer out.Abort()
	const piece = 1 << 20
	var s *sealer
	if w.seal {
		if s, err = newSealer(piece); err != nil {
			return err
		}
	}
	for at := 0; at < len(body); at += piece {
		part := body[at:min(at+piece, len(body))]
		if s != nil {
			part = s.seal(part)
		}
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	_, err = out.Commit(ctx)
	return err
}

// sealer does what naming and sealing chunks takes at least.
type sealer struct {
	mac   hash.Hash
	aead  cipher.AEAD
	nonce uint64
	buf   []byte
}

// newSealer makes one for pieces of so many bytes.
func newSealer(piece int) (*sealer, error) {
	var key [32]byte
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	s := &sealer{mac: hmac.New(sha256.New, key[:])}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	s.buf = make([]byte, 0, piece+s.aead.Overhead())
	return s, nil
}

// seal is p encrypted, until the next call. The tag, which would make it longer
// than the objects that are read, is left out.
func (s *sealer) seal(p []byte) []byte {
	s.mac.Reset()
	_, _ = s.mac.Write(p)
	var id [sha256.Size]byte
	s.mac.Sum(id[:0])
	var nonce [12]byte
	s.nonce++
	binary.LittleEndian.PutUint64(nonce[:], s.nonce)
	return s.aead.Seal(s.buf, nonce[:], p, id[:])[:len(p)]
}

func (w *work) read(ctx context.Context, key string) error {
	buf := make([]byte, w.size)
	if w.amazon != nil {
		return w.amazon.read(ctx, key, buf)
	}
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
