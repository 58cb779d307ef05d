package posix

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestHost runs the table on the host's own file system: what fails here is
// wrong with the test.
func TestHost(t *testing.T) {
	dir, err := os.MkdirTemp("", "posix") // not t.TempDir, which other users may not search
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	Run(t, dir, Options{Names: 5000})
}

// TestMount runs the table on a directory of any mount.
func TestMount(t *testing.T) {
	dir := os.Getenv("STRAKE_POSIX_DIR")
	if dir == "" {
		t.Skip("STRAKE_POSIX_DIR names no directory")
	}
	Run(t, dir, Options{})
}
