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
// Work that may take long is done by jobs, which package job keeps on record: it
// has a cursor, goes on after a restart, and can be seen, paused and cancelled.
// Short steps fall due again and again and are not on record.
//
// Run has six goroutines, which it waits for: one packs, one sweeps, deletes
// and encrypts anew, one evicts and promotes, one looks through what is pending and has up to Copiers
// others write it, one starts jobs when they are due or a drive's state calls
// for them, and one runs jobs, each in a goroutine of its own; a job that moves
// segments has up to Copiers others while it does, and what rewrites data has as
// many. Packing, compacting, getting rid of things, tiering, scrubbing and encrypting
// anew have a turn each, which a step or job of that kind holds while it works. Turns
// are never held together, but that encrypting anew packs and compacts. The lock
// order is
//
//	the turn of encrypting anew
//	 a turn
//	  a claim on a segment    see claims; two are never held together
//	    pacers, queue, watch, wanted room, gathered writes, job.Runner    leaves
package upkeep

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// Meta is the metadata upkeep works on; *meta.Store is one.
type Meta interface {
	Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error)
	Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error)
	Segments(ctx context.Context, after fsapi.SegmentID, fn func(meta.SegmentUse) bool) error
	Volumes(ctx context.Context) ([]meta.Volume, error)
	AcksRemote(ctx context.Context, vol fsapi.VolumeID) (bool, error)
	VolumePolicy(ctx context.Context, id fsapi.VolumeID) (policy.Policy, error)
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
	Referred(ctx context.Context, segments map[fsapi.SegmentID]bool) (map[fsapi.SegmentID]string, error)
	EachJournalFrame(ctx context.Context, vol fsapi.VolumeID, fn func(frame []byte) bool) error
	InlineFrames(ctx context.Context, vol fsapi.VolumeID, after meta.InlineAt, look int) (list []meta.Inline, next meta.InlineAt, more bool, err error)
	ReplaceInline(ctx context.Context, vol fsapi.VolumeID, list []meta.Inline) (int, error)
	FramesKnown(ctx context.Context) error
	Setting(ctx context.Context, name string) ([]byte, error)
	PutSetting(ctx context.Context, name string, value []byte) error
	DeleteSetting(ctx context.Context, name string) error
	Settings(ctx context.Context, prefix string, fn func(name string, value []byte) bool) error
	Drives(ctx context.Context) ([]meta.DriveRecord, error)
	UniformCopies(ctx context.Context, vol fsapi.VolumeID) (copies []fsapi.CopySpec, ok bool, err error)
	FilesBelow(ctx context.Context, vol fsapi.VolumeID, top fsapi.Ino, after []byte, fn func(meta.FileWant) error) error
	FileExtents(ctx context.Context, vol fsapi.VolumeID, ino fsapi.Ino, fn func([]fsapi.Extent) error) error
	ChunkRefs(ctx context.Context, vol fsapi.VolumeID, ids []fsapi.ChunkID) ([]meta.ChunkRefs, error)
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
	// Settle stores what was written in a volume before; nil: all is stored.
	Settle func(ctx context.Context, vol fsapi.VolumeID) error
	// Moves counts how often files and directories of a volume moved to another
	// directory, since it was opened; nil: none does.
	Moves func(vol fsapi.VolumeID) uint64

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
	OrphanEvery time.Duration // between orphan sweeps; 24 hours; negative: never
	ScrubEvery  time.Duration // between shallow scrubs; 24 hours; negative: never
	DeepEvery   time.Duration // between deep scrubs; 30 days; negative: never
	RepairAfter time.Duration // for which a drive is offline before all it held is made anew; 1 hour; negative: never
	Rate        int64         // bytes per second that jobs read; 64 MiB; negative: no limit
	Jobs        int           // that run at a time, urgent ones aside; 2

	Tiering Tiering

	// Rand jitters retries: a number below n. Nil is the runtime's source. It may
	// be called concurrently.
	Rand func(n int64) int64

	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards
}

