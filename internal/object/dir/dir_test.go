package dir_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/dir"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

func opened(t *testing.T, o dir.Options) object.Store {
	t.Helper()
	s, err := dir.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refusing is a file system that does not have an operation.
func refusing(op osfs.Op, why error) osfs.FS {
	return osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), func(c osfs.Call) osfs.Outcome {
		if c.Op == op {
			return osfs.Outcome{Err: why}
		}
		return osfs.Outcome{}
	})
}

func TestConformance(t *testing.T) {
	small := provider.Options{PartSize: 1 << 20}
	variants := map[string]struct {
		options func(t *testing.T) dir.Options
		has     object.Capabilities
	}{
		"OS": {func(t *testing.T) dir.Options { return dir.Options{Path: t.TempDir(), Options: small} }, objecttest.All()},
		"Mem": {func(*testing.T) dir.Options {
			return dir.Options{FS: osfs.NewMem(osfs.MemOptions{}), Path: "/b", Options: small}
		}, objecttest.All()},
		"without links": {func(*testing.T) dir.Options {
			return dir.Options{FS: refusing(osfs.OpLink, syscall.EPERM), Path: "/b", Options: small}
		}, objecttest.All()},
		"without locks": {func(*testing.T) dir.Options {
			return dir.Options{FS: refusing(osfs.OpLock, errors.ErrUnsupported), Path: "/b", Options: small}
		},
			object.Capabilities{IfAbsent: true, Parts: true}},
	}
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			var o dir.Options
			objecttest.Run(t, func(t *testing.T) object.Store {
				o = v.options(t)
				return opened(t, o)
			}, objecttest.Capabilities{Has: v.has, Keys: 1100, Unfinished: func(t *testing.T) int { return temps(t, o) }})
		})
	}
}

// temps counts the bodies on their way.
func temps(t *testing.T, o dir.Options) int {
	t.Helper()
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	names, err := o.FS.ReadDir(filepath.Join(o.Path, "~tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestTwoStores opens a directory twice, as two machines do: no increment of a
// counter is lost.
func TestTwoStores(t *testing.T) {
	at := t.TempDir()
	one, two := opened(t, dir.Options{Path: at}), opened(t, dir.Options{Path: at})
	v, err := object.PutBytes(t.Context(), one, "x", []byte("1"), object.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := object.PutBytes(t.Context(), two, "x", []byte("2"), object.IfVersion(v)); err != nil {
		t.Fatal(err)
	}
	if _, err := object.PutBytes(t.Context(), one, "x", []byte("3"), object.IfVersion(v)); !errors.Is(err, fsapi.Precondition) {
		t.Errorf("a stale version was replaced: %v", err)
	}
}

// TestForeignFile refuses what Strake has not written, and says so.
func TestForeignFile(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	s := opened(t, dir.Options{FS: m, Path: "/b"})
	if err := osfs.WriteSynced(m, "/b/foreign", []byte("not an object"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "foreign"); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("stat of a foreign file: %v", err)
	}
}
