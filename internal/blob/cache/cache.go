// Package cache keeps decoded chunks in memory up to a number of bytes, by
// S3-FIFO (Yang et al., SOSP 2023): a small queue that one-time visitors leave
// quickly, a main queue, and the ghosts of those that left, so that a scan does
// not push out what is used again and again.
//
// It owns: which buffers stay, and when one may be lent again. It must not know
// what the bytes are. Locks: one per shard, never held together.
package cache

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob/slab"
	"github.com/strakefs/strake/internal/fsapi"
)

// Key names a chunk in the cache.
type Key struct {
	Volume fsapi.VolumeID
	Chunk  fsapi.ChunkID
}

// Shards spread the locks; ids are hashes, so their first bytes choose. Each
// has at least minShard bytes, so that the largest chunks fit.
const (
	maxShards = 16
	minShard  = 32 << 20
)

// maxFreq is as often as a use is counted.
const maxFreq = 3

// Cache is safe for concurrent use.
type Cache struct {
	pool  *slab.Pool
	shard []shard
}

// Chunk is a decoded chunk that is being used. Its bytes must not be changed.
// Release it once.
type Chunk struct {
	key  Key
	buf  *slab.Buf
	pool *slab.Pool
	refs atomic.Int32 // users, and one of the cache
	freq atomic.Uint32
	// ahead: it was read ahead and nobody has used it; late: it came to its end in
	// the small queue so. Both are guarded by shard.mu.
	ahead, late bool
}

// Bytes are the chunk's plaintext, until Release.
func (c *Chunk) Bytes() []byte { return c.buf.B }

// Release ends a use.
func (c *Chunk) Release() {
	if c.refs.Add(-1) == 0 {
		c.pool.Put(c.buf)
	}
}

type shard struct {
	mu    sync.Mutex
	max   int64 // bytes of buffers
	small queue
	main  queue
	ahead int64 // bytes of buffers in small that are ahead
	table map[Key]*Chunk
	ghost ghosts
}

// New makes a cache of at most maxBytes of buffers, which it takes from and
// gives back to pool.
func New(maxBytes int64, pool *slab.Pool) *Cache {
	n := min(max(maxBytes/minShard, 1), maxShards)
	c := &Cache{pool: pool, shard: make([]shard, n)}
	for i := range c.shard {
		s := &c.shard[i]
		s.max, s.table = maxBytes/n, make(map[Key]*Chunk)
		s.ghost.set = make(map[uint64]int)
	}
	return c
}

func (c *Cache) of(k *Key) *shard { return &c.shard[int(k.Chunk[0])%len(c.shard)] }

// Get is a chunk that is in the cache, or nil. Release it.
func (c *Cache) Get(k Key) *Chunk {
	s := c.of(&k)
	s.mu.Lock()
	e := s.table[k]
	first := e != nil && e.ahead
	if e != nil {
		e.refs.Add(1)
		s.arrive(e)
	}
	s.mu.Unlock()
	if e != nil && !first && e.freq.Load() < maxFreq {
		e.freq.Add(1)
	}
	return e
}

// Has reports whether a chunk is in the cache, without counting a use.
func (c *Cache) Has(k Key) bool {
	s := c.of(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table[k] != nil
}

// Put takes buf, a chunk's plaintext, into the cache as far as it fits, and
// returns it for use. Release it.
func (c *Cache) Put(k Key, buf *slab.Buf) *Chunk {
	e := &Chunk{key: k, buf: buf, pool: c.pool}
	e.refs.Store(1)
	c.put(e)
	return e
}

// PutAhead is Put of a chunk that somebody is about to want: until its first use,
// which is not counted, it does not take the room of others that were used once,
// and is not dropped the first time that its turn comes.
func (c *Cache) PutAhead(k Key, buf *slab.Buf) {
	e := &Chunk{key: k, buf: buf, pool: c.pool, ahead: true}
	e.refs.Store(1)
	c.put(e)
	e.Release()
}

func (c *Cache) put(e *Chunk) {
	k := e.key
	s := c.of(&k)
	if size(e) > s.max/2 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table[k] != nil {
		return
	}
	e.refs.Add(1)
	s.table[k] = e
	switch {
	case e.ahead:
		s.small.push(e)
		s.ahead += size(e)
	case s.ghost.take(hash(&k)):
		s.main.push(e)
	default:
		s.small.push(e)
	}
	for s.small.bytes+s.main.bytes > s.max {
		s.evict()
	}
}

// arrive makes a chunk that was read ahead one like the others. REQUIRES: mu.
func (s *shard) arrive(e *Chunk) {
	if e.ahead {
		e.ahead = false
		s.ahead -= size(e)
	}
}

// Clear forgets everything.
func (c *Cache) Clear() {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		for _, q := range []*queue{&s.small, &s.main} {
			for e := q.pop(); e != nil; e = q.pop() {
				s.drop(e)
			}
		}
		s.mu.Unlock()
	}
}

// Size is the bytes of buffers and the number of chunks now in the cache.
func (c *Cache) Size() (bytes, chunks int64) {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		bytes += s.small.bytes + s.main.bytes
		chunks += int64(len(s.table))
		s.mu.Unlock()
	}
	return bytes, chunks
}

// evict makes room by one step. REQUIRES: mu, and something in the queues.
func (s *shard) evict() {
	if s.small.bytes-min(s.ahead, s.max/2) > s.max/10 || s.main.bytes == 0 {
		e := s.small.pop()
		switch {
		case e.freq.Load() > 1:
			e.freq.Store(0)
			s.main.push(e)
			return
		case e.ahead && !e.late:
			e.late = true
			s.small.push(e)
			return
		}
		s.ghost.add(hash(&e.key), len(s.table))
		s.drop(e)
		return
	}
	e := s.main.pop()
	if f := e.freq.Load(); f > 0 {
		e.freq.Store(f - 1)
		s.main.push(e)
		return
	}
	s.drop(e)
}

func (s *shard) drop(e *Chunk) {
	s.arrive(e)
	delete(s.table, e.key)
	e.Release()
}

func size(e *Chunk) int64 { return int64(cap(e.buf.B)) }

func hash(k *Key) uint64 {
	return binary.LittleEndian.Uint64(k.Chunk[8:]) ^ uint64(k.Volume)*0x9e3779b97f4a7c15
}
