package cache

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/blob/slab"
)

func key(n int) Key {
	var k Key
	binary.LittleEndian.PutUint64(k.Chunk[:], uint64(n))
	binary.LittleEndian.PutUint64(k.Chunk[8:], uint64(n)*0x9e3779b97f4a7c15)
	return k
}

func put(c *Cache, pool *slab.Pool, n, size int) {
	b := pool.Get(size)
	for i := range b.B {
		b.B[i] = byte(n)
	}
	c.Put(key(n), b).Release()
}

func TestBoundHolds(t *testing.T) {
	var pool slab.Pool
	c := New(8<<20, &pool)
	for n := range 10_000 {
		put(c, &pool, n, 1000+n*37%100_000)
		if b, _ := c.Size(); b > 8<<20 {
			t.Fatalf("%d bytes after %d chunks", b, n)
		}
	}
	if b, n := c.Size(); b < 6<<20 || n == 0 {
		t.Errorf("only %d bytes used", b)
	}
	c.Clear()
	if b, n := c.Size(); b != 0 || n != 0 {
		t.Errorf("%d bytes, %d chunks after Clear", b, n)
	}
}

func TestScanDoesNotPushOutWhatIsUsed(t *testing.T) {
	var pool slab.Pool
	c := New(16<<20, &pool)
	use := func(n int) bool {
		if e := c.Get(key(n)); e != nil {
			e.Release()
			return true
		}
		put(c, &pool, n, 4096)
		return false
	}
	for range 4 {
		for n := range 1000 {
			use(n)
		}
	}
	for n := 10_000; n < 30_000; n++ {
		use(n)
	}
	hits := 0
	for n := range 1000 {
		if c.Has(key(n)) {
			hits++
		}
	}
	if hits < 950 {
		t.Errorf("%d of 1000 used chunks survived a scan", hits)
	}
}

// A buffer must not be lent again while someone reads it.
func TestUseSurvivesEviction(t *testing.T) {
	var pool slab.Pool
	c := New(1<<20, &pool)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 3000 {
				n := r.IntN(200)
				e := c.Get(key(n))
				if e == nil {
					b := pool.Get(8000)
					for i := range b.B {
						b.B[i] = byte(n)
					}
					e = c.Put(key(n), b)
				}
				if want := bytes.Repeat([]byte{byte(n)}, 8000); !bytes.Equal(e.Bytes(), want) {
					t.Error("a chunk changed while it was used")
				}
				e.Release()
			}
		})
	}
	wg.Wait()
}

func BenchmarkGet(b *testing.B) {
	var pool slab.Pool
	c := New(64<<20, &pool)
	for n := range 1000 {
		put(c, &pool, n, 4096)
	}
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if e := c.Get(key(n % 1000)); e != nil {
				e.Release()
			}
		}
	})
}
