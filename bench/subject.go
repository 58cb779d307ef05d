package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The packages of the programs measured against.
const (
	loopbackProgram = "github.com/strakefs/strake/bench/loopback"
	clientProgram   = "github.com/strakefs/strake/bench/s3client"
	strakeProgram   = "github.com/strakefs/strake/cmd/strake"
)

// The names of subjects in results.
const (
	ownName       = "strake"
	referenceName = "reference"
)

// subject is a file system to measure, or what does the same work without one.
type subject struct {
	name string
	// command serves the data in dir/data on dir/mnt until SIGTERM; nil where there
	// is nothing to serve.
	command func(dir string) *exec.Cmd
	// setup prepares what was started; may be nil.
	setup func(m *machine) error
	// work takes the place of the group's; may be nil.
	work func(m *machine) error
}

// run is what is done on the subject in a group.
func (s *subject) run(g group) func(m *machine) error {
	if s.work != nil {
		return s.work
	}
	return g.run
}

// build makes the programs that are needed and not given.
func (o *options) build(ctx context.Context, set []group) error {
	if o.cache == "" {
		c, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		o.cache = filepath.Join(c, "strake-bench")
	}
	needed := map[string]*string{}
	if o.groups != "ceiling" {
		needed[strakeProgram] = &o.strake
	}
	for _, g := range set {
		switch {
		case g.gateway:
			needed[clientProgram] = &o.client
		case o.groups != "storage":
			needed[loopbackProgram] = &o.loopback
		}
	}
	for pkg, binary := range needed {
		if *binary != "" {
			continue
		}
		*binary = filepath.Join(o.cache, filepath.Base(pkg))
		if err := goTool(ctx, "build", "-o", *binary, pkg); err != nil {
			return err
		}
	}
	return nil
}

// serve is the command of a Strake that mounts its default volume.
func (o *options) serve(dir string) *exec.Cmd {
	args := append([]string{"serve", "--data", dir + "/data", "--mount", dir + "/mnt", "--listen", "off"}, strings.Fields(o.args)...)
	return exec.Command(o.strake, args...)
}

// loopbackPair is Strake's mount and the loopback's.
func loopbackPair(o *options) [2]*subject {
	return [2]*subject{{name: ownName, command: o.serve}, {name: referenceName, command: func(dir string) *exec.Cmd {
		return exec.Command(o.loopback, dir+"/mnt", dir+"/data")
	}}}
}

// ceilingPair is the loopback's mount without durability, and with.
func ceilingPair(o *options) [2]*subject {
	pair := loopbackPair(o)
	pair[0].command = func(dir string) *exec.Cmd {
		return exec.Command(o.loopback, "-no-fsync", dir+"/mnt", dir+"/data")
	}
	return pair
}

func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// machine is a subject at its turn.
type machine struct {
	ctx    context.Context
	o      *options
	s      *subject
	dir    string
	cmd    *exec.Cmd
	err    bytes.Buffer // what the server says on standard error
	exited chan error
	beside []func() error // ends what runs beside the server, in reverse order
	env    []string       // more of the server's environment
	rss    float64        // peak of servers that have ended, bytes
	values map[string]float64
}

func (m *machine) mnt() string                    { return m.dir + "/mnt" }
func (m *machine) path(name string) string        { return filepath.Join(m.mnt(), name) }
func (m *machine) value(name string, v float64)   { m.values[name] = v }
func (m *machine) rate(name string, n, s float64) { m.value(name, n/s) }

// start starts the server and waits until it has mounted.
func (m *machine) start() error {
	if m.s.command == nil {
		return nil
	}
	for _, d := range []string{"data", "mnt"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			return err
		}
	}
	m.cmd = m.s.command(m.dir)
	m.cmd.Env = append(os.Environ(), m.env...)
	m.err.Reset()
	m.cmd.Stderr = &m.err
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.exited = make(chan error, 1)
	go func() {
		// What it prints is read to the end; readiness is seen by the mount.
		_, _ = io.Copy(io.Discard, bufio.NewReader(out))
		m.exited <- m.cmd.Wait()
	}()
	return m.mounted()
}

// mounted waits until the mount point is another device than its parent.
func (m *machine) mounted() error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		var a, b syscall.Stat_t
		if syscall.Stat(m.mnt(), &a) == nil && syscall.Stat(m.dir, &b) == nil && a.Dev != b.Dev {
			return nil
		}
		select {
		case err := <-m.exited:
			m.cmd = nil
			return fmt.Errorf("%s ended: %w\n%s", m.s.name, errors.Join(err), m.err.Bytes())
		case <-m.ctx.Done():
			return m.ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s did not mount within a minute\n%s", m.s.name, m.err.Bytes())
}

// stop ends the server and unmounts.
func (m *machine) stop() error {
	if m.cmd == nil {
		return nil
	}
	m.rss = m.peak()
	// The loopback unmounts on SIGTERM only when nobody uses the mount.
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	defer func() { m.cmd = nil }()
	select {
	case err := <-m.exited:
		if err != nil {
			return fmt.Errorf("%s ended: %w\n%s", m.s.name, err, m.err.Bytes())
		}
		return nil
	case <-time.After(time.Minute):
		_ = m.cmd.Process.Kill()
		_ = syscall.Unmount(m.mnt(), syscall.MNT_DETACH)
		return fmt.Errorf("%s did not end within a minute of SIGTERM\n%s", m.s.name, m.err.Bytes())
	}
}

// end ends what runs beside the server.
func (m *machine) end() (err error) {
	for _, stop := range slices.Backward(m.beside) {
		err = errors.Join(err, stop())
	}
	m.beside = nil
	return err
}

// cold makes the next read come from the disk: the server starts anew and the
// host's caches are dropped.
func (m *machine) cold() error {
	if err := m.stop(); err != nil {
		return err
	}
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	return m.start()
}

// cpu is the time the server has computed, in seconds (proc(5), stat).
func (m *machine) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const utime, stime, ticks = 11, 12, 100 // fields from the one after the name; USER_HZ
	u, _ := strconv.ParseFloat(f[utime], 64)
	s, _ := strconv.ParseFloat(f[stime], 64)
	return (u + s) / ticks
}

// perOp is the CPU time of n operations since the clock stood at before, in
// microseconds each.
func (m *machine) perOp(name string, before, n float64) { m.value(name, (m.cpu()-before)*1e6/n) }

// peak is the most memory the server had resident, in bytes (VmHWM).
func (m *machine) peak() float64 {
	if m.cmd == nil {
		return m.rss
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		return m.rss
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return max(m.rss, kb*1024)
		}
	}
	return m.rss
}

// timed is how long fn takes, in seconds.
func timed(fn func() error) (float64, error) {
	t := time.Now()
	err := fn()
	return time.Since(t).Seconds(), err
}
