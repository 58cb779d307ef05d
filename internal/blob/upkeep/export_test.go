package upkeep

import (
	"context"
	"sync"
)

// Scan is one look at the queue, with everything it started.
func (u *Upkeep) Scan(ctx context.Context) error {
	var wg sync.WaitGroup
	err := u.scan(ctx, make(chan struct{}, 1000), &wg)
	wg.Wait()
	return err
}
