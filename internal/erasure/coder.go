package erasure

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/reedsolomon"

	"github.com/strakefs/strake/internal/fsapi"
)

// Config of a Coder. Zero fields take defaults.
type Config struct {
	// Memory bounds the buffers of one call in bytes: it is spread over the
	// shards, and what each gets is the size of its reads and writes. At least
	// one block a shard is used whatever it says. Default 16 MiB.
	Memory int64
	// Workers is how many goroutines compute in one call. Default GOMAXPROCS.
	Workers int
}

// DefaultMemory is Config.Memory's default in bytes.
const DefaultMemory = 16 << 20

// Coder encodes, reads and rebuilds. Safe for concurrent use; make one and keep
// it: it caches codes and buffers.
type Coder struct {
	cfg     Config
	buffers sync.Pool // *[]byte

	mu    sync.Mutex
	codes map[[2]int]reedsolomon.Encoder // by k, m; guarded by mu
}

// New is a Coder.
func New(cfg Config) *Coder {
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	return &Coder{cfg: cfg, codes: map[[2]int]reedsolomon.Encoder{}}
}

// code is the code of a layout, which it checks.
func (c *Coder) code(l Layout) (reedsolomon.Encoder, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	key := [2]int{l.K, l.M}
	c.mu.Lock()
	defer c.mu.Unlock()
	if rs := c.codes[key]; rs != nil {
		return rs, nil
	}
	// Rows are spread over goroutines here, which also computes checksums in
	// parallel.
	rs, err := reedsolomon.New(l.K, l.M, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "make the code %d+%d: %w", l.K, l.M, err)
	}
	c.codes[key] = rs
	return rs, nil
}

// stripRows is how many rows are in memory at once.
func (c *Coder) stripRows(l Layout) int {
	n := c.cfg.Memory / int64(l.Shards()) / int64(l.BlockSize+sumSize)
	return int(min(max(n, 1), int64(l.Rows())))
}

// buffer is at least n bytes of undefined content, to be given to release.
func (c *Coder) buffer(n int) *[]byte {
	if p, ok := c.buffers.Get().(*[]byte); ok && cap(*p) >= n {
		*p = (*p)[:n]
		return p
	}
	b := make([]byte, n)
	return &b
}

func (c *Coder) release(p *[]byte) { c.buffers.Put(p) }

// compute calls fn for 0 to n-1 on the workers and returns an error of one.
func (c *Coder) compute(n int, fn func(i int) error) error {
	if n == 1 || c.cfg.Workers == 1 {
		for i := range n {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	}
	var next atomic.Int64
	return each(min(c.cfg.Workers, n), func(int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			if err := fn(i); err != nil {
				next.Store(int64(n))
				return err
			}
		}
	})
}

// each calls fn for 0 to n-1 at once, waits for all, and returns the error of
// the first index that has one.
func each(n int, fn func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ended is the context's end as an error of a kind.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "work on shards")
	}
	return nil
}

// name is a shard as errors call it.
func name(id fsapi.SegmentID, l Layout, index int) string {
	return fmt.Sprintf("shard %d (%d+%d) of segment %s", index, l.K, l.M, id)
}
