package bucket

import (
	"log/slog"
	"testing"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var testKey = []byte("0123456789abcdef0123456789abcdef")

// opened is a store on a bucket in memory that makes one attempt of each request.
func opened(t testing.TB, b *mem.Bucket) object.Store {
	t.Helper()
	s, err := b.Open(provider.Options{Prefix: "meta", Retry: backoff.Policy{Attempts: 1}})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// small makes memtables rotate and checkpoints happen within a short history.
func small(s object.Store, fs osfs.FS) Options {
	return Options{
		Objects: s, Key: testKey, FS: fs, Dir: "/cache/kv", Holder: "test", MemTableBytes: 256 << 10, CacheBytes: 1 << 20,
		CheckpointBytes: 64 << 10, CheckpointObjects: 20, GarbageAge: 1, FenceCheck: -1, Log: slog.New(slog.DiscardHandler),
	}
}

// place is a bucket that an engine is opened on again and again, with the same
// local directory or, every other time, a new one.
type place struct {
	o     Options
	fresh int
}

func (p *place) Open(t *testing.T) kv.Engine {
	t.Helper()
	if p.fresh++; p.fresh%2 == 0 {
		p.o.FS = osfs.NewMem(osfs.MemOptions{})
	}
	e, err := Open(t.Context(), p.o)
	must(t, err)
	return e
}

func TestConformance(t *testing.T) {
	kvtest.Run(t, kvtest.Subject{
		Open: func(t *testing.T) kv.Engine {
			return (&place{o: small(opened(t, mem.New(mem.Options{})), osfs.NewMem(osfs.MemOptions{}))}).Open(t)
		},
		Durable: func(t *testing.T) kvtest.Place {
			return &place{o: small(opened(t, mem.New(mem.Options{})), osfs.NewMem(osfs.MemOptions{}))}
		},
	})
}