func (o *Options) defaults() {
	for p, d := range map[*time.Duration]time.Duration{
		&o.Delay: 10 * time.Minute, &o.OrphanDelay: time.Hour, &o.JournalAge: 5 * time.Minute, &o.Tick: 2 * time.Second,
		&o.GatherTime: time.Hour, &o.GCEvery: time.Minute, &o.OrphanEvery: 24 * time.Hour, &o.ScrubEvery: 24 * time.Hour, &o.DeepEvery: 30 * 24 * time.Hour,
		&o.RepairAfter: time.Hour,
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
	for p, d := range map[*int]int{&o.Copiers: 4, &o.MaxPending: 200_000, &o.Jobs: 2} {
		if *p == 0 {
			*p = d
		}
	}
	o.Tiering.defaults()
	if o.LiveRatio == 0 {
		o.LiveRatio = 0.5
	}
	if o.Rand == nil {
		o.Rand = rand.Int64N
	}
	if o.Settle == nil {
		o.Settle = func(context.Context, fsapi.VolumeID) error { return nil }
	}
	if o.Moves == nil {
		o.Moves = func(fsapi.VolumeID) uint64 { return 0 }
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
	o          Options
	packing    turn // Pack
	compacting turn // Compact
	ridding    turn // Sweep, Collect, SweepOrphans
	looking    turn // Scrub
	rekeying   turn // Reencrypt; before packing and compacting
	tiering    turn // TierOnce
	pace       *pacer
	queue      *queue
	claims     *claims
	watch      *watch
	runner     *job.Runner
	tier       tierState
	gather     gatherer
	started    time.Time
	journal    int64        // bytes in the journal when packLarge looked; its own
	kept       time.Time    // when packAgain packed last; its own
	keeping    atomic.Bool  // frames stay in the journal, or are about to be made sure
	full       atomic.Bool  // so many that writers wait
	futile     atomic.Int64 // when a compaction last achieved nothing, in Unix nanoseconds
	count      counters

	promoting *pacer // of promotions
}

// New makes an upkeep, which does nothing by itself: see Run.
func New(o Options) (*Upkeep, error) {
	if o.Store == nil || o.Meta == nil || o.Drives == nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "upkeep: Store, Meta and Drives must be given")
	}
	o.defaults()
	u := &Upkeep{
		o: o, packing: make(turn, 1), compacting: make(turn, 1), ridding: make(turn, 1), looking: make(turn, 1), rekeying: make(turn, 1), tiering: make(turn, 1), pace: newPacer(o.Clock, o.Rate),
		queue: newQueue(), claims: newClaims(), watch: newWatch(), started: o.Clock.Now(), promoting: newPacer(o.Clock, o.Tiering.PromoteRate),
	}
	u.gather = gatherer{bytes: o.GatherBytes, longest: o.GatherTime, lull: 2 * o.GCEvery, began: u.started, tiers: make(map[string]*gathered)}
	u.tier = tierState{kick: make(chan struct{}, 1), room: make(map[string]bool), rest: make(map[fsapi.DriveID]*rest)}
	var err error
	u.runner, err = job.New(job.Options{Store: o.Meta, Kinds: u.kinds(), Running: o.Jobs, Clock: o.Clock, Log: o.Log})
	return u, err
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

// Run does the steps as they fall due and runs jobs until ctx ends. A step that
// fails is logged and tried again when it is due next.
func (u *Upkeep) Run(ctx context.Context) {
	ctx = drive.Background(ctx)
	var wg sync.WaitGroup
	for _, steps := range u.steps() {
		wg.Go(func() { u.loop(ctx, steps) })
	}
	wg.Go(func() { u.runQueue(ctx) })
	wg.Go(func() { u.runTiering(ctx) })
	wg.Go(func() { u.runWatch(ctx) })
	wg.Go(func() { u.runner.Run(ctx) })
	wg.Wait()
}

// step is something that Run does again and again.
type step struct {
	name  string
	every time.Duration
	last  time.Time
	do    func(context.Context) error
	said  string // the error of the last time; "" where it went well
}

// steps are those of each goroutine.
func (u *Upkeep) steps() [][]step {
	return [][]step{{
		{name: "pack a large journal", every: u.o.Tick, do: u.packLarge},
		{name: "pack an old journal", every: u.o.JournalAge, do: u.packAgain},
	}, {
		{name: "gc", every: u.o.GCEvery, do: u.tidy},
		{name: "re-encryption", every: u.o.GCEvery, do: u.rekey},
	}}
}

func (u *Upkeep) loop(ctx context.Context, steps []step) {
	for i := range steps {
		steps[i].last = u.o.Clock.Now()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.o.Clock.After(u.o.Tick):
		}
		for i := range steps {
			u.runDue(ctx, &steps[i])
		}
	}
}

func (u *Upkeep) runDue(ctx context.Context, s *step) {
	now := u.o.Clock.Now()
	if age := now.Sub(s.last); age >= 0 && age < s.every || ctx.Err() != nil {
		return
	}
	s.last = now
	err := s.do(ctx)
	if ctx.Err() == nil {
		s.said = u.say(s.said, err, "an upkeep step failed; it is tried again when it is due", "step", s.name)
	}
}

// say logs an error that was not said the last time, and that it is over. It is
// what to call it with the next time.
func (u *Upkeep) say(said string, err error, msg string, args ...any) string {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now == said:
	case err != nil:
		u.o.Log.Error(msg, append(args, "err", err)...)
	default:
		u.o.Log.Info("what failed goes well again", append(args, "failed", said)...)
	}
	return now
}
