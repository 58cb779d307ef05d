package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/test/servers"
)

func TestProgramSize(t *testing.T) {
	maps := `00400000-01cb5000 r-xp 00000000 fe:00 1234                               /usr/bin/strake
01cb5000-03c00000 r--p 018b5000 fe:00 1234                               /usr/bin/strake
03c00000-03d00000 rw-p 03800000 fe:00 1234                               /usr/bin/strake
c000000000-c000400000 rw-p 00000000 00:00 0 
7f0000000000-7f0000100000 r--p 00000000 fe:00 99                         /usr/lib/libc.so.6
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
`
	if n := programSize([]byte(maps)); n != 0x03d00000-0x00400000 {
		t.Errorf("%d bytes", n)
	}
	for _, bad := range []string{"", "x", "zz-yy r-xp 0 0 0 /x\n", "1 2 3 4 5 6\n"} {
		if n := programSize([]byte(bad)); n != 0 {
			t.Errorf("%q: %d bytes", bad, n)
		}
	}
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if n := programSize(own); n < exe.Size()/4 || n > 2*exe.Size() {
		t.Errorf("%d bytes are mapped of a program of %d", n, exe.Size())
	}
}

// ready is closed when what is written to it has a line that begins with "ready".
type ready struct {
	text bytes.Buffer
	at   chan struct{}
	is   bool
}

func (r *ready) Write(p []byte) (int, error) {
	r.text.Write(p)
	if !r.is && (bytes.HasPrefix(r.text.Bytes(), []byte("ready")) || bytes.Contains(r.text.Bytes(), []byte("\nready"))) {
		r.is = true
		close(r.at)
	}
	return len(p), nil
}

// TestServerBoundsItsMemory: while a server runs, the runtime keeps to what the
// configuration says, less what is mapped of the program; to GOMEMLIMIT where it is set.
func TestServerBoundsItsMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	own := programSize(maps)
	const none = math.MaxInt64
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		env  string
		want int64
	}{
		{"", 700<<20 - own},
		{"1GiB", none}, // the runtime has read it long before
	} {
		t.Setenv("GOMEMLIMIT", c.env)
		debug.SetMemoryLimit(none)
		cfg := config.Default()
		cfg.Data.Dir, cfg.Rest.Listen, cfg.Memory.Limit, cfg.Log.Level = dir, "", 700<<20, "error"
		ctx, stop := context.WithCancel(t.Context())
		out := &ready{at: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, nil, cfg, out) }()
		select {
		case <-out.at:
			if got := debug.SetMemoryLimit(-1); got != c.want {
				t.Errorf("GOMEMLIMIT %q: the runtime keeps to %d bytes, want %d", c.env, got, c.want)
			}
			stop()
			t.Logf("the server has stopped: %v", <-ended)
		case err := <-ended:
			stop()
			t.Fatalf("the server has ended by itself: %v", err)
		}
	}
	t.Setenv("GOMEMLIMIT", "")
	boundMemory(own) // of which nothing would be left
	if got := debug.SetMemoryLimit(before); got != own/2 {
		t.Errorf("of a bound of %d bytes %d are left", own, got)
	}
}

// TestBucketsShareMemory: what all buckets that are drives hold for uploads in one
// request is bounded together: while one holds all of it, another sends parts.
func TestBucketsShareMemory(t *testing.T) {
	srv := servers.S3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", srv.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", srv.SecretKey)
	const part, size = 5 << 20, 15 << 20 // bytes; nothing is taken for the first part
	root := t.TempDir()
	cfg := config.Default()
	cfg.Data.Dir = filepath.Join(root, "data")
	cfg.Memory.Limit = 6 * (size - part)
	names := []string{"one", "two"}
	cfg.Drives = []config.Drive{{Name: "disk", Path: filepath.Join(root, "disk"), Tier: "hot"}}
	for _, name := range names {
		srv.Bucket(t, name)
		cfg.Drives = append(cfg.Drives, config.Drive{
			Name: name, Path: "s3://" + name + "?region=us-east-1&path-style=true&part-size=5242880&endpoint=" + srv.Endpoint, Tier: "cold",
		})
	}
	n, err := openNode(t.Context(), cfg, slog.New(slog.DiscardHandler), openOrCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	body := make([]byte, size)
	write := func(name string, parts int) drive.Writer {
		t.Helper()
		d, err := n.drives.set.Drive(n.drives.byName(name))
		if err != nil {
			t.Fatal(err)
		}
		w, err := d.Create(t.Context(), "blob", size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if got := srv.Uploads(t, name); got != parts {
			t.Errorf("drive %s sends %d objects in parts, want %d", name, got, parts)
		}
		return w
	}
	first := write("one", 0) // it has all of the memory
	for _, w := range []drive.Writer{write("two", 1), first} {
		if err := w.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
