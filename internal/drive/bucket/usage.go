package bucket

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

const usageKey = ".strake/usage"

// usage counts bytes of blobs. The count lies in the store while the drive is
// closed; it is taken away before the first change, so that after a crash there
// is none and the blobs are counted by listing them, once, when it is asked for.
// Its text is one line, crc32c over what is before it:
//
//	strake usage 1 bytes 123456 crc32c 89abcdef
type usage struct {
	store object.Store

	mu sync.Mutex
	// All below is guarded by mu.
	saved bool      // the store holds the count
	known bool      // n is right
	n     int64     // bytes
	at    time.Time // when n was, where recount asks
}

// recountAfter is how old a count may be where another machine writes.
const recountAfter = time.Hour

// recount makes the next question be answered by counting anew, where the count is
// too old.
func (u *usage) recount(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if age := now.Sub(u.at); u.known && age >= 0 && age < recountAfter {
		return
	}
	u.known, u.at = false, now
}

func formatUsage(n int64) []byte {
	text := fmt.Appendf(nil, "strake usage 1 bytes %d ", n)
	return fmt.Appendf(text, "crc32c %08x\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

// parseUsage reads the line; ok is false for anything else, which is as good as
// none.
func parseUsage(b []byte) (n int64, ok bool) {
	if _, err := fmt.Sscanf(string(b), "strake usage 1 bytes %d", &n); err != nil || n < 0 {
		return 0, false
	}
	return n, string(formatUsage(n)) == string(b)
}

// load reads the count.
func (u *usage) load(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	text, _, err := object.ReadAll(ctx, u.store, usageKey, 128, 4096)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return nil
	case err != nil:
		return err
	}
	u.saved = true
	u.n, u.known = parseUsage(text)
	return nil
}

// touch is called before each change.
func (u *usage) touch(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.saved {
		return nil
	}
	if err := u.store.Delete(ctx, usageKey); err != nil {
		return err
	}
	u.saved = false
	return nil
}

// add is called after each change.
func (u *usage) add(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n = max(u.n+n, 0)
}

// forget makes the next question be answered by counting anew.
func (u *usage) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known = false
}

// bytes is the count. A change made while blobs are listed may be counted twice,
// or not at all, until the next count.
func (u *usage) bytes(ctx context.Context) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known || ctx.Err() != nil {
		return u.n, ctx.Err()
	}
	var n int64
	err := u.store.List(ctx, "", "", func(o object.Object) error {
		if drive.CheckName(o.Key) == nil {
			n += o.Size
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	u.n, u.known = n, true
	return n, nil
}

// save writes the count, if there is one and it is not there yet.
func (u *usage) save(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.saved || !u.known {
		return nil
	}
	_, err := object.PutBytes(ctx, u.store, usageKey, formatUsage(u.n), object.Condition{})
	u.saved = err == nil
	return err
}
