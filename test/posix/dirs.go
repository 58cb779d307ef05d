package posix

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// dirTests are about directories.
func dirTests() map[string]func(e env) {
	return map[string]func(e env){
		"Directories": func(e env) {
			before := e.stat(e.dir)
			e.ok(os.Mkdir(e.path("a"), 0o755))
			e.ok(os.Mkdir(e.path("b"), 0o755))
			e.write("f", "")
			after := e.stat(e.dir)
			if after.Nlink != before.Nlink+2 {
				e.Errorf("two directories took the links from %d to %d", before.Nlink, after.Nlink)
			}
			if !newer(after.Mtim, before.Mtim) || !newer(after.Ctim, before.Ctim) {
				e.Error("new names do not show in the directory's times")
			}
			if l := e.list(e.dir); l != "a b f" {
				e.Errorf("listed: %s", l)
			}
			e.wants("mkdir of a name in use", os.Mkdir(e.path("f"), 0o755), unix.EEXIST)
			e.wants("rmdir of a file", unix.Rmdir(e.path("f")), unix.ENOTDIR)
			e.wants("unlink of a directory", unix.Unlink(e.path("a")), unix.EISDIR)
			e.write("a/x", "")
			e.wants("rmdir of a directory with names", unix.Rmdir(e.path("a")), unix.ENOTEMPTY)
			e.ok(os.RemoveAll(e.path("a")))
			e.ok(os.Remove(e.path("b")))
			if st := e.stat(e.dir); st.Nlink != before.Nlink {
				e.Errorf("%d links after removing, %d before making", st.Nlink, before.Nlink)
			}
			_, err := os.OpenFile(e.path("f"), os.O_RDONLY|unix.O_DIRECTORY, 0)
			e.wants("O_DIRECTORY on a file", err, unix.ENOTDIR)
			_, err = os.OpenFile(e.dir, os.O_WRONLY, 0)
			e.wants("a directory for writing", err, unix.EISDIR)
		},
		"RemoveOpenDirectory": func(e env) {
			e.ok(os.Mkdir(e.path("d"), 0o755))
			d := e.open(e.path("d"), os.O_RDONLY, 0)
			e.ok(os.Remove(e.path("d")))
			var st unix.Stat_t
			e.ok(unix.Fstat(int(d.Fd()), &st))
			if st.Nlink != 0 {
				e.Errorf("%d links", st.Nlink)
			}
			names, err := d.Readdirnames(-1)
			if len(names) != 0 || err != nil && errnoOf(err) != unix.ENOENT {
				e.Errorf("listed: %v, %v", names, err)
			}
			_, err = unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
			e.wants("create in a removed directory", err, unix.ENOENT)
		},
		"BigDirectory": bigDirectory,
		"ListWhileRemoving": func(e env) {
			const n = 3000
			for i := range n {
				e.write(fmt.Sprintf("f%04d", i), "")
			}
			d := e.open(e.dir, os.O_RDONLY, 0)
			seen := map[string]bool{}
			for {
				names, err := d.Readdirnames(100)
				for _, name := range names {
					if seen[name] {
						e.Errorf("%s is listed twice", name)
					}
					seen[name] = true
					e.ok(os.Remove(e.path(name)))
				}
				if errors.Is(err, io.EOF) {
					break
				}
				e.ok(err)
			}
			if len(seen) != n {
				e.Errorf("%d of %d names were listed", len(seen), n)
			}
			if l := e.list(e.dir); l != "" {
				e.Errorf("left over: %s", l)
			}
		},
		"ListWhileChanging": listWhileChanging,
		"Rewind": func(e env) {
			for i := range 500 {
				e.write(fmt.Sprint("f", i), "")
			}
			d := e.open(e.dir, os.O_RDONLY, 0)
			first, err := d.Readdirnames(-1)
			e.ok(err)
			e.write("late", "")
			_, err = d.Seek(0, io.SeekStart)
			e.ok(err)
			second, err := d.Readdirnames(-1)
			e.ok(err)
			if len(first) != 500 || len(second) != 501 {
				e.Errorf("%d names, and %d after one more", len(first), len(second))
			}
		},
		"TypesInListing": func(e env) {
			e.write("f", "")
			e.ok(os.Mkdir(e.path("d"), 0o755))
			e.ok(os.Symlink("f", e.path("l")))
			e.ok(unix.Mkfifo(e.path("p"), 0o644))
			list, err := os.ReadDir(e.dir)
			e.ok(err)
			got := ""
			for _, x := range list {
				got += x.Name() + x.Type().String()[:1]
			}
			if got != "ddf-lLpp" {
				e.Errorf("listed: %s", got)
			}
			for _, x := range list {
				info, err := x.Info()
				e.ok(err)
				if info.Mode().Type() != x.Type() {
					e.Errorf("%s is listed as %v and is %v", x.Name(), x.Type(), info.Mode())
				}
			}
		},
	}
}

func newer(a, b unix.Timespec) bool { return a.Nano() > b.Nano() }

// bigDirectory makes, lists, looks up and removes many names.
func bigDirectory(e env) {
	n := e.names
	var wg sync.WaitGroup
	const workers = 4
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f, err := os.Create(e.path(bigName(i)))
				if err != nil {
					e.Error(err)
					return
				}
				_ = f.Close()
			}
		})
	}
	wg.Wait()
	for range 2 {
		names, err := readNames(e.dir)
		e.ok(err)
		sort.Strings(names)
		if len(names) != n {
			e.Fatalf("%d of %d names are listed", len(names), n)
		}
		for i, name := range names {
			if name != bigName(i) {
				e.Fatalf("name %d is %s", i, name)
			}
		}
	}
	for range 1000 {
		e.stat(e.path(bigName(rand.IntN(n))))
	}
	for i := range n {
		e.ok(unix.Unlink(e.path(bigName(i))))
	}
	if l := e.list(e.dir); l != "" {
		e.Errorf("left over: %s", brief(l))
	}
}

func bigName(i int) string { return fmt.Sprintf("name-%08d", i) }

// listWhileChanging lists a directory while other names come and go: what was
// there all the time is listed once.
func listWhileChanging(e env) {
	const stay = 1000
	for i := range stay {
		e.write(fmt.Sprint("stay", i), "")
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := e.path(fmt.Sprint("go", i%50))
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				e.Error(err)
				return
			}
			if err := os.Remove(p); err != nil {
				e.Error(err)
				return
			}
		}
	}()
	for range 20 {
		names, err := readNames(e.dir)
		e.ok(err)
		seen := map[string]int{}
		for _, n := range names {
			seen[n]++
		}
		for i := range stay {
			if k := seen[fmt.Sprint("stay", i)]; k != 1 {
				e.Errorf("stay%d is listed %d times", i, k)
			}
		}
	}
	close(stop)
	<-stopped
}
