package erasure

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

var testID = fsapi.SegmentID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// small uses memory so tight that several strips are needed.
func small() *Coder { return New(Config{Memory: 8 << 10, Workers: 2}) }

// content is size bytes that depend on seed.
func content(seed uint64, size int64) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// shards is a segment's blobs, with what may happen to them. It counts reads.
type shards struct {
	id    fsapi.SegmentID
	l     Layout
	blobs [][]byte                                // nil: not there
	fail  func(shard int, off int64, n int) error // before a read
	mu    sync.Mutex                              // guards the counters
	bytes map[int]int64                           // read, by shard
	reads int
}

func encode(t testing.TB, c *Coder, l Layout, seg []byte) *shards {
	t.Helper()
	out, get := buffers(l.Shards())
	if err := c.Encode(t.Context(), testID, l, bytes.NewReader(seg), out); err != nil {
		t.Fatalf("encode %+v: %v", l, err)
	}
	return &shards{id: testID, l: l, blobs: get(), bytes: map[int]int64{}}
}

// buffers are n writers and what was written to them.
func buffers(n int) ([]io.Writer, func() [][]byte) {
	out, bufs := make([]io.Writer, n), make([]*bytes.Buffer, n)
	for i := range out {
		bufs[i] = &bytes.Buffer{}
		out[i] = bufs[i]
	}
	return out, func() [][]byte {
		blobs := make([][]byte, n)
		for i, b := range bufs {
			blobs[i] = b.Bytes()
		}
		return blobs
	}
}

func (s *shards) read(_ context.Context, shard int, off int64, p []byte) error {
	s.mu.Lock()
	s.bytes[shard] += int64(len(p))
	s.reads++
	s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(shard, off, len(p)); err != nil {
			return err
		}
	}
	b := s.blobs[shard]
	if b == nil {
		return fsapi.Errorf(fsapi.NotExist, "no blob of shard %d", shard)
	}
	if off+int64(len(p)) > int64(len(b)) {
		return fsapi.Errorf(fsapi.IO, "blob of shard %d ends at %d", shard, len(b))
	}
	copy(p, b[off:])
	return nil
}

func (s *shards) blob(i int) BlobFunc {
	return func(ctx context.Context, off int64, p []byte) error { return s.read(ctx, i, off, p) }
}

// all are all shards, in a random order.
func (s *shards) all(r *rand.Rand) []int { return r.Perm(s.l.Shards()) }

func (s *shards) open(t testing.TB, c *Coder, have []int) *Reader {
	t.Helper()
	r, err := c.Open(s.id, s.l, have, s.read)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// without is a copy in which some shards' blobs are gone.
func (s *shards) without(lost ...int) *shards {
	c := &shards{id: s.id, l: s.l, blobs: append([][]byte(nil), s.blobs...), bytes: map[int]int64{}}
	for _, i := range lost {
		c.blobs[i] = nil
	}
	return c
}

// flip is a copy in which a byte of a blob is another.
func (s *shards) flip(shard int, off int64) *shards {
	c := s.without()
	c.blobs[shard] = bytes.Clone(c.blobs[shard])
	c.blobs[shard][off] ^= 0x10
	return c
}

// rebuilt rebuilds the shards listed.
func (s *shards) rebuilt(t testing.TB, c *Coder, have, targets []int) ([][]byte, []Fault, error) {
	out, get := buffers(s.l.Shards())
	for i := range out {
		wanted := false
		for _, x := range targets {
			wanted = wanted || x == i
		}
		if !wanted {
			out[i] = nil
		}
	}
	faults, err := s.open(t, c, have).Rebuild(t.Context(), out)
	return get(), faults, err
}

// subsets calls fn with every subset of 0..n-1 of at most size elements.
func subsets(n, size int, fn func([]int)) {
	var walk func(from int, cur []int)
	walk = func(from int, cur []int) {
		fn(cur)
		for i := from; i < n && len(cur) < size; i++ {
			walk(i+1, append(cur[:len(cur):len(cur)], i))
		}
	}
	walk(0, nil)
}
