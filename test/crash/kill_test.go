package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(workEnv); spec != "" {
		if err := runWorker(spec); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// strake is the program to kill: $STRAKE_BIN, or built from this tree.
func strake(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root: run as root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("mounting needs FUSE: %v", err)
	}
	if bin := os.Getenv("STRAKE_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "strake")
	build := exec.Command("go", "build", "-o", bin, "github.com/strakefs/strake/cmd/strake")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// TestKill kills the server with SIGKILL at random times while processes work
// on its mount, starts it again, and checks what they were told.
func TestKill(t *testing.T) {
	kills, every := 5, 3
	if long() {
		kills, every = 200, 10
	}
	if *flagRuns > 0 {
		kills = *flagRuns
	}
	top := t.TempDir()
	k := &killing{
		T: t, binary: strake(t), top: top, data: filepath.Join(top, "data"), mount: filepath.Join(top, "mnt"),
		rng: rand.New(rand.NewPCG(*flagSeed, 3)),
	}
	k.ok(os.Mkdir(k.mount, 0o755))
	t.Cleanup(func() { _ = unmount(k.mount) }) // where the test failed
	start := time.Now()
	for n := range kills {
		if n > 0 && n%every == 0 {
			k.ok(fsck(t.Context(), k.binary, k.data))
			k.checks++
		}
		k.round(n)
		if n%20 == 19 {
			t.Logf("%d kills in %v, %d of them while starting, %d proofs, %d fsck", n+1, time.Since(start).Round(time.Second), k.early, k.proofs, k.checks)
		}
	}
	s := k.serve()
	k.prove()
	k.ok(s.stop())
	k.ok(fsck(t.Context(), k.binary, k.data))
	t.Logf("%d kills, %d of them while starting, %d proofs, slowest start %v", kills, k.early, k.proofs, k.slowest)
}

// killing is the run of TestKill.
type killing struct {
	*testing.T
	binary, top, data, mount string
	rng                      *rand.Rand
	past                     []*process // of earlier rounds, whose files are still there
	early, proofs, checks    int
	slowest                  time.Duration // start
}

func (k *killing) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%v\nrepeat with\n\tgo test ./test/crash -run '^TestKill$' -seed %d", err, *flagSeed)
	}
}

// serve starts the server and waits for it.
func (k *killing) serve() *server {
	k.Helper()
	begun := time.Now()
	s, err := startServer(k.binary, k.data, k.mount)
	k.ok(err)
	k.ok(s.waitReady())
	k.slowest = max(k.slowest, time.Since(begun))
	return s
}

// round starts the server, checks the rounds before, lets new workers work, and
// kills it.
func (k *killing) round(n int) {
	if k.rng.IntN(5) == 0 { // while it starts, or recovers
		s, err := startServer(k.binary, k.data, k.mount)
		k.ok(err)
		time.Sleep(time.Duration(k.rng.IntN(400)) * time.Millisecond)
		k.ok(s.kill(k.mount))
		k.early++
	}
	s := k.serve()
	k.prove()
	k.forget()
	var workers []*process
	list := slices.Sorted(maps.Keys(kinds))
	for i := range 4 {
		kind := list[k.rng.IntN(len(list))]
		name := fmt.Sprintf("r%d-%d-%s", n, i, kind)
		p, err := startWorker(kind, filepath.Join(k.mount, name), filepath.Join(k.top, name), k.rng.Uint64())
		k.ok(err)
		workers = append(workers, p)
	}
	time.Sleep(time.Duration(50+k.rng.IntN(1500)) * time.Millisecond)
	for _, p := range workers {
		k.ok(p.running())
	}
	k.ok(s.kill(k.mount))
	for _, p := range workers {
		k.ok(p.end())
	}
	k.past = append(k.past, workers...)
}

// prove checks all rounds whose files are there.
func (k *killing) prove() {
	k.Helper()
	for _, p := range k.past {
		k.ok(p.proof())
		k.proofs++
	}
}

// forget removes the files of rounds long ago.
func (k *killing) forget() {
	const keep = 12
	for len(k.past) > keep {
		k.ok(os.RemoveAll(k.past[0].dir))
		k.past = k.past[1:]
	}
}
