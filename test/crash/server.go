package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is `strake serve` as a process.
type server struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed with the line that says so
	ended chan struct{} // closed when the process is gone and its output read
	log   strings.Builder
	err   error // of the process; valid when ended is closed
}

// startServer starts the server; it is not ready yet.
func startServer(binary, data, mount string) (*server, error) {
	s := &server{cmd: exec.Command(binary, "serve", "--data", data, "--mount", mount, "--listen", "off"), ready: make(chan struct{}), ended: make(chan struct{})}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process: waited for by ended
		defer close(s.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready") {
				close(s.ready)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		s.err = s.cmd.Wait()
	}()
	return s, nil
}

// patience is how long anything may take before it counts as hanging.
const patience = time.Minute

// waitReady waits until every door answers.
func (s *server) waitReady() error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return fmt.Errorf("the server ended before it was ready: %w\n%s", s.err, s.log.String())
	case <-time.After(patience):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // for the goroutines
		<-s.ended
		return fmt.Errorf("the server is not ready after %v:\n%s", patience, s.log.String())
	}
}

// kill ends it as a crash does, and takes down what is left of its mount.
func (s *server) kill(mount string) error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.ended
	return unmount(mount)
}

// stop ends it cleanly.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		<-s.ended
		return fmt.Errorf("the server does not end on SIGTERM:\n%s", s.log.String())
	}
	if s.err != nil {
		return fmt.Errorf("the server ended with %w\n%s", s.err, s.log.String())
	}
	return nil
}

// unmount takes down a mount whose server is gone; one that is not there is
// fine.
func unmount(dir string) error {
	err := syscall.Unmount(dir, syscall.MNT_DETACH)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// fsck checks a data directory that no server has open.
func fsck(ctx context.Context, binary, data string) error {
	out, err := exec.CommandContext(ctx, binary, "fsck", "--data", data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fsck: %w\n%s", err, out)
	}
	return nil
}

// process is a worker as a process.
type process struct {
	worker
	cmd     *exec.Cmd
	journal string
	ended   chan error
	log     strings.Builder // valid when ended
}

// startWorker starts this program as a worker.
func startWorker(kind, dir, journal string, seed uint64) (*process, error) {
	p := &process{worker: worker{kind: kind, dir: dir, seed: seed}, journal: journal, ended: make(chan error, 1)}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d", workEnv, kind, dir, journal, seed))
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }() // ends with the process: waited for by end
	return p, nil
}

// running reports whether the worker still works, as it should while the server
// is there.
func (p *process) running() error {
	select {
	case err := <-p.ended:
		p.ended <- err
		j, _ := readJournal(p.journal)
		return errors.Join(fmt.Errorf("worker %s in %s ended although the server was there (%s)", p.kind, p.dir, j.end), err)
	default:
		return nil
	}
}

// end waits for the worker, whose server is gone.
func (p *process) end() error {
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		state := p.state()
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for its goroutines
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.cmd.Process.Kill()
		}
		return fmt.Errorf("worker %s in %s hangs, although its server is gone\n%s\n%s", p.kind, p.dir, state, p.log.String())
	}
}

// state is where the threads of a worker are in the kernel.
func (p *process) state() string {
	var b strings.Builder
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.cmd.Process.Pid))
	for _, name := range names {
		for _, file := range []string{"wchan", "syscall", "stack"} {
			text, _ := os.ReadFile(filepath.Join(name, file))
			fmt.Fprintf(&b, "%s/%s: %s\n", name, file, text)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	b.Write(mounts)
	return b.String()
}

// proof checks what it was told to be durable.
func (p *process) proof() error {
	j, err := readJournal(p.journal)
	if err == nil {
		err = kinds[p.kind].proof(p.dir, j)
	}
	if err != nil {
		return fmt.Errorf("worker %s in %s: %w", p.kind, p.dir, err)
	}
	return nil
}
