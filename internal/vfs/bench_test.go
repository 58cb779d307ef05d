package vfs_test

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
)

// engines are what the benchmarks run over.
func engines(b *testing.B, run func(b *testing.B, r *rig)) {
	b.Run("mem", func(b *testing.B) {
		e, err := mem.Open(mem.Options{})
		if err != nil {
			b.Fatal(err)
		}
		run(b, newRig(b, rigOptions{engine: e}))
	})
	b.Run("pebble", func(b *testing.B) {
		var e kv.Engine
		e, err := pebble.Open(pebble.Options{FS: osfs.OS{}, Dir: b.TempDir() + "/kv"})
		if err != nil {
			b.Fatal(err)
		}
		run(b, newRig(b, rigOptions{engine: e}))
	})
}

func BenchmarkCreateWriteClose(b *testing.B) {
	engines(b, func(b *testing.B, r *rig) {
		data := noise(1, 4096)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			f := r.create(fmt.Sprint("file", i))
			r.write(f, data, 0)
			_ = f.Close()
		}
		r.ok(r.fs.Syncfs(r.ctx))
	})
}

func BenchmarkCreateUnlink(b *testing.B) {
	engines(b, func(b *testing.B, r *rig) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			name := fmt.Sprint("file", i)
			_, err := r.fs.Mknod(r.ctx, fsapi.Root, fsapi.RootIno, name, vfs.NewNode{Type: fsapi.TypeRegular, Mode: 0o644})
			r.ok(err)
			r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, name))
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	r := newRig(b, rigOptions{})
	_ = r.create("f").Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.fs.Lookup(r.ctx, fsapi.Root, fsapi.RootIno, "f"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetattr(b *testing.B) {
	r := newRig(b, rigOptions{})
	f := r.create("f")
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.fs.Getattr(r.ctx, f.Ino()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSequentialWrite(b *testing.B) {
	r := newRig(b, rigOptions{})
	const piece, file = 1 << 20, 256 << 20
	data := noise(1, file)
	b.SetBytes(piece)
	b.ReportAllocs()
	f := r.create("f")
	var off int64
	for b.Loop() {
		r.write(f, data[off:off+piece], off)
		if off += piece; off == file {
			b.StopTimer()
			r.ok(f.Sync(r.ctx, false))
			r.ok(f.Truncate(r.ctx, 0))
			r.ok(f.Sync(r.ctx, false))
			r.drive.Clear()
			off = 0
			b.StartTimer()
		}
	}
	r.ok(f.Truncate(r.ctx, 0))
	_ = f.Close()
}

func BenchmarkWriteInMemory(b *testing.B) {
	r := newRig(b, rigOptions{options: idle})
	data := noise(1, 1<<20)
	f := r.create("f")
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		r.write(f, data, i%4<<20)
	}
	r.ok(f.Truncate(r.ctx, 0))
	_ = f.Close()
}

func BenchmarkRandomRead4K(b *testing.B) {
	r := newRig(b, rigOptions{})
	f := r.create("f")
	r.write(f, noise(1, 16<<20), 0)
	r.ok(f.Sync(r.ctx, false))
	p := make([]byte, 4096)
	b.ReportAllocs()
	x := uint64(1)
	for b.Loop() {
		x = x*6364136223846793005 + 1442695040888963407
		if _, err := f.ReadAt(r.ctx, p, int64(x>>40)%(4096)<<12); err != nil {
			b.Fatal(err)
		}
	}
	_ = f.Close()
}

func BenchmarkSequentialRead(b *testing.B) {
	r := newRig(b, rigOptions{})
	const file = 256 << 20
	f := r.create("f")
	for off := int64(0); off < file; off += 1 << 20 {
		r.write(f, noise(uint64(off), 1<<20), off)
	}
	r.ok(f.Sync(r.ctx, false))
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	var off int64
	for b.Loop() {
		if _, err := f.ReadAt(r.ctx, p, off); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(p))) % file
	}
	_ = f.Close()
}

func BenchmarkWriteSync4K(b *testing.B) {
	engines(b, func(b *testing.B, r *rig) {
		f := r.create("f")
		data := noise(1, 4096)
		b.ReportAllocs()
		for i := int64(0); b.Loop(); i++ {
			r.write(f, data, i%1000<<12)
			r.ok(f.Sync(r.ctx, true))
		}
		_ = f.Close()
	})
}

func BenchmarkReaddir(b *testing.B) {
	r := newRig(b, rigOptions{})
	for i := range 10_000 {
		_ = r.create(fmt.Sprint("file", i)).Close()
	}
	b.ReportAllocs()
	for b.Loop() {
		d, err := r.fs.OpenDir(r.ctx, fsapi.Root, fsapi.RootIno)
		r.ok(err)
		n := 0
		r.ok(d.Read(r.ctx, 0, true, func(fsapi.Dirent) bool { n++; return true }))
		_ = d.Close()
		if n != 10_002 {
			b.Fatal(n)
		}
	}
}
