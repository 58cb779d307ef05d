package daemon

import (
	"context"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/drive"
)

// metaCopies keeps copies of the metadata and of the keyring where the machine's
// loss does not reach them: on the drives, or, with an engine that has all in a
// bucket, there; and in the configured places.
type metaCopies interface {
	Run(ctx context.Context) error
	Flush(ctx context.Context) error
	Renew(ctx context.Context) error
	Status() checkpoint.Status
	// Anew is told that a drive was in use by a copy of the store: what is on it has
	// another history.
	Anew(why string)
	// Close ends what Run and Flush have left behind; after both.
	Close()
}

// newShipper makes what keeps the copies of the metadata and keyring up to date.
func (n *Node) newShipper() (metaCopies, error) {
	if n.follow != nil {
		return n.follow, nil
	}
	if n.state == nil {
		s, err := checkpoint.New(n.shipperOptions(func() []drive.Drive { return append(n.backupDrives(), n.backups.all()...) }))
		if err != nil {
			return nil, err
		}
		if n.drives.restored {
			s.Anew("the metadata was restored")
		}
		return s, nil
	}
	if len(n.cfg.Backup.To) == 0 {
		return n.state, nil
	}
	beside, err := checkpoint.New(n.shipperOptions(n.backups.all))
	if err != nil {
		return nil, err
	}
	return &bucketAndPlaces{n.state, beside}, nil
}

// bucketAndPlaces is a bucket that has everything, and places of backups beside
// it.
type bucketAndPlaces struct {
	bucket *bucketState
	places *checkpoint.Shipper
}

var _ metaCopies = (*bucketAndPlaces)(nil)

// Run implements metaCopies.
func (b *bucketAndPlaces) Run(ctx context.Context) error {
	var both sync.WaitGroup
	var errs [2]error
	both.Go(func() { errs[0] = b.bucket.Run(ctx) })
	both.Go(func() { errs[1] = b.places.Run(ctx) })
	both.Wait()
	return errors.Join(errs[:]...)
}

// Flush implements metaCopies.
func (b *bucketAndPlaces) Flush(ctx context.Context) error {
	return errors.Join(b.bucket.Flush(ctx), b.places.Flush(ctx))
}

// Renew implements metaCopies.
func (b *bucketAndPlaces) Renew(ctx context.Context) error {
	return errors.Join(b.bucket.Renew(ctx), b.places.Renew(ctx))
}

// Anew implements metaCopies.
func (b *bucketAndPlaces) Anew(why string) { b.places.Anew(why) }

// Close implements metaCopies.
func (b *bucketAndPlaces) Close() { b.places.Close() }

// Status implements metaCopies: that of the places, with the bucket's error.
func (b *bucketAndPlaces) Status() checkpoint.Status {
	st := b.places.Status()
	st.Err = errors.Join(b.bucket.Status().Err, st.Err)
	return st
}

// startBackups opens the configured places, beside everything else.
func (n *Node) startBackups(ctx context.Context) {
	n.onClose(n.backups.close)
	for _, where := range n.cfg.Backup.To {
		n.run(ctx, "backup to "+where, func(ctx context.Context) error { return n.backups.keep(ctx, where) })
	}
}

// backupSeq is the newest batch that every drive has.
func (n *Node) backupSeq() uint64 {
	if n.ships == nil {
		return 0
	}
	return uint64(n.ships.Status().Seq)
}
