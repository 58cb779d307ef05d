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

// What was read ahead is there for a reader who comes for it in order, however
// little of the cache is left to what is used once.
func TestReadAheadSurvivesUntilItIsUsed(t *testing.T) {
	var pool slab.Pool
	c := New(16<<20, &pool)
	for n := range 200 { // all of the cache is of use to others
		put(c, &pool, n, 80<<10)
	}
	for range 3 {
		for n := range 200 {
			if e := c.Get(key(n)); e != nil {
				e.Release()
			}
		}
	}
	const ahead = 40 // of 80 KiB: twice the small queue
	next, missed := 1000, 0
	for n := next; n < next+2000; n++ {
		c.PutAhead(key(n), pool.Get(80<<10))
		if n-next < ahead {
			continue
		}
		for range 2 { // the end of one read and the begin of the next
			if e := c.Get(key(n - ahead)); e != nil {
				e.Release()
			} else {
				missed++
			}
		}
	}
	if missed > 0 {
		t.Errorf("%d of 2000 chunks were dropped before their use", missed)
	}
	hits := 0
	for n := range 200 {
		if c.Has(key(n)) {
			hits++
		}
	}
	if hits < 100 {
		t.Errorf("the scan left only %d of 200 chunks that are used", hits)
	}
}

// What was read ahead for a reader who never comes goes.
func TestReadAheadInVainIsDropped(t *testing.T) {
	var pool slab.Pool
	c := New(16<<20, &pool)
	for n := range 5000 {
		c.PutAhead(key(n), pool.Get(64<<10))
		if b, _ := c.Size(); b > 16<<20 {
			t.Fatalf("%d bytes after %d chunks", b, n)
		}
	}
	for n := 5000; n < 10_000; n++ {
		put(c, &pool, n, 64<<10)
	}
	for n := range 5000 {
		if c.Has(key(n)) {
			t.Fatalf("chunk %d is still there", n)
		}
	}
	c.Clear()
	if s := &c.shard[0]; s.ahead != 0 {
		t.Errorf("%d bytes are said to be ahead in an empty cache", s.ahead)
	}
}
