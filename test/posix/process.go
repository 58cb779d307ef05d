package posix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processTests are about several processes, mappings and execution.
func processTests() map[string]func(e env) {
	return map[string]func(e env){
		"AppendFromProcesses": func(e env) {
			const processes, lines = 4, 300
			p := e.write("log", "")
			var cs []*child
			for i := range processes {
				cs = append(cs, e.start("append", p, strconv.Itoa(i), strconv.Itoa(lines)))
			}
			for _, c := range cs {
				c.end()
			}
			b, err := os.ReadFile(p)
			e.ok(err)
			next := make([]int, processes)
			for line := range strings.Lines(string(b)) {
				var who, i int
				var tail string
				if n, _ := fmt.Sscanf(line, "%d %d %s", &who, &i, &tail); n != 3 || tail != strings.Repeat("x", i%200+1) {
					e.Fatalf("a torn line: %q", brief(line))
				}
				if next[who] != i {
					e.Fatalf("process %d: line %d where %d was due", who, i, next[who])
				}
				next[who]++
			}
			for i, n := range next {
				if n != lines {
					e.Errorf("process %d has %d lines of %d", i, n, lines)
				}
			}
		},
		"AppendFlagByFcntl": func(e env) {
			f := e.open(e.write("f", "0123"), os.O_RDWR, 0)
			_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_APPEND)
			e.ok(err)
			_, err = unix.Write(int(f.Fd()), []byte("45"))
			e.ok(err)
			e.reads(f.Name(), "012345")
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, 0)
			e.ok(err)
			_, err = unix.Pwrite(int(f.Fd()), []byte("x"), 0)
			e.ok(err)
			e.reads(f.Name(), "x12345")
		},
		"WriteFromProcesses": func(e env) {
			const n = 100_000
			p := e.write("f", "")
			var cs []*child
			want := ""
			for i := range 4 {
				fill := string(rune('a' + i))
				cs = append(cs, e.start("fill", p, strconv.Itoa(i*n), strconv.Itoa(n), fill))
				want += strings.Repeat(fill, n)
			}
			for _, c := range cs {
				c.end()
			}
			e.reads(p, want)
		},
		"CloseToOpen": func(e env) {
			p := e.path("f")
			for i := range 20 {
				data := strings.Repeat(strconv.Itoa(i), 100+i)
				e.ok(os.WriteFile(p, []byte(data), 0o644))
				c := e.start("read", p)
				c.says(strconv.Quote(data))
				c.end()
			}
		},
		"Mmap": func(e env) {
			c := e.start("mmap", e.path("f"))
			c.end()
			e.reads(e.path("f"), strings.Repeat("m", 4096)+"from write"+strings.Repeat("m", 4096-10))
		},
		"MmapOfAppendedFile": func(e env) {
			c := e.start("mmap-append", e.path("f"))
			c.end()
			e.reads(e.path("f"), "Mapped"+strings.Repeat("0", 94)+"appended")
		},
		"Exec": func(e env) {
			b, err := os.ReadFile("/bin/true")
			e.ok(err)
			p := e.path("true")
			e.ok(os.WriteFile(p, b, 0o755))
			e.ok(exec.Command(p).Run())
			e.ok(os.Chmod(p, 0o644))
			if err := exec.Command(p).Run(); !errors.Is(err, os.ErrPermission) {
				e.Errorf("execution without permission: %v", err)
			}
			sh := e.path("script")
			e.ok(os.WriteFile(sh, []byte("#!/bin/sh\necho \"$1\"\n"), 0o755))
			out, err := exec.Command(sh, "works").Output()
			if err != nil || string(out) != "works\n" {
				e.Errorf("a script says %q, %v", out, err)
			}
		},
		"TextBusy": func(e env) {
			b, err := os.ReadFile("/bin/sleep")
			e.ok(err)
			p := e.path("sleep")
			e.ok(os.WriteFile(p, b, 0o755))
			cmd := exec.Command(p, "60")
			e.ok(cmd.Start())
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			_, err = os.OpenFile(p, os.O_WRONLY, 0)
			e.wants("writing to a program that runs", err, unix.ETXTBSY)
		},
		"Fifo": func(e env) {
			p := e.path("p")
			e.ok(unix.Mkfifo(p, 0o644))
			got := make(chan string)
			go func() {
				b, _ := os.ReadFile(p)
				got <- string(b)
			}()
			e.ok(os.WriteFile(p, []byte("through"), 0))
			if s := <-got; s != "through" {
				e.Errorf("read %q", s)
			}
		},
		"Socket": func(e env) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			e.ok(err)
			defer func() { _ = unix.Close(fd) }()
			dir := e.open(e.dir, os.O_RDONLY, 0) // paths of sockets are short
			p := fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd())
			e.ok(unix.Bind(fd, &unix.SockaddrUnix{Name: p}))
			e.ok(unix.Listen(fd, 1))
			if st := e.stat(e.path("s")); st.Mode&unix.S_IFMT != unix.S_IFSOCK {
				e.Errorf("mode is %o", st.Mode)
			}
			c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			e.ok(err)
			defer func() { _ = unix.Close(c) }()
			e.ok(unix.Connect(c, &unix.SockaddrUnix{Name: p}))
		},
		"GracefulUnderSignals": func(e env) {
			// Signals that a program handles must not make file calls fail.
			c := exec.Command("/bin/sh", "-c", `trap : USR1; echo ready
				i=0; while [ $i -lt 300 ]; do echo $i > "$1/f$i" || exit 1; read x < "$1/f$i" || exit 2
				[ "$x" = $i ] || exit 3; i=$((i+1)); done`, "sh", e.dir)
			out, err := c.StdoutPipe()
			e.ok(err)
			e.ok(c.Start())
			_, err = bufio.NewReader(out).ReadString('\n')
			e.ok(err)
			done := make(chan error, 1)
			go func() { done <- c.Wait() }()
			for {
				select {
				case err := <-done:
					e.ok(err)
					return
				default:
					_ = c.Process.Signal(unix.SIGUSR1)
				}
			}
		},
	}
}

// appendLines appends numbered lines, each in one write.
func appendLines(args []string, _ *bufio.Reader) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n, _ := strconv.Atoi(args[2])
	for i := range n {
		if _, err := fmt.Fprintf(f, "%s %d %s\n", args[1], i, strings.Repeat("x", i%200+1)); err != nil {
			return err
		}
	}
	return nil
}

// mmapPart maps a file shared and writes to it both ways. It is a process of
// its own, as a fault on a mapping stops a thread that Go thinks is running.
func mmapPart(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(8192); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := range m {
		m[i] = 'm'
	}
	b := make([]byte, 8192)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, m) {
		return errors.New("read does not see what was stored to the mapping")
	}
	if _, err := f.WriteAt([]byte("from write"), 4096); err != nil {
		return err
	}
	if string(m[4096:4106]) != "from write" {
		return errors.New("the mapping does not show what was written")
	}
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	p[0] = 'p'
	if m[0] != 'm' {
		return errors.New("a private mapping changed the file")
	}
	return errors.Join(unix.Munmap(m), unix.Munmap(p), f.Sync())
}

// mmapAppendPart stores to a mapping of a file open with O_APPEND: the page
// goes to its place, not to the end.
func mmapAppendPart(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(strings.Repeat("0", 100)); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 100, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m, "Mapped")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	if _, err := f.WriteString("appended"); err != nil {
		return err
	}
	return unix.Munmap(m)
}
