package kvtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strakefs/strake/internal/kv"
)

// Bench measures an engine: transactions of the size metadata has, and how
// concurrent Syncs share flushes.
func Bench(b *testing.B, open func(b *testing.B) kv.Engine) {
	e := open(b)
	defer func() { check(b, e.Close()) }()
	const inodes = 100_000
	fillInodes(b, e, inodes)
	b.Run("UpdateCreate", func(b *testing.B) { benchCreate(b, e, inodes) })
	b.Run("UpdateBlind", func(b *testing.B) {
		defer cpu(b)()
		b.ReportAllocs()
		for i := range b.N {
			update(b, e, func(tx kv.Tx) { tx.Put(inodeKey(i%inodes), make([]byte, 120)) })
		}
	})
	b.Run("UpdateParallel", func(b *testing.B) { benchParallel(b, e, inodes) })
	b.Run("UpdateHotKey", func(b *testing.B) { benchHot(b, e) })
	b.Run("ViewGet1", func(b *testing.B) { benchGet(b, e, inodes, 1) })
	b.Run("ViewGet4", func(b *testing.B) { benchGet(b, e, inodes, 4) })
	b.Run("ViewScan100", func(b *testing.B) { benchScan(b, e) })
	for _, n := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("UpdateSync%d", n), func(b *testing.B) { benchSync(b, e, n) })
	}
	b.Run("Frame1MiB", func(b *testing.B) { benchFrames(b, e) })
}

// cpu reports the processor time of the process per operation: unlike time on
// the wall it means something on a busy machine. Background work is in it.
func cpu(b *testing.B) func() {
	before := processorTime()
	return func() { b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op") }
}

func processorTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func inodeKey(i int) []byte {
	return binary.BigEndian.AppendUint64([]byte("i"), uint64(i))
}

func dentryKey(dir, i int) []byte {
	return fmt.Appendf(binary.BigEndian.AppendUint64([]byte("d"), uint64(dir)), "file-%08d", i)
}

func fillInodes(b *testing.B, e kv.Engine, n int) {
	for i := 0; i < n; {
		update(b, e, func(tx kv.Tx) {
			for range 500 {
				tx.Put(inodeKey(i), make([]byte, 120))
				tx.Put(dentryKey(i/100, i), make([]byte, 24))
				i++
			}
		})
	}
}

// create is what making a file does: read the directory, see that the name is
// free, look at a quota, write inode, dentry, directory, and three counters.
func create(b *testing.B, tx kv.Tx, dir, i int) {
	_, _, err := tx.Get(inodeKey(dir))
	check(b, err)
	name := dentryKey(dir, 1_000_000+i)
	_, ok, err := tx.Get(name)
	check(b, err)
	if ok {
		b.Fatal("the name is taken")
	}
	_, err = tx.PeekCounter([]byte("u/bytes"))
	check(b, err)
	var attr [120]byte
	tx.Put(inodeKey(1_000_000+i), attr[:])
	tx.Put(name, attr[:24])
	tx.Put(inodeKey(dir), attr[:])
	tx.Add([]byte("u/bytes"), 4096)
	tx.Add([]byte("u/inodes"), 1)
}

// serial makes names that no benchmark run used before.
type serial struct{ n atomic.Int64 }

func (s *serial) next() int { return int(s.n.Add(1)) }

func benchCreate(b *testing.B, e kv.Engine, inodes int) {
	defer cpu(b)()
	b.ReportAllocs()
	base := int(e.LastSeq()) << 20
	for i := range b.N {
		update(b, e, func(tx kv.Tx) { create(b, tx, i%inodes, base+i) })
	}
}

func benchParallel(b *testing.B, e kv.Engine, inodes int) {
	defer cpu(b)()
	b.ReportAllocs()
	base := int(e.LastSeq()) << 20
	var s serial
	before := e.Stats().Conflicts
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := s.next()
			update(b, e, func(tx kv.Tx) { create(b, tx, i%inodes, base+i) })
		}
	})
	b.ReportMetric(float64(e.Stats().Conflicts-before)/float64(b.N), "conflicts/op")
}

func benchHot(b *testing.B, e kv.Engine) {
	defer cpu(b)()
	b.ReportAllocs()
	before := e.Stats().Conflicts
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			update(b, e, func(tx kv.Tx) {
				_, _, err := tx.Get([]byte("hot"))
				check(b, err)
				tx.Put([]byte("hot"), []byte("x"))
			})
		}
	})
	b.ReportMetric(float64(e.Stats().Conflicts-before)/float64(b.N), "conflicts/op")
}

func benchGet(b *testing.B, e kv.Engine, inodes, n int) {
	defer cpu(b)()
	b.ReportAllocs()
	for i := range b.N {
		err := e.View(context.Background(), func(r kv.Reader) error {
			for j := range n {
				if _, _, err := r.Get(inodeKey((i*7919 + j*104729) % inodes)); err != nil {
					return err
				}
			}
			return nil
		})
		check(b, err)
	}
}

func benchScan(b *testing.B, e kv.Engine) {
	defer cpu(b)()
	b.ReportAllocs()
	for i := range b.N {
		n := 0
		err := e.View(context.Background(), func(r kv.Reader) error {
			return r.Scan(dentryKey(i%1000, 0)[:9], dentryKey(i%1000+1, 0)[:9], func(k, v []byte) (bool, error) {
				n++
				return n < 100, nil
			})
		})
		check(b, err)
	}
}

// benchSync: n writers, each waiting for its own batch.
func benchSync(b *testing.B, e kv.Engine, n int) {
	defer cpu(b)()
	before := e.Stats().Syncs
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				_, err := e.Update(context.Background(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
					tx.Put(inodeKey(w), make([]byte, 120))
					return nil
				})
				check(b, err)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(e.Stats().Syncs-before)/float64(b.N), "syncs/op")
}

// benchFrames: journal frames that live for a while, as small barriers make
// them.
func benchFrames(b *testing.B, e kv.Engine) {
	defer cpu(b)()
	frame := make([]byte, 1<<20)
	for i := range frame {
		frame[i] = byte(i * 7919 >> 3)
	}
	b.SetBytes(int64(len(frame)))
	const lives = 8
	for i := range b.N {
		_, err := e.Update(context.Background(), kv.UpdateOptions{Sync: true}, func(tx kv.Tx) error {
			tx.Put(binary.BigEndian.AppendUint64([]byte("j"), uint64(i)), frame)
			if i >= lives {
				tx.Delete(binary.BigEndian.AppendUint64([]byte("j"), uint64(i-lives)))
			}
			return nil
		})
		check(b, err)
	}
}
