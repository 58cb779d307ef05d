package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A server in one network namespace is found and used from another by a client
// that was told nothing but its token.
func TestDiscover(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and ip(8)")
	}
	bin, err := exec.LookPath("strake") // testscript.Main puts this test there
	if err != nil {
		t.Fatal(err)
	}
	a, b := namespaces(t)
	in := func(ns string, args ...string) *exec.Cmd {
		return exec.Command("ip", append([]string{"netns", "exec", ns, bin}, args...)...)
	}
	dir, err := os.MkdirTemp("", "strake") // a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "conf.toml")
	if err := os.WriteFile(conf, []byte("[discovery]\nannounce = true\nname = \"attic\"\n[rest]\nlisten = \"10.78.0.1:7420\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := in(a, "serve", "--data", filepath.Join(dir, "d"), "--config", conf)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = srv.Process.Signal(os.Interrupt) // ip(8) became the server by exec
		if err := srv.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	}()
	token := waitFor(t, filepath.Join(dir, "d", "token"))
	var out []byte
	for range 10 { // it probes for its name before it announces it
		if out, err = in(b, "discover").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(string(out), "attic") {
			break
		}
	}
	if !strings.Contains(string(out), "http://10.78.0.1:7420") {
		t.Fatalf("%s", out)
	}
	out, err = in(b, "status", "--data", filepath.Join(dir, "none"), "--token", token).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "using attic at http://10.78.0.1:7420") || !strings.Contains(string(out), "VOLUME") {
		t.Errorf("%v: %s", err, out)
	}
	cmd := in(b, "status", "--data", filepath.Join(dir, "none"), "--token", token)
	cmd.Env = append(os.Environ(), "STRAKE_DISCOVER=off")
	if out, err = cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no server answers at http://127.0.0.1:7420") {
		t.Errorf("told not to look: %v: %s", err, out)
	}
}

// namespaces makes two network namespaces joined by a cable.
func namespaces(t *testing.T) (a, b string) {
	t.Helper()
	a, b = fmt.Sprintf("strake-c%d", os.Getpid()), fmt.Sprintf("strake-d%d", os.Getpid())
	for _, cmd := range []string{
		"netns add " + a, "netns add " + b,
		"link add eth0 netns " + a + " type veth peer name eth0 netns " + b,
		"-n " + a + " addr add 10.78.0.1/24 dev eth0", "-n " + b + " addr add 10.78.0.2/24 dev eth0",
		"-n " + a + " link set eth0 up", "-n " + b + " link set eth0 up", "-n " + a + " link set lo up", "-n " + b + " link set lo up",
	} {
		out, err := exec.Command("ip", strings.Fields(cmd)...).CombinedOutput()
		ns, making := strings.CutPrefix(cmd, "netns add ")
		switch {
		case err != nil && making:
			t.Skipf("no network namespaces here: %s", out)
		case err != nil:
			t.Fatalf("ip %s: %v: %s", cmd, err, out)
		case making:
			t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", ns).Run() })
		}
	}
	return a, b
}

// waitFor reads a file that another process makes.
func waitFor(t *testing.T, name string) string {
	t.Helper()
	for range 600 {
		if b, err := os.ReadFile(name); err == nil {
			return strings.TrimSpace(string(b))
		}
		time.Sleep(50 * time.Millisecond) // another process: there is nothing to wait on
	}
	t.Fatalf("%s did not come", name)
	return ""
}
