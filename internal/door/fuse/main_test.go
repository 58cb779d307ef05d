package fuse

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
	"github.com/strakefs/strake/test/posix"
)

// serveEnv names the directory on which this process, started by a test, serves
// a model. A server in a process of its own may be mapped from, and killed.
const serveEnv = "STRAKE_FUSE_TEST_SERVE"

// writebackEnv, where set, makes it mount with Options.Writeback.
const writebackEnv = "STRAKE_FUSE_TEST_WRITEBACK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		os.Exit(serve(dir))
	}
	os.Exit(posix.Main(m))
}

// serve mounts a model until told to end.
func serve(dir string) int {
	o := Options{
		FS: model.New(model.Options{}), Dir: dir, AllowOther: true, Suid: true, Dev: true, Log: quiet(),
		Writeback: os.Getenv(writebackEnv) != "",
	}
	if os.Getenv("STRAKE_TRACE") != "" {
		o.Trace = true
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := Mount(o)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	os.Stdout.WriteString("ready\n")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	select {
	case <-stop:
	case <-s.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Unmount(ctx); err != nil {
		return 1
	}
	return 0
}

// quiet logs errors only.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// needMount skips a test where mounting is not allowed.
func needMount(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no /dev/fuse")
	}
}

// mountPoint is a new directory that other users may search.
func mountPoint(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "strake-fuse")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(filepath.Join(dir, "m"), unix.MNT_DETACH)
		os.RemoveAll(dir)
	})
	return filepath.Join(dir, "m")
}

// startServer serves a model from another process.
func startServer(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), serveEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return cmd
}

// mountFS mounts a file system in this process.
func mountFS(t *testing.T, fs vfs.FS, change func(*Options)) *Server {
	t.Helper()
	needMount(t)
	o := Options{FS: fs, Dir: mountPoint(t), AllowOther: true, Log: quiet()}
	if change != nil {
		change(&o)
	}
	s, err := Mount(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := s.Unmount(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}
