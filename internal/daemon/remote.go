package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// bucketKind is the kind of drives that outlive this machine.
const bucketKind = "bucket"

// remote waits for buckets, for the acknowledgement class remote. Those who come
// while one waits share the next wait. Safe for concurrent use.
type remote struct {
	n    *Node
	mu   sync.Mutex
	busy bool        // somebody waits for the bucket; guarded by mu
	next *remoteWait // of those who came since; guarded by mu
}

// remoteWait is a wait that several share.
type remoteWait struct {
	done chan struct{} // closed when over; err is valid then
	err  error
}

// wait returns when what was durable here before the call is in a bucket: the
// copies of all segments that were owed, and the metadata with the frames in its
// journal. While the bucket is away it waits, as long as ctx allows. copies are
// those that the data has: where none is sure to be in a bucket, that is refused.
func (r *remote) wait(ctx context.Context, copies []policy.Copy) error {
	if err := r.n.drives.remotePossible(copies); err != nil {
		return err
	}
	r.mu.Lock()
	w := r.next
	if w == nil {
		w = &remoteWait{done: make(chan struct{})}
		if r.busy {
			r.next = w
		} else {
			r.busy = true
			r.n.background.Go(func() { r.run(w) })
		}
	}
	r.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for the bucket")
	}
}

// run waits for the bucket, in a goroutine of the node, then for those who came
// meanwhile.
func (r *remote) run(w *remoteWait) {
	for w != nil {
		w.err = r.n.toBucket(r.n.ctx)
		close(w.done)
		r.mu.Lock()
		w = r.next
		r.next = nil
		r.busy = w != nil
		r.mu.Unlock()
	}
}

// Pauses between attempts to bring the metadata to a bucket.
const (
	firstRemotePause = 100 * time.Millisecond
	lastRemotePause  = 10 * time.Second
)

// toBucket brings everything to a bucket.
func (n *Node) toBucket(ctx context.Context) error {
	seq := n.engine.LastSeq()
	if err := n.upkeep.Drain(ctx); err != nil {
		return err
	}
	for pause := firstRemotePause; ; pause = min(2*pause, lastRemotePause) {
		err := n.ships.Flush(ctx)
		if n.inBucket(seq) {
			return nil
		}
		if ctx.Err() != nil {
			return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for the bucket")
		}
		n.log.Warn("the metadata is not in the bucket yet; an fsync of class remote waits", "err", err)
		select {
		case <-n.clock.After(pause):
		case <-ctx.Done():
		}
	}
}

// inBucket reports whether a bucket has the metadata up to a batch.
func (n *Node) inBucket(seq kv.Seq) bool {
	if n.state != nil {
		return n.engine.DurableSeq() >= seq
	}
	st := n.ships.Status()
	for _, d := range st.Drives {
		if st.Based && !d.Behind && d.Seq >= seq && n.drives.kind(d.ID) == bucketKind {
			return true
		}
	}
	return false
}
