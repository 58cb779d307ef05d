package posix

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockTests are about flock(2) and fcntl(2) between processes.
func lockTests() map[string]func(e env) {
	return map[string]func(e env){
		"Flock": func(e env) {
			p := e.write("f", "")
			a := e.start("flock", p, "ex")
			a.says("locked")
			f := e.open(p, os.O_RDWR, 0)
			e.wants("a lock that another holds", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
			e.wants("a shared lock beside an exclusive one", unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
			got := make(chan error, 1)
			go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
			a.tell() // it closes the file
			a.end()
			e.ok(<-got)
			e.ok(unix.Flock(int(f.Fd()), unix.LOCK_SH))
			b := e.start("flock", p, "sh")
			b.says("locked")
			e.wants("an upgrade beside a shared lock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
			b.kill()
			e.ok(unix.Flock(int(f.Fd()), unix.LOCK_EX))
		},
		"FlockFollowsTheOpenFile": func(e env) {
			p := e.write("f", "")
			a, b := e.open(p, os.O_RDWR, 0), e.open(p, os.O_RDWR, 0)
			e.ok(unix.Flock(int(a.Fd()), unix.LOCK_EX))
			e.wants("the same process through another open", unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
			dup, err := unix.Dup(int(a.Fd()))
			e.ok(err)
			e.ok(a.Close())
			e.wants("while a duplicate is open", unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
			e.ok(unix.Close(dup))
			e.ok(unix.Flock(int(b.Fd()), unix.LOCK_EX))
		},
		"RangeLocks": func(e env) {
			p := e.write("f", "0123456789")
			a := e.start("fcntl", p, "w", "2", "3", "try")
			a.says("locked")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(setLock(f, unix.F_WRLCK, 0, 2, false))
			e.ok(setLock(f, unix.F_WRLCK, 5, 0, false))
			if n := errnoOf(setLock(f, unix.F_RDLCK, 4, 1, false)); n != unix.EAGAIN && n != unix.EACCES {
				e.Errorf("a range that another holds: %v", n)
			}
			l := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 0}
			e.ok(unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l))
			if l.Type != unix.F_WRLCK || l.Start != 2 || l.Len != 3 || int(l.Pid) != a.cmd.Process.Pid {
				e.Errorf("F_GETLK says %+v, the holder is %d", l, a.cmd.Process.Pid)
			}
			got := make(chan error, 1)
			go func() { got <- setLock(f, unix.F_WRLCK, 0, 0, true) }()
			a.tell()
			a.end()
			e.ok(<-got)
			b := e.start("fcntl", p, "r", "9", "1", "try")
			if s := b.line(); s != "EAGAIN" && s != "EACCES" {
				e.Errorf("another process gets %s", s)
			}
			g := e.open(p, os.O_RDONLY, 0)
			e.ok(g.Close()) // closing any descriptor ends the process's locks (fcntl(2))
			c := e.start("fcntl", p, "w", "0", "0", "try")
			c.says("locked")
			c.tell()
			c.end()
		},
		"RangeLockSplits": func(e env) {
			p := e.write("f", "")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(setLock(f, unix.F_WRLCK, 0, 100, false))
			e.ok(setLock(f, unix.F_UNLCK, 40, 20, false))
			a := e.start("fcntl", p, "w", "40", "20", "try")
			a.says("locked")
			b := e.start("fcntl", p, "r", "39", "1", "try")
			if s := b.line(); s == "locked" {
				e.Error("the part before the hole is not locked")
			}
			c := e.start("fcntl", p, "r", "60", "1", "try")
			if s := c.line(); s == "locked" {
				e.Error("the part behind the hole is not locked")
			}
		},
		"LockDiesWithHolder": func(e env) {
			p := e.write("f", "")
			a := e.start("fcntl", p, "w", "0", "0", "try")
			a.says("locked")
			f := e.open(p, os.O_RDWR, 0)
			got := make(chan error, 1)
			go func() { got <- setLock(f, unix.F_WRLCK, 0, 0, true) }()
			a.kill()
			e.ok(<-got)
		},
		"LockWaitIsInterrupted": func(e env) {
			p := e.write("f", "")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(setLock(f, unix.F_WRLCK, 0, 0, false))
			a := e.start("fcntl", p, "w", "0", "0", "wait")
			a.says("waiting")
			pid := a.cmd.Process.Pid
			e.ok(unix.Tgkill(pid, e.blocked(pid), unix.SIGUSR1))
			a.says("EINTR")
		},
		"KilledWaiterGoes": func(e env) {
			p := e.write("f", "")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(setLock(f, unix.F_WRLCK, 0, 0, false))
			a := e.start("fcntl", p, "w", "0", "0", "wait")
			a.says("waiting")
			a.kill() // hangs where the wait cannot be interrupted
		},
		"Deadlock": func(e env) {
			p := e.write("f", "")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(setLock(f, unix.F_WRLCK, 0, 1, false))
			a := e.start("fcntl", p, "w", "1", "1", "then", "0", "1")
			a.says("locked")
			a.tell()
			a.says("waiting")
			e.blocked(a.cmd.Process.Pid)
			// Whose request comes second is told: the child sleeps, but its request may
			// be on the way still.
			err := setLock(f, unix.F_WRLCK, 1, 1, true)
			if err == nil {
				a.says("EDEADLK")
				return
			}
			e.wants("waiting for one who waits for us", err, unix.EDEADLK)
			e.ok(setLock(f, unix.F_UNLCK, 0, 1, false))
			a.says("locked")
		},
	}
}

// blocked is the thread of a process that waits for a lock: it sleeps in fcntl.
func (e env) blocked(pid int) int {
	e.Helper()
	for {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		e.ok(err)
		for _, t := range tasks {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, t.Name()))
			if err == nil && strings.HasPrefix(string(b), fmt.Sprintf("%d ", unix.SYS_FCNTL)) {
				tid, err := strconv.Atoi(t.Name())
				e.ok(err)
				return tid
			}
		}
	}
}

// setLock is fcntl(2) with F_SETLK or F_SETLKW. The waiting call is restarted
// for no signal.
func setLock(f *os.File, typ int16, start, n int64, wait bool) error {
	cmd := unix.F_SETLK
	if wait {
		cmd = unix.F_SETLKW
	}
	return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Start: start, Len: n})
}

// holdFlock takes a flock and holds it until told.
func holdFlock(args []string, in *bufio.Reader) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	how := unix.LOCK_EX
	if args[1] == "sh" {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		return err
	}
	fmt.Println("locked")
	wait(in)
	return nil
}

// holdFcntl takes a range and holds it until told; "then" takes another after
// that, waiting for it.
func holdFcntl(args []string, in *bufio.Reader) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	typ := int16(unix.F_WRLCK)
	if args[1] == "r" {
		typ = unix.F_RDLCK
	}
	start, _ := strconv.ParseInt(args[2], 10, 64)
	n, _ := strconv.ParseInt(args[3], 10, 64)
	if args[4] == "wait" {
		signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1)
		if err := interrupts(unix.SIGUSR1); err != nil {
			return err
		}
		fmt.Println("waiting")
		return setLock(f, typ, start, n, true)
	}
	if err := setLock(f, typ, start, n, false); err != nil {
		return err
	}
	fmt.Println("locked")
	wait(in)
	if args[4] == "then" {
		start, _ := strconv.ParseInt(args[5], 10, 64)
		n, _ := strconv.ParseInt(args[6], 10, 64)
		fmt.Println("waiting")
		if err := setLock(f, typ, start, n, true); err != nil {
			return err
		}
		fmt.Println("locked")
		wait(in)
	}
	return nil
}
