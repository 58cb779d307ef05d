package bucket

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

func full(s object.Store, dir string) Options {
	return Options{Objects: s, Key: testKey, FS: osfs.OS{}, Dir: dir, FenceCheck: -1, Log: slog.New(slog.DiscardHandler)}
}

// BenchmarkBucket is the suite of all engines, over a store that answers at once.
func BenchmarkBucket(b *testing.B) {
	kvtest.Bench(b, func(b *testing.B) kv.Engine {
		e, err := Open(b.Context(), full(opened(b, mem.New(mem.Options{})), b.TempDir()))
		must(b, err)
		return e
	})
}

// roundTrip is how long a request to a store takes that is not far away.
const roundTrip = 20 * time.Millisecond

// BenchmarkFreshMachine opens a store of a million inodes on a machine that has
// nothing, with requests of 20 ms each: to the first file read, and to the first
// thousand in one directory.
func BenchmarkFreshMachine(b *testing.B) {
	if !long() {
		b.Skip("makes a million inodes: STRAKE_LONG=1")
	}
	bucket := mem.New(mem.Options{})
	w, err := Open(b.Context(), full(opened(b, bucket), b.TempDir()))
	must(b, err)
	const inodes = 1_000_000
	began := time.Now()
	for i := 0; i < inodes; {
		_, err := w.Update(b.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
			for range 500 {
				tx.Put(inode(i), noise(randOf(i), 120))
				tx.Put(dentry(i), noise(randOf(i), 24))
				i++
			}
			return nil
		})
		must(b, err)
	}
	must(b, w.Sync(b.Context()))
	must(b, w.Checkpoint(b.Context()))
	st := w.Status()
	b.Logf("made in %v: %d tables, %d PUTs, %d MiB sent", time.Since(began), st.Tables, st.Requests.Puts, st.Requests.Sent>>20)
	fillJournal(b, w)
	w.s.cancel() // ends as a process does
	_ = w.Close()
	for b.Loop() {
		freshMachine(b, bucket)
	}
}

// fillJournal leaves half of what makes a checkpoint in the journal.
func fillJournal(b *testing.B, w *Engine) {
	for i := range 500 {
		_, err := w.Update(b.Context(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
			tx.Put(inode(i), noise(randOf(i), 16<<10))
			return nil
		})
		must(b, err)
	}
}

func freshMachine(b *testing.B, bucket *mem.Bucket) {
	s := opened(b, bucket)
	g := &gate{Store: s}
	g.set(func(int, string, string) outcome { return outcome{delay: roundTrip} })
	began := time.Now()
	e, err := Open(b.Context(), full(g, b.TempDir()))
	must(b, err)
	open := time.Since(began)
	must(b, e.View(b.Context(), func(r kv.Reader) error {
		_, ok, err := r.Get(inode(777_777))
		if err == nil && !ok {
			b.Error("it is not there")
		}
		return err
	}))
	first := time.Since(began)
	n := 0
	must(b, e.View(b.Context(), func(r kv.Reader) error {
		return r.Scan(dentry(500_000), dentry(501_000), func(_, _ []byte) (bool, error) { n++; return true, nil })
	}))
	listed := time.Since(began)
	r := s.Requests()
	b.ReportMetric(open.Seconds(), "s-open")
	b.ReportMetric(first.Seconds(), "s-first")
	b.ReportMetric(listed.Seconds(), "s-listed")
	b.ReportMetric(float64(r.Gets+r.Puts+r.Lists), "requests")
	b.ReportMetric(float64(r.Read>>10), "KiB-read")
	e.s.cancel()
	_ = e.Close()
	if n != 1000 {
		b.Errorf("%d names", n)
	}
}

func inode(i int) []byte { return binary.BigEndian.AppendUint64([]byte("i"), uint64(i)) }

func dentry(i int) []byte {
	return fmt.Appendf(binary.BigEndian.AppendUint64([]byte("d"), uint64(i/1000)), "file-%08d", i)
}
