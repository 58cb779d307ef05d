package posix

import (
	"bytes"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rangeTests are about holes, preallocation and copies of ranges.
func rangeTests() map[string]func(e env) {
	return map[string]func(e env){
		"Sparse": func(e env) {
			f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			const far = 1 << 30
			_, err := f.WriteAt([]byte("end"), far)
			e.ok(err)
			e.ok(f.Sync())
			st := e.stat(f.Name())
			if st.Size != far+3 {
				e.Errorf("size is %d", st.Size)
			}
			if st.Blocks*512 > 1<<20 {
				e.Errorf("a hole of 1 GiB takes %d blocks", st.Blocks)
			}
			b := make([]byte, 1<<16)
			_, err = f.ReadAt(b, far/2)
			e.ok(err)
			if !bytes.Equal(b, make([]byte, len(b))) {
				e.Error("a hole does not read as zeros")
			}
		},
		"FarOffset": func(e env) {
			f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			const far = 1 << 43
			_, err := f.WriteAt([]byte("x"), far)
			e.ok(err)
			b := make([]byte, 1)
			_, err = f.ReadAt(b, far)
			e.ok(err)
			if st := e.stat(f.Name()); st.Size != far+1 || b[0] != 'x' {
				e.Errorf("size is %d, byte is %q", st.Size, b)
			}
		},
		"SeekHole": func(e env) {
			f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			const block = 1 << 20
			_, err := f.WriteAt(bytes.Repeat([]byte("d"), block), block)
			e.ok(err)
			e.ok(f.Truncate(3 * block))
			e.ok(f.Sync())
			for _, c := range []struct {
				off    int64
				whence int
				want   int64
			}{
				{0, unix.SEEK_DATA, block}, {0, unix.SEEK_HOLE, 0}, {block, unix.SEEK_HOLE, 2 * block},
				{block + 5, unix.SEEK_DATA, block + 5}, {2*block + 1, unix.SEEK_HOLE, 2*block + 1},
			} {
				got, err := unix.Seek(int(f.Fd()), c.off, c.whence)
				if err != nil || got != c.want {
					e.Errorf("seek(%d, %d) gave %d, %v, want %d", c.off, c.whence, got, err, c.want)
				}
			}
			_, err = unix.Seek(int(f.Fd()), 2*block, unix.SEEK_DATA)
			e.wants("SEEK_DATA behind the last data", err, unix.ENXIO)
			_, err = unix.Seek(int(f.Fd()), 4*block, unix.SEEK_HOLE)
			e.wants("SEEK_HOLE behind the end", err, unix.ENXIO)
		},
		"Fallocate":     fallocate,
		"CopyFileRange": copyFileRange,
	}
}

func fallocate(e env) {
	f := e.open(e.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
	fd := int(f.Fd())
	err := unix.Fallocate(fd, 0, 0, 100_000)
	if errnoOf(err) == unix.EOPNOTSUPP {
		e.Skip("fallocate is not supported here")
	}
	e.ok(err)
	if st := e.stat(f.Name()); st.Size != 100_000 || st.Blocks*512 < 100_000 {
		e.Errorf("after allocating 100,000 bytes: size %d, %d blocks", st.Size, st.Blocks)
	}
	e.ok(unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 100_000, 100_000))
	if st := e.stat(f.Name()); st.Size != 100_000 {
		e.Errorf("KEEP_SIZE left size %d", st.Size)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), 100_000), 0)
	e.ok(err)
	e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10_000, 30_000))
	e.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 90_000, 20_000))
	want := strings.Repeat("x", 10_000) + strings.Repeat("\x00", 30_000) +
		strings.Repeat("x", 50_000) + strings.Repeat("\x00", 20_000)
	e.reads(f.Name(), want)
	e.ok(f.Sync())
	e.reads(f.Name(), want)
}

func copyFileRange(e env) {
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i >> 8 * i)
	}
	src := e.open(e.path("src"), os.O_RDWR|os.O_CREATE, 0o644)
	_, err := src.Write(data)
	e.ok(err)
	dst := e.open(e.path("dst"), os.O_RDWR|os.O_CREATE, 0o644)
	e.copyRange(src, 1000, dst, 500, 2<<20)
	e.reads(dst.Name(), strings.Repeat("\x00", 500)+string(data[1000:1000+2<<20]))
	e.copyRange(src, int64(len(data)-10), dst, 0, 10)
	got := make([]byte, 10)
	_, err = dst.ReadAt(got, 0)
	e.ok(err)
	if !bytes.Equal(got, data[len(data)-10:]) {
		e.Error("the second copy is not seen")
	}
	e.reads(src.Name(), string(data))
	off := int64(len(data))
	n, err := unix.CopyFileRange(int(src.Fd()), &off, int(dst.Fd()), nil, 100, 0)
	if n != 0 || err != nil {
		e.Errorf("a copy from the end gave %d, %v", n, err)
	}
	_, err = dst.Seek(0, io.SeekStart)
	e.ok(err)
	// What was copied belongs to the copy alone.
	_, err = src.WriteAt([]byte("changed"), 1000)
	e.ok(err)
	_, err = dst.ReadAt(got, 500)
	e.ok(err)
	if !bytes.Equal(got, data[1000:1010]) {
		e.Error("a write to the source changed the copy")
	}
}

func (e env) copyRange(src *os.File, from int64, dst *os.File, to int64, n int) {
	e.Helper()
	for n > 0 {
		k, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, n, 0)
		e.ok(err)
		if k == 0 {
			e.Fatal("the copy stopped early")
		}
		n -= k
	}
}
