// Package servers starts real object-store servers on loopback for tests:
// versitygw, which speaks S3, fake-gcs-server and Azurite. tools/needs test
// prepares them.
//
// It owns: finding, starting and stopping them. It must not know what the tests
// do with them. Each server has one goroutine, waiting for its end; the test's
// cleanup waits for that.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// dir is where tools/needs puts the servers.
func dir() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "strake", "servers"), err
}

// find is the path of a server, or the test is skipped; on a machine where
// tools/needs can prepare it the test fails instead.
func find(t testing.TB, name string) string {
	t.Helper()
	at, err := dir()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(at, name)
	_, err = os.Stat(file)
	switch {
	case err == nil:
		return file
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	case preparable():
		t.Fatalf("%s is not there: run tools/needs test", file)
	}
	t.Skipf("there is no %s: tools/needs test prepares it on Debian as root", file)
	return ""
}

// preparable reports whether tools/needs can install what it lacks.
func preparable() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Getuid() == 0
}

// output gathers what a server says. Safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements io.Writer; of a flood only the beginning is kept.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() < 64<<10 {
		o.buf.Write(p)
	}
	return len(p), nil
}

// String is what the server said.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// host is an address of loopback that no other process's servers have: the time
// between the choice of a port and its use is long on a busy machine.
func host() string {
	if runtime.GOOS != "linux" { // elsewhere 127.0.0.1 is the only one
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid>>16&63, pid>>8&255, pid&255)
}

// given are the ports of this process's servers.
var given sync.Map

// freePort is a port of host that nobody listens on, and that is given out once.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		err = errors.Join(err, l.Close())
		if err != nil {
			t.Fatal(err)
		}
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port
		}
	}
}

// startTime bounds how long a server may take to answer.
const startTime = 60 * time.Second

// start runs a server until the test ends or stop is called, which kills it and
// waits for its end. It is ready when it answers HTTP, in whatever way.
func start(t testing.TB, port, command string, args ...string) (stop func()) {
	t.Helper()
	said := &output{}
	cmd := exec.Command(command, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "AZURITE_DISABLE_TELEMETRY=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // fails if it has ended
		<-ended
	})
	t.Cleanup(stop)
	client := &http.Client{Timeout: 5 * time.Second}
	for begin := time.Now(); ; {
		resp, err := client.Get("http://" + net.JoinHostPort(host(), port) + "/")
		if err == nil {
			resp.Body.Close()
			return stop
		}
		select {
		case why := <-ended:
			ended <- why
			t.Fatalf("%s ended: %v\n%s", command, why, said)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(begin) > startTime {
			t.Fatalf("%s does not answer: %v\n%s", command, err, said)
		}
	}
}
