package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/brutella/dnssd"
	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestBeyond(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:7420": false, "[::1]:7420": false, "localhost:1": false, "nonsense": false,
		"0.0.0.0:7420": true, "[::]:7420": true, "10.1.2.3:1": true, ":7420": true,
	} {
		if Beyond(address) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
	if err := Announce(t.Context(), Service{Name: "x", Address: "127.0.0.1:7420"}); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a server on loopback: %v", err)
	}
	if err := Announce(t.Context(), Service{Name: "x", Address: "192.0.2.1:7420"}); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("a server at an address that is not here: %v", err)
	}
}

func TestServerOf(t *testing.T) {
	ip := net.ParseIP
	for want, e := range map[string]dnssd.BrowseEntry{
		"http://10.0.0.1:5":       {IPs: []net.IP{ip("fe80::1"), ip("2001:db8::1"), ip("10.0.0.1")}, Port: 5},
		"https://[2001:db8::1]:5": {IPs: []net.IP{ip("fe80::1"), ip("2001:db8::1")}, Port: 5, Text: map[string]string{"tls": "true"}},
		"http://[fe80::1%eth7]:5": {IPs: []net.IP{ip("fe80::1")}, Port: 5, IfaceName: "eth7", Text: map[string]string{"tls": "perhaps"}},
		"":                        {Port: 5},
	} {
		s, ok := serverOf(&e)
		if ok != (want != "") || ok && s.URL() != want {
			t.Errorf("%q, want %q", s.URL(), want)
		}
	}
}

// TestMain is also the two sides of TestNetwork, which run in namespaces of
// their own.
func TestMain(m *testing.M) {
	switch os.Getenv("DISCOVERY_SIDE") {
	case "server":
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() { // ends with the test that holds the other end
			_, _ = os.Stdin.Read(make([]byte, 1))
			cancel()
		}()
		if err := Announce(ctx, Service{Name: os.Getenv("DISCOVERY_NAME"), Address: os.Getenv("DISCOVERY_ADDRESS"), Version: "v9", TLS: true}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "client":
		list, err := Find(context.Background(), 2*time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = json.NewEncoder(os.Stdout).Encode(list)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A client finds what servers on the same network announce. Both are in network
// namespaces made here, so that nothing leaves them.
func TestNetwork(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and ip(8)")
	}
	a, b := fmt.Sprintf("strake-a%d", os.Getpid()), fmt.Sprintf("strake-b%d", os.Getpid())
	for _, cmd := range []string{
		"netns add " + a, "netns add " + b,
		"link add eth0 netns " + a + " type veth peer name eth0 netns " + b,
		"-n " + a + " addr add 10.77.0.1/24 dev eth0", "-n " + b + " addr add 10.77.0.2/24 dev eth0",
		"-n " + a + " link set eth0 up", "-n " + b + " link set eth0 up", "-n " + a + " link set lo up", "-n " + b + " link set lo up",
	} {
		if out, err := exec.Command("ip", strings.Fields(cmd)...).CombinedOutput(); err != nil {
			if strings.HasPrefix(cmd, "netns add") {
				t.Skipf("no network namespaces here: %s", out)
			}
			t.Fatalf("ip %s: %v: %s", cmd, err, out)
		}
		if ns, ok := strings.CutPrefix(cmd, "netns add "); ok {
			t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", ns).Run() })
		}
	}
	side := func(ns string, env ...string) *exec.Cmd {
		cmd := exec.Command("ip", "netns", "exec", ns, os.Args[0])
		cmd.Env = append(os.Environ(), env...)
		cmd.Stderr = os.Stderr
		return cmd
	}
	for name, address := range map[string]string{"attic": "10.77.0.1:7420", "cellar": "0.0.0.0:7421"} {
		srv := side(a, "DISCOVERY_SIDE=server", "DISCOVERY_NAME="+name, "DISCOVERY_ADDRESS="+address)
		stop, err := srv.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			stop.Close()
			if err := srv.Wait(); err != nil {
				t.Errorf("the server: %v", err)
			}
		})
	}
	want := []Server{{"attic", "10.77.0.1:7420", "v9", true}, {"cellar", "10.77.0.1:7421", "v9", true}}
	var got []Server
	for range 10 { // a server probes for its name before it announces it
		out, err := side(b, "DISCOVERY_SIDE=client").Output()
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if cmp.Equal(want, got) {
			return
		}
	}
	t.Error(cmp.Diff(want, got))
}
