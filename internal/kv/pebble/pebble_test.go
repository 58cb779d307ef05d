package pebble

import (
	"testing"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
	"github.com/strakefs/strake/internal/osfs"
)

// place is a directory that an engine is opened in again and again.
type place struct{ o Options }

func (p place) Open(t *testing.T) kv.Engine {
	t.Helper()
	e, err := Open(p.o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func small(fs osfs.FS, dir string) Options {
	return Options{FS: fs, Dir: dir, MemTableBytes: 1 << 20, CacheBytes: 4 << 20}
}

func TestConformance(t *testing.T) {
	kvtest.Run(t, kvtest.Subject{
		Open:    func(t *testing.T) kv.Engine { return place{small(osfs.OS{}, t.TempDir()+"/kv")}.Open(t) },
		Durable: func(t *testing.T) kvtest.Place { return place{small(osfs.NewMem(osfs.MemOptions{}), "/data/kv")} },
	})
}

func BenchmarkPebble(b *testing.B) {
	kvtest.Bench(b, func(b *testing.B) kv.Engine {
		e, err := Open(Options{FS: osfs.OS{}, Dir: b.TempDir() + "/kv"})
		if err != nil {
			b.Fatal(err)
		}
		return e
	})
}
