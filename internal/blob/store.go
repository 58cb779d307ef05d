package blob

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/blob/cache"
	"github.com/strakefs/strake/internal/blob/chunker"
	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/blob/slab"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Options of New. Index, Keys and Drives must be set; zero fields of the rest
// take the defaults named.
type Options struct {
	Index  Index
	Keys   Keys
	Drives Drives

	CacheBytes   int64 // decoded chunks kept in memory; 128 MiB
	SegmentBytes int64 // sealed bytes after which a segment is closed and the next begun; 64 MiB, at most 512 MiB
	JournalMax   int   // sealed bytes that one Auto batch may journal; 512 KiB
	InlineMax    int   // sealed bytes of an inline frame; 2048
	Workers      int   // goroutines that hash, compress or seal at a time; GOMAXPROCS
	GatherBytes  int64 // bytes of segments gathered to be written as shards, beyond one block for each batch; 256 MiB
	Prefetch     int64 // bytes of chunks being prefetched at one time; 32 MiB; negative: none

	Clock clock.Clock  // clock.Real
	Rand  io.Reader    // crypto/rand.Reader
	Log   *slog.Logger // discards

	// Admit, where set, is asked before a batch that is not rewritten data begins
	// a segment: it waits while too many copies are owed.
	Admit func(ctx context.Context) error

	// Heat, where set, counts the reads of segments: each chunk that comes from
	// one, and one in cacheSample of those that are found in the cache.
	Heat *heat.Table
	// NoRoom, where set, is told of a tier that a new segment should have gone
	// to and could not for lack of room. It must not block.
	NoRoom func(tier string)
	// Bad, where set, is told of each bad replica that a read met, after the
	// attempt to repair it. It must not block.
	Bad func(BadReplica)
}

// BadReplica is a replica or shard that could not be read or verified.
type BadReplica struct {
	Segment  fsapi.SegmentID
	Drive    fsapi.DriveID
	Shard    int // its index, where it is one
	Err      error
	Repaired bool
}

// Store is the one way to file bytes. Safe for concurrent use.
type Store struct {
	o       Options
	ids     segmentIDs
	journal journal
	keys    *keyCache
	codecs  *frame.Codecs
	pool    *slab.Pool
	cache   *cache.Cache
	loads   loads
	places  places
	coder   *erasure.Coder
	repairs repairs
	stats   counters

	versions versions

	cpu        chan struct{} // one token for each goroutine that computes
	images     chan struct{} // one token for each segment that is in memory to be copied
	gathered   atomic.Int64  // bytes of segments being gathered
	prefetches chan struct{} // one token for each prefetch under way

	ctx    context.Context // ends with Close; of goroutines that no caller waits for
	cancel context.CancelFunc
	wg     sync.WaitGroup // of those goroutines

	mu       sync.Mutex
	closed   bool                           // guarded by mu
	prefetch int64                          // bytes being prefetched; guarded by mu
	hashers  map[fsapi.VolumeID]*hasher     // guarded by mu
	cutters  map[cutterName]*chunker.Cutter // guarded by mu
}

type cutterName struct {
	volume   fsapi.VolumeID
	chunking policy.Chunking
}

// maxImages is how many segments are in memory to be copied at a time.
const maxImages = 2

// maxCutters bounds the cutters kept, of 2 KiB each.
const maxCutters = 256

// New makes a store. Close it.
func New(o Options) (*Store, error) {
	if o.Index == nil || o.Keys == nil || o.Drives == nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "blob: Index, Keys and Drives must be given")
	}
	o.defaults()
	if o.SegmentBytes > segment.MaxSize/2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "blob: segments of %d bytes: want at most %d", o.SegmentBytes, segment.MaxSize/2)
	}
	codecs, err := frame.NewCodecs(o.Workers)
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: o, keys: newKeyCache(o.Keys), codecs: codecs, pool: &slab.Pool{},
		cpu: make(chan struct{}, o.Workers), images: make(chan struct{}, maxImages), coder: erasure.New(erasure.Config{Workers: o.Workers}), prefetches: make(chan struct{}, maxPrefetches),
		hashers: make(map[fsapi.VolumeID]*hasher), cutters: make(map[cutterName]*chunker.Cutter),
	}
	s.ids.clock, s.ids.rand, s.ids.made = o.Clock, o.Rand, make(map[fsapi.SegmentID]time.Time)
	s.journal.ids = &s.ids
	s.cache = cache.New(o.CacheBytes, s.pool)
	s.loads.m = make(map[cache.Key]*load)
	s.places.m = make(map[fsapi.SegmentID]*where)
	s.versions.open, s.versions.last = make(map[versionName]int), make(map[versionName]time.Time)
	s.repairs.busy = make(map[BadName]bool)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (o *Options) defaults() {
	orDefault(&o.CacheBytes, 128<<20)
	orDefault(&o.SegmentBytes, 64<<20)
	orDefault(&o.JournalMax, 512<<10)
	orDefault(&o.InlineMax, 2048)
	orDefault(&o.Workers, runtime.GOMAXPROCS(0))
	orDefault(&o.GatherBytes, 256<<20)
	orDefault(&o.Prefetch, 32<<20)
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Close ends what goes on in the background and drops the caches. Batches in
// progress fail with fsapi.Closed. The drives are not closed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.cache.Clear()
	s.codecs.Close()
	return nil
}

func closed(what string) error {
	return fsapi.Errorf(fsapi.Closed, "%s: the store is closed", what)
}

// background runs fn in a goroutine that Close waits for; false after Close.
func (s *Store) background(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(fn)
	return true
}

// Options are the store's, with defaults filled in.
func (s *Store) Options() Options { return s.o }

// DropCaches forgets all decoded chunks.
func (s *Store) DropCaches() { s.cache.Clear() }

// hasher is the hasher of a volume.
func (s *Store) hasher(vol fsapi.VolumeID) (*hasher, error) {
	s.mu.Lock()
	h := s.hashers[vol]
	s.mu.Unlock()
	if h != nil {
		return h, nil
	}
	key, err := s.o.Keys.IDKey(vol)
	if err != nil {
		return nil, err
	}
	h = newHasher(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashers[vol] = h
	return h, nil
}

// cutter is the cutter of a volume for a chunking.
func (s *Store) cutter(vol fsapi.VolumeID, c policy.Chunking) (*chunker.Cutter, error) {
	n := cutterName{vol, c}
	s.mu.Lock()
	k := s.cutters[n]
	s.mu.Unlock()
	if k != nil {
		return k, nil
	}
	key, err := s.o.Keys.IDKey(vol)
	if err != nil {
		return nil, err
	}
	if k, err = chunker.New(c, key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cutters) >= maxCutters {
		clear(s.cutters)
	}
	s.cutters[n] = k
	return k, nil
}
