package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// feed is the change feed: the changes noted in the tail of batches.
type feed struct{ n *Node }

// Last is the newest batch.
func (f feed) Last() uint64 { return uint64(f.n.engine.LastSeq()) }

// Follow is of rest.Feed.
func (f feed) Follow(ctx context.Context, from uint64, fn func(seq uint64, changes []fsapi.Change) error) error {
	t, err := f.n.engine.Tail(kv.Seq(from))
	if err != nil {
		return err
	}
	defer t.Close()
	for {
		b, err := t.Next(ctx)
		if err != nil {
			return err
		}
		changes, err := meta.Changes(b)
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			continue
		}
		if err := fn(uint64(b.Seq), changes); err != nil {
			return err
		}
	}
}

// VolumeName is of rest.Feed.
func (f feed) VolumeName(id fsapi.VolumeID) string {
	if v := f.n.volumes.byID(id); v != nil {
		return v.name()
	}
	return ""
}
