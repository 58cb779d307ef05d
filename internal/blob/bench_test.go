package blob_test

import (
	"syscall"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

func cpuSeconds() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// cpuPerGiB reports CPU seconds per GiB of plaintext since start.
func cpuPerGiB(b *testing.B, start float64, bytes int64) {
	b.ReportMetric((cpuSeconds()-start)/(float64(bytes)*float64(b.N)/(1<<30)), "cpu-s/GiB")
}

func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		for _, cipher := range []fsapi.Cipher{fsapi.CipherAES256GCM, fsapi.CipherXChaCha20, fsapi.CipherNone} {
			b.Run(kind+"/"+cipher.String(), func(b *testing.B) {
				r := newRig(b, cipher, 0, func(o *blob.Options) { o.Workers = 0 })
				r.set.Add(&sink{Drive: blobtest.NewDrive(9)}) // the pipeline alone
				data := bytesOf(9, 64<<20, kind)
				b.SetBytes(int64(len(data)))
				start := cpuSeconds()
				for b.Loop() {
					bt := r.NewBatch(b.Context(), vol, class(1, "auto", cdc))
					if _, err := bt.AddNew(b.Context(), 1, 0, data, false); err != nil {
						b.Fatal(err)
					}
					if _, err := bt.Finish(b.Context(), blob.Segment); err != nil {
						b.Fatal(err)
					}
				}
				cpuPerGiB(b, start, int64(len(data)))
			})
		}
	}
}

// Writes to a directory of the host's disk, made durable, then reads.
func BenchmarkDir(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		r := newRig(b, fsapi.CipherAES256GCM, 0, func(o *blob.Options) { o.Workers = 0 })
		r.set.Add(openDir(b, osfs.OS{}, b.TempDir(), 9, true))
		data := bytesOf(9, 64<<20, kind)
		var st *fsapi.Stored
		b.Run(kind+"/write", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			start := cpuSeconds()
			for b.Loop() {
				bt := r.NewBatch(b.Context(), vol, class(1, "auto", cdc))
				if _, err := bt.AddNew(b.Context(), 1, 1000, data, false); err != nil {
					b.Fatal(err)
				}
				var err error
				if st, err = bt.Finish(b.Context(), blob.Segment); err != nil {
					b.Fatal(err)
				}
			}
			cpuPerGiB(b, start, int64(len(data)))
		})
		r.x.Record(vol, st)
		b.Run(kind+"/read", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			start := cpuSeconds()
			for b.Loop() {
				if _, err := r.read(b.Context(), st.Extents, len(data)); err != nil {
					b.Fatal(err)
				}
			}
			cpuPerGiB(b, start, int64(len(data)))
		})
	}
}

func BenchmarkSmallBarrier(b *testing.B) {
	r := newRig(b, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(9, 4096, "random")
	b.ReportAllocs()
	for b.Loop() {
		bt := r.NewBatch(b.Context(), vol, class(1, "auto", cdc))
		bt.AddNew(b.Context(), 1, 0, data, false)
		if st, err := bt.Finish(b.Context(), blob.Auto); err != nil || len(st.Journal) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		for _, how := range []string{"whole", "cold128K", "warm128K"} {
			b.Run(kind+"/"+how, func(b *testing.B) {
				r := newRig(b, fsapi.CipherAES256GCM, 1, nil)
				data := bytesOf(9, 64<<20, kind)
				st := r.store(b, class(1, "auto", cdc), blob.Segment, data)
				p := make([]byte, 1<<20)
				step := int64(128 << 10)
				if how == "whole" {
					step = 1 << 20
				}
				b.SetBytes(int64(len(data)))
				start := cpuSeconds()
				for b.Loop() {
					if how == "cold128K" {
						r.DropCaches()
					}
					for i := range st.Extents {
						e := &st.Extents[i].Extent
						for off := int64(0); off < e.Len; off += step {
							if err := r.ReadExtent(b.Context(), vol, e, off, p[:min(step, e.Len-off)]); err != nil {
								b.Fatal(err)
							}
						}
					}
				}
				cpuPerGiB(b, start, int64(len(data)))
			})
		}
	}
}
