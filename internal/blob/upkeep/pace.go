package upkeep

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// pacer lets bytes pass at a rate, so that upkeep leaves drives to those who
// wait. Safe for concurrent use.
type pacer struct {
	clock clock.Clock
	rate  int64 // bytes per second; negative: no limit
	mu    sync.Mutex
	next  time.Time // when the next bytes may pass; guarded by mu
}

// burst is how much may be made up for after a pause.
const burst = time.Second

// wait is called after n bytes were read.
func (p *pacer) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "upkeep")
	}
	if p.rate < 0 {
		return nil
	}
	d := p.due(n)
	if d <= 0 {
		return nil
	}
	select {
	case <-p.clock.After(d):
		return nil
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "upkeep")
	}
}

// due is how long to wait for n bytes.
func (p *pacer) due(n int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if earliest := now.Add(-burst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.next.Sub(now)
}

// Progress is what was done since New. The counters only grow.
type Progress struct {
	FramesPacked  uint64 // journal frames moved into segments
	ChunksSwept   uint64 // chunk records deleted
	Compacted     uint64 // segments whose live frames were moved
	BytesMoved    uint64 // plaintext written anew
	Condemned     uint64 // segments
	Deleted       uint64 // segments
	BytesFreed    uint64 // of the deleted segments' replicas
	Orphans       uint64 // blobs deleted
	Scrubbed      uint64 // replicas looked at
	BytesScrubbed uint64
	Bad           uint64 // replicas found missing or damaged
	Repaired      uint64 // of these
	Doubts        uint64 // things kept because of a doubt
	PartsCopied   uint64 // replicas and shards written to drives
	BytesCopied   uint64 // of these
	Evicted       uint64 // copies taken from their tier while a colder one stays
	BytesEvicted  uint64 // of their segments
	Promoted      uint64 // segments written to a hotter tier again
	BytesPromoted uint64 // of these
}

type counters struct {
	framesPacked, chunksSwept, compacted, bytesMoved, condemned, deleted, bytesFreed  atomic.Uint64
	evicted, bytesEvicted, promoted, bytesPromoted                                    atomic.Uint64
	orphans, scrubbed, bytesScrubbed, bad, repaired, doubts, partsCopied, bytesCopied atomic.Uint64
}

// Progress reads the counters.
func (u *Upkeep) Progress() Progress {
	c := &u.count
	return Progress{
		FramesPacked: c.framesPacked.Load(), ChunksSwept: c.chunksSwept.Load(), Compacted: c.compacted.Load(),
		BytesMoved: c.bytesMoved.Load(), Condemned: c.condemned.Load(), Deleted: c.deleted.Load(), BytesFreed: c.bytesFreed.Load(),
		Orphans: c.orphans.Load(), Scrubbed: c.scrubbed.Load(), BytesScrubbed: c.bytesScrubbed.Load(),
		Bad: c.bad.Load(), Repaired: c.repaired.Load(), Doubts: c.doubts.Load(),
		PartsCopied: c.partsCopied.Load(), BytesCopied: c.bytesCopied.Load(),
		Evicted: c.evicted.Load(), BytesEvicted: c.bytesEvicted.Load(), Promoted: c.promoted.Load(), BytesPromoted: c.bytesPromoted.Load(),
	}
}
