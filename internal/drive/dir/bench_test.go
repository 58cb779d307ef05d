//go:build unix

package dir_test

import (
	"fmt"
	"os"
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/osfs"
)

// cpuTime is what this process has used of CPU, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchDir is on the disk of the working directory, not on a tmpfs.
func benchDir(b *testing.B) string {
	b.Helper()
	at := os.Getenv("STRAKE_BENCH_DIR")
	if at == "" {
		at = "."
	}
	p, err := os.MkdirTemp(at, "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(p) })
	return path.Join(p, "drive")
}

// BenchmarkWrite commits blobs written in pieces of 256 KiB.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{64 << 20, 4 << 20, 256 << 10, 16 << 10} {
		data := drivetest.Bytes(1, size)
		for name, o := range map[string]dir.Options{
			"direct": {}, "buffered": {Write: dir.WriteBuffered}, "buffered-drop": {Write: dir.WriteBuffered, DropCache: true},
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				o.Path = benchDir(b)
				d := benchDrive(b, o)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				start, n := cpuTime(), 0
				for b.Loop() {
					name := fmt.Sprintf("seg/%02x/%d", n%8, n)
					if err := drivetest.Put(b.Context(), d, name, data, int64(size), 256<<10); err != nil {
						b.Fatal(err)
					}
					n++
					if n%16 == 0 { // keep the disk from filling up
						b.StopTimer()
						for i := range 16 {
							d.Delete(b.Context(), fmt.Sprintf("seg/%02x/%d", (n-1-i)%8, n-1-i))
						}
						b.StartTimer()
					}
				}
				b.ReportMetric((cpuTime()-start).Seconds()/(float64(n)*float64(size)/(1<<30)), "cpu-s/GiB")
			})
		}
	}
}

// BenchmarkRead reads ranges of a warm blob.
func BenchmarkRead(b *testing.B) {
	const size = 64 << 20
	d := benchDrive(b, dir.Options{Path: benchDir(b), Write: dir.WriteBuffered})
	if err := drivetest.Put(b.Context(), d, "seg/00/1", drivetest.Bytes(1, size), size, 1<<20); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			p := make([]byte, n)
			off := 0
			for b.Loop() {
				if _, err := d.ReadAt(b.Context(), "seg/00/1", int64(off), p); err != nil {
					b.Fatal(err)
				}
				off = (off + 7*n) % (size - n)
			}
		})
	}
}

func benchDrive(b *testing.B, o dir.Options) *dir.Drive {
	b.Helper()
	if err := dir.Init(osfs.OS{}, o.Path, dir.Identity{ID: testID}); err != nil {
		b.Fatal(err)
	}
	d, err := dir.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}
