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
	clock   clock.Clock
	mu      sync.Mutex
	rate    int64         // bytes per second; negative: no limit; guarded by mu
	next    time.Time     // when the next bytes may pass; guarded by mu
	changed chan struct{} // closed when the rate changes; guarded by mu
}

func newPacer(c clock.Clock, rate int64) *pacer {
	return &pacer{clock: c, rate: rate, changed: make(chan struct{})}
}

// burst is how much may be made up for after a pause.
const burst = time.Second

// set changes the rate, for those who wait too.
func (p *pacer) set(rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.next = rate, time.Time{}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pacer) get() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// wait is called after n bytes were read.
func (p *pacer) wait(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "upkeep")
	}
	d, changed := p.due(n)
	if d <= 0 {
		return nil
	}
	select {
	case <-p.clock.After(d):
		return nil
	case <-changed: // what was waited for at the old rate is let pass
		return nil
	case <-ctx.Done():
		return fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "upkeep")
	}
}

// due is how long to wait for n bytes, unless the rate changes.
func (p *pacer) due(n int64) (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate < 0 {
		return 0, p.changed
	}
	now := p.clock.Now()
	if earliest := now.Add(-burst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.next.Sub(now), p.changed
}

// SetRate changes how many bytes per second upkeep's jobs read and write in all;
// negative is no limit. fsapi.Invalid for 0. It holds until the next start.
func (u *Upkeep) SetRate(bytesPerSecond int64) error {
	if bytesPerSecond == 0 {
		return fsapi.Errorf(fsapi.Invalid, "a rate of 0 would stop upkeep: pause its jobs instead")
	}
	u.pace.set(bytesPerSecond)
	return nil
}

// Rate is what SetRate set.
func (u *Upkeep) Rate() int64 { return u.pace.get() }

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
	Adopted       uint64 // parts found on drives that were owed, and put on record
}

type counters struct {
	framesPacked, chunksSwept, compacted, bytesMoved, condemned, deleted, bytesFreed           atomic.Uint64
	evicted, bytesEvicted, promoted, bytesPromoted                                             atomic.Uint64
	orphans, scrubbed, bytesScrubbed, bad, repaired, doubts, partsCopied, bytesCopied, adopted atomic.Uint64
}

// Progress reads the counters.
func (u *Upkeep) Progress() Progress {
	c := &u.count
	return Progress{
		FramesPacked: c.framesPacked.Load(), ChunksSwept: c.chunksSwept.Load(), Compacted: c.compacted.Load(),
		BytesMoved: c.bytesMoved.Load(), Condemned: c.condemned.Load(), Deleted: c.deleted.Load(), BytesFreed: c.bytesFreed.Load(),
		Orphans: c.orphans.Load(), Scrubbed: c.scrubbed.Load(), BytesScrubbed: c.bytesScrubbed.Load(),
		Bad: c.bad.Load(), Repaired: c.repaired.Load(), Doubts: c.doubts.Load(),
		PartsCopied: c.partsCopied.Load(), BytesCopied: c.bytesCopied.Load(), Adopted: c.adopted.Load(),
		Evicted: c.evicted.Load(), BytesEvicted: c.bytesEvicted.Load(), Promoted: c.promoted.Load(), BytesPromoted: c.bytesPromoted.Load(),
	}
}
