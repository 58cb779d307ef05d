package posix

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStrake runs the table on the mount of a real server with its defaults,
// and checks what the server leaves.
func TestStrake(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, err := os.MkdirTemp("", "posix")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, data, mnt := os.Getenv("STRAKE_BIN"), filepath.Join(dir, "data"), filepath.Join(dir, "mnt")
	if bin == "" {
		bin = filepath.Join(dir, "strake")
		if out, err := exec.Command("go", "build", "-o", bin, "github.com/strakefs/strake/cmd/strake").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	serve := exec.Command(bin, "serve", "--data", data, "--mount", mnt, "--listen", "off")
	serve.Stderr = os.Stderr
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		serve.Process.Kill()
		serve.Wait()
		unix.Unmount(mnt, unix.MNT_DETACH)
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready") {
	}
	names := 5000
	if os.Getenv("STRAKE_LONG") != "" {
		names = 50_000
	}
	Run(t, mnt, Options{Names: names})
	if err := serve.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Fatalf("the server ended with %v", err)
	}
	if out, err := exec.Command(bin, "fsck", "--data", data).CombinedOutput(); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
