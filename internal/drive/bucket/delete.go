package bucket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// statters is how many of a batch are asked for their size at once.
const statters = 16

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	if err := d.checkWrite(ctx, "delete", name); err != nil {
		return err
	}
	if err := d.ours(ctx, 0, "delete", name); err != nil {
		return err
	}
	o, err := d.store.Stat(ctx, name)
	if err == nil {
		err = d.usage.touch(ctx)
	}
	if err == nil {
		err = d.store.Delete(ctx, name)
	}
	if err != nil {
		return d.fail(err, "delete", name)
	}
	d.usage.add(-o.Size)
	return nil
}

// DeleteMany implements drive.BatchDeleter. The sizes are asked for one by one,
// which providers hardly bill; the blobs go in batches.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := d.checkWrite(ctx, "delete", name); err != nil {
			return err
		}
	}
	if err := d.checkOpen(ctx, "delete", ""); err != nil || len(names) == 0 {
		return err
	}
	if err := d.ours(ctx, 0, "delete many, of which the first is", names[0]); err != nil {
		return err
	}
	size, err := d.sizes(ctx, unique(names))
	if err == nil {
		err = d.usage.touch(ctx)
	}
	if err == nil {
		err = d.store.Delete(ctx, names...)
	}
	if err != nil {
		d.usage.forget()
		return d.fail(err, "delete many, of which the first is", names[0])
	}
	d.usage.add(-size)
	return nil
}

func unique(names []string) (once []string) {
	seen := map[string]bool{}
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			once = append(once, name)
		}
	}
	return once
}

// sizes is the bytes that some blobs have together.
func (d *Drive) sizes(ctx context.Context, names []string) (int64, error) {
	var total, next atomic.Int64
	errs := make([]error, statters)
	var wg sync.WaitGroup
	for i := range statters {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(len(names)); n = next.Add(1) {
				o, err := d.store.Stat(ctx, names[n-1])
				if err != nil && !errors.Is(err, fsapi.NotExist) {
					errs[i] = err
					return
				}
				total.Add(o.Size)
			}
		})
	}
	wg.Wait()
	return total.Load(), errors.Join(errs...)
}
