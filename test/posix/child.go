package posix

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv names the part that this process plays, where it is a child.
const childEnv = "STRAKE_POSIX_CHILD"

// Main runs m's tests, or, in a process started by one of them, that process's
// part. It is the exit status.
func Main(m *testing.M) int {
	if Child() {
		return 0
	}
	return m.Run()
}

// Child plays this process's part where it is a child, and reports whether it
// is one.
func Child() bool {
	part := os.Getenv(childEnv)
	if part == "" {
		return false
	}
	args := strings.Split(part, "\x1f")
	fn := parts()[args[0]]
	if fn == nil {
		fmt.Println("no such part:", args[0])
		return true
	}
	if err := fn(args[1:], bufio.NewReader(os.Stdin)); err != nil {
		fmt.Println(describe(err))
	} else {
		fmt.Println("ok")
	}
	return true
}

// describe is the errno's name, or the error's text.
func describe(err error) string {
	if n := errnoOf(err); n != 0 {
		return unix.ErrnoName(n)
	}
	return err.Error()
}

// parts are what children do: they print lines, wait for lines, and in the end
// print "ok" or an error.
func parts() map[string]func(args []string, in *bufio.Reader) error {
	return map[string]func(args []string, in *bufio.Reader) error{
		"append": appendLines,
		"flock":  holdFlock,
		"fcntl":  holdFcntl,
		"mmap":   func(args []string, _ *bufio.Reader) error { return mmapPart(args[0]) },
		"mmap-append": func(args []string, _ *bufio.Reader) error {
			return mmapAppendPart(args[0])
		},
		"fill": fillRange,
		"read": func(args []string, _ *bufio.Reader) error {
			b, err := os.ReadFile(args[0])
			fmt.Printf("%q\n", b)
			return err
		},
	}
}

// child is a process that plays a part.
type child struct {
	e   env
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// start starts a child, which is killed at the latest when the test ends.
func (e env) start(part string, args ...string) *child {
	e.Helper()
	self, err := os.Executable()
	e.ok(err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{part}, args...), "\x1f"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	e.ok(err)
	out, err := cmd.StdoutPipe()
	e.ok(err)
	e.ok(cmd.Start())
	c := &child{e: e, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	e.Cleanup(c.kill)
	return c
}

// line is the next line the child prints.
func (c *child) line() string {
	c.e.Helper()
	if !c.out.Scan() {
		c.e.Fatalf("the child ended: %v", c.out.Err())
	}
	return c.out.Text()
}

// says fails the test unless the child's next line is want.
func (c *child) says(want string) {
	c.e.Helper()
	if got := c.line(); got != want {
		c.e.Fatalf("the child says %q, want %q", got, want)
	}
}

// tell lets a child that waits go on.
func (c *child) tell() {
	c.e.Helper()
	_, err := io.WriteString(c.in, "go on\n")
	c.e.ok(err)
}

// end waits for the child, which must end well.
func (c *child) end() {
	c.e.Helper()
	c.says("ok")
	c.e.ok(c.cmd.Wait())
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// wait waits for the parent.
func wait(in *bufio.Reader) { _, _ = in.ReadString('\n') }

// fillRange writes n bytes of one value at an offset, in small pieces.
func fillRange(args []string, _ *bufio.Reader) error {
	off, _ := strconv.ParseInt(args[1], 10, 64)
	n, _ := strconv.ParseInt(args[2], 10, 64)
	f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	piece := []byte(strings.Repeat(args[3], 1000))
	for end := off + n; off < end; {
		k, err := f.WriteAt(piece[:min(int64(len(piece)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(k)
	}
	return nil
}
