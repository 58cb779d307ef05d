package provider

import (
	"context"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// batches are the requests of one Delete, some at a time.
type batches struct {
	s     *Store
	ctx   context.Context
	slots chan struct{}
	wg    sync.WaitGroup

	mu  sync.Mutex
	err error // the first; guarded by mu
}

// start deletes a batch unless an earlier one has failed.
func (b *batches) start(keys []string) {
	b.slots <- struct{}{}
	if b.failed() != nil {
		<-b.slots
		return
	}
	whole := make([]string, len(keys))
	for i, key := range keys {
		whole[i] = b.s.prefix + key
	}
	b.wg.Go(func() {
		defer func() { <-b.slots }()
		err := b.s.attempt(b.ctx, &b.s.counts.deletes, 0, func(ctx context.Context) error { return b.s.api.Delete(ctx, whole) })
		if err != nil && !errors.Is(err, fsapi.NotExist) {
			b.fail(err)
		}
	})
}

func (b *batches) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *batches) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *batches) wait() error {
	b.wg.Wait()
	return b.failed()
}
