package dir

import (
	"context"
	"errors"
	"path"
	"syscall"
	"time"
)

// lockWait is the longest pause between two looks at a lock that another process
// holds: flock(2) of osfs does not wait.
const lockWait = 50 * time.Millisecond

// lock keeps other calls and processes from replacing objects. held is false
// where the mount has no locks, so that other machines are not kept.
func (b *bucket) lock(ctx context.Context) (unlock func(), held bool, err error) {
	b.mu.Lock()
	for wait := time.Millisecond; ; wait = min(2*wait, lockWait) {
		l, err := b.fs.Lock(path.Join(b.root, lockFile))
		switch {
		case err == nil:
			return func() {
				l.Close() // nothing is written to it
				b.mu.Unlock()
			}, true, nil
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOLCK):
			return b.mu.Unlock, false, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			b.mu.Unlock()
			return nil, false, kinded(err, "lock")
		}
		select {
		case <-b.clock.After(wait):
		case <-ctx.Done():
			b.mu.Unlock()
			return nil, false, ctx.Err()
		}
	}
}
