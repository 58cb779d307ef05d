package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestFits: the edits are of the runtime of the Go that go.mod names. After a change
// of it this says which are not.
func TestFits(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "\ngo "+strings.TrimPrefix(runtime.Version(), "go")+"\n") {
		t.Skipf("go.mod names another Go than %s", runtime.Version())
	}
	src, err := source()
	if err != nil {
		t.Fatal(err)
	}
	if err := write(src, t.TempDir()); err != nil {
		t.Error(err)
	}
}

// TestMisfit: what does not fit is an error that says where, and nothing is written.
func TestMisfit(t *testing.T) {
	src, dir := t.TempDir(), t.TempDir()
	for _, e := range edits {
		if err := os.WriteFile(filepath.Join(src, e.file), []byte("package runtime\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := write(src, dir)
	if err == nil || strings.Count(err.Error(), " has 0 times") != len(edits) {
		t.Errorf("%d edits of files without what is to be changed: %v", len(edits), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("written all the same: %v, %v", left, err)
	}
}
