package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/meta"
)

// metaCopies keeps copies of the metadata and of the keyring where the machine's
// loss does not reach them: on the drives, or, with an engine that has all in a
// bucket, there.
type metaCopies interface {
	Run(ctx context.Context) error
	Flush(ctx context.Context) error
	Renew(ctx context.Context) error
	Status() checkpoint.Status
	// Close ends what Run and Flush have left behind; after both.
	Close()
}

// newShipper makes what keeps the drives' copies of the metadata and keyring up
// to date.
func (n *Node) newShipper() (metaCopies, error) {
	if n.state != nil {
		return n.state, nil
	}
	c := &n.cfg.Backup
	return checkpoint.New(checkpoint.Options{
		Engine: n.engine, Drives: n.backupDrives, Key: n.keys.StoreKey(), IsCounter: meta.IsCounter, Keyring: n.keys.Bytes,
		GroupBytes: int64(c.Group), GroupAge: c.Age, CheckpointBytes: int64(c.Checkpoint),
		Keep: c.Keep, KeepBytes: int64(c.KeepBytes), Log: n.log,
	})
}

// backupSeq is the newest batch that every drive has.
func (n *Node) backupSeq() uint64 {
	if n.ships == nil {
		return 0
	}
	return uint64(n.ships.Status().Seq)
}
