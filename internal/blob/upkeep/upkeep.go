// Package upkeep keeps stored bytes in order while nobody waits: it writes the
// copies that segments are owed, keeps tiers, packs the journal into segments, sweeps chunks
// without references, compacts segments that are mostly dead, deletes those that
// are proven dead (D4), sweeps orphans, scrubs, and encrypts data anew whose key
// was rotated.
//
// It owns: when and how fast these run, and what must hold before anything is
// deleted. It must not know names, paths or key layout; metadata it asks for
// through Meta.
//
// Run has five goroutines, which it waits for: one packs, one sweeps, compacts,
// deletes and encrypts anew, one scrubs, one evicts and promotes, and one looks through what is
// pending and has up to Copiers others write it. Of each of the first four kinds
// one step runs at a time, whoever called it: it holds the kind's turn. Turns are
// never held together, and the only locks below them are the pacers', the
// queue's, that of wanted room and that of gathered writes.
package upkeep

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Meta is the metadata upkeep works on; *meta.Store is one.
type Meta interface {
	Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error)
	Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error)
	Segments(ctx context.Context, after fsapi.SegmentID, fn func(meta.SegmentUse) bool) error
	Volumes(ctx context.Context) ([]meta.Volume, error)
	JournalFrames(ctx context.Context, vol fsapi.VolumeID, max int, maxBytes int64) ([]meta.JournalChunk, error)
	JournalBytes(ctx context.Context) (int64, error)
	ChangeSegment(ctx context.Context, id fsapi.SegmentID, fn func(seg *fsapi.Segment) error) (fsapi.Segment, error)
	Pending(ctx context.Context, after fsapi.SegmentID, fn func(meta.Pending) bool) error
	PendingFailed(ctx context.Context, id fsapi.SegmentID, next time.Time, why error) error
	Relocate(ctx context.Context, vol fsapi.VolumeID, segs []fsapi.Segment, moves []fsapi.Moved) (int, error)
	SweepChunks(ctx context.Context, max int) (swept int, more bool, err error)
	Condemn(ctx context.Context, id fsapi.SegmentID) error
	PutHeats(ctx context.Context, list []fsapi.Heat) error
	Heats(ctx context.Context, fn func(fsapi.Heat) bool) error
	Absolve(ctx context.Context, id fsapi.SegmentID) error
	DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error
	EachJournalFrame(ctx context.Context, vol fsapi.VolumeID, fn func(frame []byte) bool) error
	InlineFrames(ctx context.Context, vol fsapi.VolumeID, after meta.InlineAt, look int) (list []meta.Inline, next meta.InlineAt, more bool, err error)
	ReplaceInline(ctx context.Context, vol fsapi.VolumeID, list []meta.Inline) (int, error)
	FramesKnown(ctx context.Context) error
	Setting(ctx context.Context, name string) ([]byte, error)
	PutSetting(ctx context.Context, name string, value []byte) error
	// Sync makes durable what was committed before: nothing that metadata
	// ceased to need is deleted from a drive before that.
	Sync(ctx context.Context) error
}

var _ Meta = (*meta.Store)(nil)

// Drives is all drives there are.
type Drives interface {
	blob.Drives
	All() []drive.Drive
	// Capacity measures a drive, or believes an older measurement where asking
	// would wake it.
	Capacity(ctx context.Context, id fsapi.DriveID) (drive.Capacity, error)
}

var _ Drives = (*blob.DriveSet)(nil)

// Options of New. Store, Meta and Drives must be set; zero fields of the rest
// take the defaults named.
type Options struct {
	Store  *blob.Store
	Meta   Meta
	Drives Drives
	Keys   Keys // nil: data is never encrypted anew

	Delay       time.Duration // between condemning a segment and deleting it; 10 minutes
	OrphanDelay time.Duration // age from which a blob without a record is an orphan; 1 hour
	JournalMax  int64         // bytes in the journal from which it is packed, 4 times that while it grows; 32 MiB
	JournalAge  time.Duration // after which a smaller journal is packed too; 5 minutes
	LiveRatio   float64       // live bytes below which a segment is compacted; 0.5
	Copiers     int           // segments of which copies are written at a time; 4
	MaxPending  int           // segments with copies pending from which writers wait; 200,000

	// Copies to tiers all of whose drives spin down are gathered until they have
	// GatherBytes or one has waited GatherTime, and then written together.
	GatherBytes int64         // 1 GiB
	GatherTime  time.Duration // 1 hour

	MaxPendingBytes int64 // bytes of these segments, likewise; 0: no bound but that of the drives

	BatchBytes int64 // plaintext gathered for one rewrite: what bounds memory; 64 MiB

	Tick        time.Duration // between looks at the journal in Run; 2 seconds
	GCEvery     time.Duration // between sweeps, compactions and deletions in Run; 1 minute
	OrphanEvery time.Duration // between orphan sweeps in Run; 24 hours
	ScrubEvery  time.Duration // between shallow scrubs in Run; 24 hours
	DeepEvery   time.Duration // between deep scrubs in Run; 30 days
	Rate        int64         // bytes per second that compaction and scrub read; 64 MiB; negative: no limit

	Tiering Tiering

	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards
}

