package dir_test

import (
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/osfs"
)

const testID = 0x1234

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes a drive in a directory of fsys and opens it.
func made(t *testing.T, o dir.Options) *dir.Drive {
	t.Helper()
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	must(t, dir.Init(o.FS, o.Path, dir.Identity{ID: testID, Created: time.Unix(1_700_000_000, 0)}))
	return opened(t, o)
}

func opened(t *testing.T, o dir.Options) *dir.Drive {
	t.Helper()
	d, err := dir.Open(o)
	must(t, err)
	return d
}

func TestConformance(t *testing.T) {
	variants := map[string]func(t *testing.T) dir.Options{
		"OS direct": func(t *testing.T) dir.Options {
			return dir.Options{Path: path.Join(t.TempDir(), "new", "drive"), Name: "one", Tier: "hot", Domain: "d"}
		},
		"OS buffered": func(t *testing.T) dir.Options {
			return dir.Options{Path: t.TempDir(), Write: dir.WriteBuffered, DropCache: true, OpenFiles: 2}
		},
		"Mem": func(t *testing.T) dir.Options {
			return dir.Options{FS: osfs.NewMem(osfs.MemOptions{}), Path: "/drive", Buffer: 4096}
		},
		"Mem without links": func(t *testing.T) dir.Options {
			return dir.Options{FS: osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), noLinks), Path: "/drive"}
		},
	}
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			var o dir.Options
			drivetest.Run(t, func(t *testing.T) drive.Drive {
				o = options(t)
				return made(t, o)
			}, drivetest.Capabilities{
				Reopen: func(t *testing.T, _ drive.Drive) drive.Drive { return opened(t, o) },
			})
		})
	}
}

// noLinks is a file system without hard links, as some NAS mounts are.
func noLinks(c osfs.Call) osfs.Outcome {
	if c.Op == osfs.OpLink {
		return osfs.Outcome{Err: syscall.EPERM}
	}
	return osfs.Outcome{}
}
