package transfer

import (
	"context"
	"sync"
)

// Bounds of what is gathered before it is sent.
const (
	batchOps   = 256
	batchBytes = 4 << 20
)

// batcher gathers small changes from all goroutines. Whoever fills it sends it.
type batcher struct {
	r     *Run
	mu    sync.Mutex
	ops   []Op     // guarded by mu
	then  []func() // by op: when it succeeded; guarded by mu
	bytes int      // guarded by mu
}

// add takes a change; then is called when it is done.
func (b *batcher) add(ctx context.Context, op Op, then func()) {
	if b.r.o.DryRun {
		then()
		return
	}
	b.mu.Lock()
	b.ops, b.then = append(b.ops, op), append(b.then, then)
	b.bytes += len(op.Data)
	full := len(b.ops) >= batchOps || b.bytes >= batchBytes
	b.mu.Unlock()
	if full {
		b.flush(ctx)
	}
}

// flush sends what was gathered.
func (b *batcher) flush(ctx context.Context) {
	b.mu.Lock()
	ops, then := b.ops, b.then
	b.ops, b.then, b.bytes = nil, nil, 0
	b.mu.Unlock()
	if len(ops) == 0 {
		return
	}
	for i, err := range b.r.o.Dest.Apply(ctx, ops) {
		if err != nil {
			b.r.fail(ctx, ops[i].Entry.Path, err)
			continue
		}
		then[i]()
	}
}
