package meta

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
)

// TestLargeDirectory works in one directory of many names on disk: 20,000, or
// ten million with STRAKE_LONG=1.
func TestLargeDirectory(t *testing.T) {
	n := 20_000
	if os.Getenv("STRAKE_LONG") != "" {
		n = 10_000_000
	}
	e, err := pebble.Open(pebble.Options{FS: osfs.OS{}, Dir: t.TempDir() + "/kv"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f := newFixtureOn(t, e)
	dir := f.make(fsapi.RootIno, "big", fsapi.TypeDirectory)
	start := time.Now()
	f.fill(dir, n)
	t.Logf("%d names made, %v each", n, time.Since(start)/time.Duration(n))

	start = time.Now()
	read, last := 0, ""
	for more := true; more; {
		f.view(func(tx *Tx) error {
			list, err := tx.ReadDir(dir, last, 10_000)
			if more = len(list) > 0; more {
				read, last = read+len(list), list[len(list)-1].Name
			}
			return err
		})
	}
	if read != n {
		t.Errorf("read %d names of %d", read, n)
	}
	t.Logf("read with attributes, %v each", time.Since(start)/time.Duration(n))

	start = time.Now()
	for i := range 1000 {
		f.make(dir, fmt.Sprint("new", i), fsapi.TypeRegular)
		if err := f.remove(dir, fmt.Sprintf("file-%09d", i*(n/1000)), KeepNone); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("one more and one less, %v", time.Since(start)/1000)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap %d MiB", m.HeapAlloc>>20)
	start = time.Now()
	f.clean()
	t.Logf("checked, %v each", time.Since(start)/time.Duration(n))
}
