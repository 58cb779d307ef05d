package pebble

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// TestZerosAhead sees that a new log on a disk is filled with zeros ahead of
// what is written, and that what was synced is there after a crash that leaves
// them: the directory is copied while the engine runs.
func TestZerosAhead(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(Options{FS: osfs.OS{}, Dir: filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	value := make([]byte, 5000)
	for i := range 700 {
		value[0] = byte(i)
		_, err := e.Update(t.Context(), kv.UpdateOptions{Sync: i%100 == 99}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "key %d", i), value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, e)
	copied := filepath.Join(dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, "db"))); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(copied, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	newest, err := os.ReadFile(slices.Max(logs))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(newest) - len(bytes.TrimRight(newest, "\x00")); n < 64<<10 || n > 3*zeroStep {
		t.Errorf("a log of %d bytes ends with %d zeros; want about %d", len(newest), n, zeroStep)
	}
	again, err := Open(Options{FS: osfs.OS{}, Dir: copied})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := dump(t, again); !maps.Equal(got, want) {
		t.Errorf("after the crash there are %d keys, want %d, or they differ", len(got), len(want))
	}
	if again.LastSeq() != e.LastSeq() {
		t.Errorf("after the crash the log ends at %d, want %d", again.LastSeq(), e.LastSeq())
	}
}
