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

// Rekey is the step that starts jobs and drops keys.
func (u *Upkeep) Rekey(ctx context.Context) error { return u.rekey(ctx) }