func (o *Options) defaults() {
	for p, d := range map[*time.Duration]time.Duration{
		&o.Delay: 10 * time.Minute, &o.OrphanDelay: time.Hour, &o.JournalAge: 5 * time.Minute, &o.Tick: 2 * time.Second,
		&o.GatherTime: time.Hour, &o.GCEvery: time.Minute, &o.OrphanEvery: 24 * time.Hour, &o.ScrubEvery: 24 * time.Hour, &o.DeepEvery: 30 * 24 * time.Hour,
	} {
		if *p == 0 {
			*p = d
		}
	}
	for p, d := range map[*int64]int64{&o.JournalMax: 32 << 20, &o.GatherBytes: 1 << 30, &o.BatchBytes: 64 << 20, &o.Rate: 64 << 20} {
		if *p == 0 {
			*p = d
		}
	}
	for p, d := range map[*int]int{&o.Copiers: 4, &o.MaxPending: 200_000} {
		if *p == 0 {
			*p = d
		}
	}
	o.Tiering.defaults()
	if o.LiveRatio == 0 {
		o.LiveRatio = 0.5
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Upkeep does the steps. Safe for concurrent use; they take turns.
type Upkeep struct {
	o       Options
	packing turn // Pack
	ridding turn // Sweep, Compact, Collect, SweepOrphans, GC
	looking turn // Scrub
	tiering turn // TierOnce
	pace    pacer
	queue   *queue
	tier    tierState
	gather  gatherer
	started time.Time
	journal int64 // bytes in the journal when packLarge looked; its own
	count   counters

	promoting pacer // of promotions
}

// New makes an upkeep, which does nothing by itself: see Run.
func New(o Options) (*Upkeep, error) {
	if o.Store == nil || o.Meta == nil || o.Drives == nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "upkeep: Store, Meta and Drives must be given")
	}
	o.defaults()
	u := &Upkeep{o: o, packing: make(turn, 1), ridding: make(turn, 1), looking: make(turn, 1), tiering: make(turn, 1), queue: newQueue(), started: o.Clock.Now()}
	u.pace = pacer{clock: o.Clock, rate: o.Rate}
	u.promoting = pacer{clock: o.Clock, rate: o.Tiering.PromoteRate}
	u.gather = gatherer{bytes: o.GatherBytes, longest: o.GatherTime, lull: 2 * o.GCEvery, began: u.started, tiers: make(map[string]*gathered)}
	u.tier = tierState{kick: make(chan struct{}, 1), room: make(map[string]bool), rest: make(map[fsapi.DriveID]*rest)}
	return u, nil
}

// turn lets one step of a kind run at a time.
type turn chan struct{}

// take waits for the turn; give it back with the result.
func (t turn) take(ctx context.Context) (give func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for another upkeep step")
	}
}

// Run does the steps as they fall due until ctx ends. A step that fails is
// logged and tried again when it is due next.
func (u *Upkeep) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, jobs := range u.jobs() {
		wg.Go(func() { u.loop(ctx, jobs) })
	}
	wg.Go(func() { u.runQueue(ctx) })
	wg.Go(func() { u.runTiering(ctx) })
	wg.Wait()
}

// job is a step of Run.
type job struct {
	name  string
	every time.Duration
	last  time.Time
	do    func(context.Context) error
}

// jobs are the steps of each goroutine.
func (u *Upkeep) jobs() [][]job {
	return [][]job{{
		{name: "pack a large journal", every: u.o.Tick, do: u.packLarge},
		{name: "pack an old journal", every: u.o.JournalAge, do: func(ctx context.Context) error { _, err := u.Pack(ctx); return err }},
	}, {
		{name: "gc", every: u.o.GCEvery, do: func(ctx context.Context) error { _, err := u.gc(ctx, GCOptions{}, false); return err }},
		{name: "re-encryption", every: u.o.GCEvery, do: func(ctx context.Context) error { return u.Reencrypt(ctx, u.aWhile(), false) }},
		{name: "orphan sweep", every: u.o.OrphanEvery, do: func(ctx context.Context) error { _, err := u.SweepOrphans(ctx, GCOptions{}); return err }},
	}, {
		{name: "scrub", every: u.o.ScrubEvery, do: func(ctx context.Context) error { _, err := u.Scrub(ctx, false); return err }},
		{name: "deep scrub", every: u.o.DeepEvery, do: func(ctx context.Context) error { _, err := u.Scrub(ctx, true); return err }},
	}}
}

// aWhile is how many bytes re-encryption may take on before gc is due again.
func (u *Upkeep) aWhile() int64 {
	if u.o.Rate < 0 {
		return 1 << 40
	}
	return max(int64(float64(u.o.Rate)*u.o.GCEvery.Seconds()), u.o.BatchBytes)
}

func (u *Upkeep) loop(ctx context.Context, jobs []job) {
	for i := range jobs {
		jobs[i].last = u.o.Clock.Now()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.o.Clock.After(u.o.Tick):
		}
		for i := range jobs {
			u.runDue(ctx, &jobs[i])
		}
	}
}

func (u *Upkeep) runDue(ctx context.Context, j *job) {
	now := u.o.Clock.Now()
	if age := now.Sub(j.last); age >= 0 && age < j.every || ctx.Err() != nil {
		return
	}
	j.last = now
	if err := j.do(ctx); err != nil && ctx.Err() == nil {
		u.o.Log.Error("an upkeep step failed; it is tried again when it is due", "step", j.name, "err", err)
	}
}
