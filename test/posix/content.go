package posix

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// contentTests are about the bytes of files.
func contentTests() map[string]func(e env) {
	return map[string]func(e env){
		"ReadWrite": func(e env) {
			f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			_, err := f.WriteAt([]byte("world"), 6)
			e.ok(err)
			_, err = f.WriteAt([]byte("hello "), 0)
			e.ok(err)
			_, err = f.WriteAt([]byte("W"), 6)
			e.ok(err)
			e.reads(f.Name(), "hello World")
			b := make([]byte, 20)
			n, err := f.ReadAt(b, 6)
			if n != 5 || !errors.Is(err, io.EOF) {
				e.Errorf("a read past the end gave %d, %v", n, err)
			}
			n, err = f.ReadAt(b, 100)
			if n != 0 || !errors.Is(err, io.EOF) {
				e.Errorf("a read beyond the end gave %d, %v", n, err)
			}
		},
		"RandomWrites": randomWrites,
		"Vectored": func(e env) {
			f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			n, err := unix.Pwritev(int(f.Fd()), [][]byte{[]byte("ab"), []byte("cde"), []byte("f")}, 1)
			if n != 6 || err != nil {
				e.Fatalf("pwritev: %d, %v", n, err)
			}
			a, b := make([]byte, 3), make([]byte, 9)
			n, err = unix.Preadv(int(f.Fd()), [][]byte{a, b}, 0)
			if n != 7 || err != nil || string(a)+string(b[:4]) != "\x00abcdef" {
				e.Errorf("preadv: %d, %v, %q %q", n, err, a, b)
			}
		},
		"Sendfile": func(e env) {
			data := strings.Repeat("strake ", 10_000)
			src := e.open(e.write("f", data), os.O_RDONLY, 0)
			r, w, err := os.Pipe()
			e.ok(err)
			got := make(chan string)
			go func() {
				b, _ := io.ReadAll(r)
				got <- string(b)
			}()
			for left := len(data); left > 0; {
				n, err := unix.Sendfile(int(w.Fd()), int(src.Fd()), nil, left)
				e.ok(err)
				left -= n
			}
			e.ok(w.Close())
			if g := <-got; g != data {
				e.Errorf("sendfile gave %d bytes: %s", len(g), brief(g))
			}
		},
		"Truncate": func(e env) {
			p := e.write("f", "0123456789")
			f := e.open(p, os.O_RDWR, 0)
			e.ok(os.Truncate(p, 4))
			e.reads(p, "0123")
			e.ok(f.Truncate(8))
			e.reads(p, "0123\x00\x00\x00\x00")
			_, err := f.WriteAt([]byte("x"), 9)
			e.ok(err)
			e.reads(p, "0123\x00\x00\x00\x00\x00x")
			g := e.open(p, os.O_WRONLY|os.O_TRUNC, 0)
			e.reads(p, "")
			_, err = g.Write([]byte("new"))
			e.ok(err)
			e.reads(p, "new")
			e.wants("truncate to -1", unix.Truncate(p, -1), unix.EINVAL)
			e.wants("truncate of a directory", unix.Truncate(e.dir, 0), unix.EISDIR)
		},
		"TruncateHidesOldBytes": func(e env) {
			p := e.write("f", strings.Repeat("x", 10_000))
			e.ok(os.Truncate(p, 5000))
			e.ok(os.Truncate(p, 9000))
			e.reads(p, strings.Repeat("x", 5000)+strings.Repeat("\x00", 4000))
		},
		"UnlinkOpen": func(e env) {
			f := e.open(e.write("f", "still here"), os.O_RDWR, 0)
			e.ok(os.Remove(f.Name()))
			_, err := os.Stat(f.Name())
			e.wants("stat of a removed name", err, unix.ENOENT)
			b := make([]byte, 10)
			_, err = f.ReadAt(b, 0)
			e.ok(err)
			_, err = f.WriteAt([]byte("there"), 10)
			e.ok(err)
			e.ok(f.Truncate(12))
			e.ok(f.Chmod(0o600))
			e.ok(f.Sync())
			var st unix.Stat_t
			e.ok(unix.Fstat(int(f.Fd()), &st))
			if st.Nlink != 0 || st.Size != 12 || st.Mode&0o777 != 0o600 || string(b) != "still here" {
				e.Errorf("nlink %d, size %d, mode %o, %q", st.Nlink, st.Size, st.Mode, b)
			}
		},
		"ReplaceOpen": func(e env) {
			old := e.open(e.write("f", "old"), os.O_RDONLY, 0)
			e.write("g", "new")
			e.ok(os.Rename(e.path("g"), e.path("f")))
			e.reads(e.path("f"), "new")
			b, err := io.ReadAll(old)
			e.ok(err)
			if string(b) != "old" {
				e.Errorf("the open file became %q", b)
			}
		},
		"ReplaceIsAtomic": replaceIsAtomic,
		"DirectIO":        directIO,
		"SyncWrite": func(e env) {
			for name, flag := range map[string]int{"sync": unix.O_SYNC, "dsync": unix.O_DSYNC} {
				f := e.open(e.path(name), os.O_WRONLY|os.O_CREATE|flag, 0o644)
				_, err := f.Write([]byte("safe"))
				e.ok(err)
				e.reads(f.Name(), "safe")
			}
			f := e.open(e.path("f"), os.O_WRONLY|os.O_CREATE, 0o644)
			_, err := f.Write([]byte("safe"))
			e.ok(err)
			e.ok(f.Sync())
			e.ok(unix.Fdatasync(int(f.Fd())))
			d := e.open(e.dir, os.O_RDONLY, 0)
			e.ok(d.Sync())
			e.ok(unix.Syncfs(int(d.Fd())))
		},
		"AccessMode": func(e env) {
			p := e.write("f", "x")
			r := e.open(p, os.O_RDONLY, 0)
			_, err := r.Write([]byte("y"))
			e.wants("write to a file open for reading", err, unix.EBADF)
			w := e.open(p, os.O_WRONLY, 0)
			_, err = w.Read(make([]byte, 1))
			e.wants("read from a file open for writing", err, unix.EBADF)
		},
		"ManyFiles": manyFiles,
	}
}

