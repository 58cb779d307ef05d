package pebble

import (
	"syscall"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
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
		Faulty: func(t *testing.T) (kv.Engine, func(fsapi.Kind)) {
			fault := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), nil)
			return place{tiny(fault)}.Open(t), func(k fsapi.Kind) { fault.SetRule(failing(k)) }
		},
	})
}

// failing has every change of files that are not tables fail, as a full or a
// broken disk does, and forgets what could not be synced.
func failing(k fsapi.Kind) osfs.Rule {
	errno := map[fsapi.Kind]syscall.Errno{fsapi.NoSpace: syscall.ENOSPC, fsapi.IO: syscall.EIO}[k]
	if errno == 0 {
		return nil
	}
	return func(c osfs.Call) osfs.Outcome {
		if (c.Op == osfs.OpWrite || c.Op == osfs.OpSync) && !isTable(c.Name) {
			return osfs.Outcome{Err: errno, Forget: true}
		}
		return osfs.Outcome{}
	}
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
