// Command acceptance does real work on a real mount and kills the server with
// SIGKILL in the middle of each piece, then checks that everything acknowledged
// is there.
//
// It owns: the list of jobs and what each may rely on. It must not know
// anything of Strake but its command line and POSIX.
//
//	go run ./test/acceptance -strake bin/strake [-work DIR] [-only NAME,...] [-killed]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A job is one piece of real work.
type job struct {
	name string
	// whole does the work to its end and checks the result.
	whole func(r *rig) error
	// interrupted does work until ctx ends (the server has been killed), notes
	// what was acknowledged, and returns a check to run after the restart.
	interrupted func(ctx context.Context, r *rig) (check func() error, err error)
	// killsItself says that interrupted kills the server at its own moment.
	killsItself bool
}

var jobs = []job{
	{"copy", copyWhole, copyInterrupted, false},
	{"go-build", buildWhole, buildInterrupted, false},
	{"git", gitWhole, gitInterrupted, false},
	{"sqlite", sqliteWhole, sqliteInterrupted, false},
	{"postgres", postgresWhole, postgresInterrupted, true},
	{"tar", tarWhole, tarInterrupted, false},
}

// result is one line of the report.
type result struct {
	Job     string  `json:"job"`
	Seconds float64 `json:"seconds"`
	Outcome string  `json:"outcome"` // "ok", "skipped: why" or the error
}

func main() {
	bin := flag.String("strake", "bin/strake", "the binary to test")
	work := flag.String("work", "", "directory to work in (default: a temporary one)")
	only := flag.String("only", "", "comma-separated names of jobs")
	killed := flag.Bool("killed", false, "only the runs in which the server is killed")
	asJSON := flag.Bool("json", false, "print the report as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	results, err := run(ctx, *bin, *work, *only, *killed)
	if *asJSON {
		json.NewEncoder(os.Stdout).Encode(results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(1)
	}
	failed := 0
	for _, r := range results {
		if r.Outcome != "ok" && !strings.HasPrefix(r.Outcome, "skipped") {
			failed++
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(results)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, work, only string, killed bool) ([]result, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("run as root: PostgreSQL gets a user of its own and the mount is opened to it")
	}
	if work == "" {
		dir, err := os.MkdirTemp("", "strake-acceptance-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		work = dir
	}
	if err := os.Chmod(work, 0o755); err != nil { // PostgreSQL's user passes through
		return nil, err
	}
	abs, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	r := &rig{ctx: ctx, bin: abs, data: filepath.Join(work, "data"), mnt: filepath.Join(work, "mnt"), out: filepath.Join(work, "out")}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return nil, err
	}
	defer r.stop()
	if err := r.start(); err != nil {
		return nil, err
	}
	var results []result
	for _, j := range jobs {
		if only != "" && !strings.Contains(","+only+",", ","+j.name+",") {
			continue
		}
		if !killed {
			results = append(results, timed(j.name, func() error { return j.whole(r) }))
		}
		results = append(results, timed(j.name+", killed", func() error { return r.killedDuring(j) }))
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
	}
	results = append(results, timed("fsck at the end", r.fsck))
	return results, nil
}

// skip is an outcome that is neither good nor bad.
type skip string

func (s skip) Error() string { return "skipped: " + string(s) }

func timed(name string, fn func() error) result {
	start := time.Now()
	err := fn()
	res := result{name, time.Since(start).Seconds(), "ok"}
	if err != nil {
		res.Outcome = err.Error()
	}
	fmt.Printf("%-18s %7.1f s  %s\n", res.Job, res.Seconds, res.Outcome)
	return res
}

// rig is a server that can be killed.
type rig struct {
	ctx            context.Context
	bin            string
	data, mnt, out string
	log            *os.File
	mu             sync.Mutex
	server         *exec.Cmd // guarded by mu while a job runs
}

// start starts the server and waits for its ready line.
func (r *rig) start() error {
	log, err := os.OpenFile(filepath.Join(r.out, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	r.log = log
	r.server = exec.Command(r.bin, "serve", "--data", r.data, "--mount", r.mnt, "--listen", "off")
	r.server.Stderr = log
	out, err := r.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := r.server.Start(); err != nil {
		return err
	}
	return waitReady(out)
}

// stop ends the server cleanly.
func (r *rig) stop() error {
	if r.server == nil {
		return nil
	}
	defer r.log.Close()
	if err := r.server.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	err := r.server.Wait()
	r.server = nil
	return err
}

// kill ends the server with SIGKILL, if it runs.
func (r *rig) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	r.server.Process.Kill()
	r.server.Wait()
	r.log.Close()
	r.server = nil
}

// killAfter is how long a job works before the server is killed under it.
const killAfter = 5 * time.Second

func (r *rig) killedDuring(j job) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	type outcome struct {
		check func() error
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		check, err := j.interrupted(ctx, r)
		done <- outcome{check, err}
	}()
	after := time.After(killAfter)
	if j.killsItself {
		after = nil
	}
	var o outcome
	select {
	case o = <-done: // it ended by itself: an error, or too little work
		if o.err != nil {
			return o.err
		}
		r.kill()
	case <-after:
		cancel()
		r.kill()
		o = <-done
	}
	if err := r.start(); err != nil {
		log, _ := os.ReadFile(filepath.Join(r.out, "server.log"))
		return fmt.Errorf("restart after the kill: %w; server.log ends: %s", err, log[max(0, len(log)-800):])
	}
	if o.err != nil {
		return o.err
	}
	return o.check()
}

// fsck checks the store offline, which is also a clean stop and start.
func (r *rig) fsck() error {
	if err := r.stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	out, err := exec.Command(r.bin, "fsck", "--data", r.data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fsck: %w: %s", err, out)
	}
	return r.start()
}

// dir makes an empty directory on the mount.
func (r *rig) dir(name string) (string, error) {
	d := filepath.Join(r.mnt, name)
	if err := os.RemoveAll(d); err != nil {
		return "", err
	}
	return d, os.MkdirAll(d, 0o755)
}

// cmd runs a program in dir and returns its output; an error has the output's
// end in it.
func cmd(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		tail := out[max(0, len(out)-2000):]
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, tail)
	}
	return string(out), nil
}

// need is a skip where a program is not installed.
func need(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return skip(name + " is not installed (make acceptance as root on Debian installs it)")
	}
	return nil
}