// randomWrites compares a file with a slice of bytes after writes, truncations
// and reads of all sizes, through two descriptors.
func randomWrites(e env) {
	const most = 3 << 20
	rnd := rand.New(rand.NewPCG(1, 2))
	var want []byte
	a := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
	b := e.open(e.path("f"), os.O_RDWR, 0)
	for i := range 400 {
		f := a
		if i%2 == 1 {
			f = b
		}
		off, n := rnd.IntN(most), 1<<rnd.IntN(18)+rnd.IntN(100)
		switch rnd.IntN(10) {
		case 0:
			size := rnd.IntN(most)
			e.ok(f.Truncate(int64(size)))
			want = append(want, make([]byte, max(size-len(want), 0))...)[:size]
		case 1, 2, 3:
			got := make([]byte, n)
			k, err := f.ReadAt(got, int64(off))
			if err != nil && !errors.Is(err, io.EOF) {
				e.Fatal(err)
			}
			from := min(off, len(want))
			if !bytes.Equal(got[:k], want[from:min(off+n, len(want))]) {
				e.Fatalf("step %d: %d bytes at %d differ", i, n, off)
			}
		default:
			p := bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, n)[:n]
			_, err := f.WriteAt(p, int64(off))
			e.ok(err)
			want = append(want, make([]byte, max(off+n-len(want), 0))...)
			copy(want[off:], p)
		}
	}
	e.ok(a.Sync())
	e.reads(a.Name(), string(want))
}

// replaceIsAtomic reads a file while it is replaced by rename again and again.
func replaceIsAtomic(e env) {
	one, two := strings.Repeat("1", 5000), strings.Repeat("2", 7000)
	p := e.write("f", one)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if b, err := os.ReadFile(p); err != nil || string(b) != one && string(b) != two {
					e.Errorf("a reader saw %d bytes, %v", len(b), err)
					return
				}
			}
		})
	}
	for i := range 200 {
		data := one
		if i%2 == 0 {
			data = two
		}
		e.write("new", data)
		e.ok(os.Rename(e.path("new"), p))
	}
	close(stop)
	readers.Wait()
}

// directIO writes and reads past the page cache, beside it.
func directIO(e env) {
	p := e.path("f")
	f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o644)
	if errnoOf(err) == unix.EINVAL {
		e.Skip("O_DIRECT is not supported here")
	}
	e.ok(err)
	defer func() { _ = f.Close() }()
	buf := aligned(8192)
	copy(buf, bytes.Repeat([]byte("D"), 8192))
	_, err = f.WriteAt(buf, 4096)
	e.ok(err)
	e.reads(p, strings.Repeat("\x00", 4096)+strings.Repeat("D", 8192))
	g := e.open(p, os.O_RDWR, 0)
	_, err = g.WriteAt(bytes.Repeat([]byte("B"), 4096), 4096)
	e.ok(err)
	_, err = f.ReadAt(buf, 4096)
	e.ok(err)
	if string(buf) != strings.Repeat("B", 4096)+strings.Repeat("D", 4096) {
		e.Error("a direct read does not see what was written through the cache")
	}
	copy(buf, bytes.Repeat([]byte("E"), 4096))
	_, err = f.WriteAt(buf[:4096], 0)
	e.ok(err)
	got := make([]byte, 4096)
	_, err = g.ReadAt(got, 0)
	e.ok(err)
	if string(got) != strings.Repeat("E", 4096) {
		e.Error("a cached read does not see what was written directly")
	}
}

// aligned is n bytes at an address that direct I/O takes.
func aligned(n int) []byte {
	const to = 4096
	b := make([]byte, n+to)
	off := to - int(uintptr(unsafe.Pointer(&b[0]))&(to-1))
	return b[off : off+n]
}

// manyFiles makes, writes, renames, reads and removes files from many
// goroutines at once in one directory.
func manyFiles(e env) {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				name := e.path(strings.Repeat("f", w+1) + string(rune('a'+i%26)))
				data := strings.Repeat(name, i+1)
				err := os.WriteFile(name, []byte(data), 0o644)
				if err == nil {
					err = os.Rename(name, name+".done")
				}
				var b []byte
				if err == nil {
					b, err = os.ReadFile(name + ".done")
				}
				if err == nil && string(b) != data {
					err = errors.New("content differs")
				}
				if err == nil {
					err = os.Remove(name + ".done")
				}
				if err != nil {
					e.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if l := e.list(e.dir); l != "" {
		e.Errorf("left over: %s", l)
	}
}
