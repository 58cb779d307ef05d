package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/object"
	objmem "github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// prefixes start the names of what drives hold of segments.
var prefixes = []string{blob.SegmentPrefix, blob.ShardPrefix}

var objectAlways object.Condition

// world is one seed's.
type world struct {
	ctx  context.Context
	seed uint64
	rng  *rand.Rand

	options  stack.Options
	policies []policy.Copies // that there are drives for
	keys     *keys
	nextID   fsapi.DriveID
	places   []*place

	disk  *osfs.Mem
	fault *osfs.Fault
	// ledger has the metadata; nil: it is on the disk.
	ledger *ledger
	life   *life
	s      *stack.Stack
	cut    *cut // a kill that is due

	outage atomic.Pointer[outage] // of the disk of the log, while there is one

	tickets atomic.Int64
	clients []*workload.Client
	snaps   map[string][]workload.Tree // by client
	copies  map[string]workload.Tree   // made from snapshots, by their name in the root
	made    int                        // snapshots and copies
	bad     map[part][]byte            // what was done to parts, until they are as they should be
	seen    map[fsapi.SegmentID]bool

	steps int
	trace []string
	calls *calls

	collects  bool // garbage is collected by the world only
	collected int  // calls when it was last
}

// part is what one drive holds of one segment.
type part struct {
	on   fsapi.DriveID
	name string
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (w *world) chance(oneIn int) bool { return w.rng.IntN(oneIn) == 0 }

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%4d  ", w.steps)+fmt.Sprintf(format, args...))
}

// newWorld chooses what a store is built of: every bound so small that it is met.
// timely says that a bubble's time passes while locks are waited for.
func newWorld(ctx context.Context, seed uint64, timely bool, all *calls) (*world, error) {
	r := rand.New(rand.NewPCG(seed, 21))
	w := &world{
		ctx: ctx, seed: seed, rng: r, nextID: 0x100, snaps: map[string][]workload.Tree{}, copies: map[string]workload.Tree{},
		bad: map[part][]byte{}, seen: map[fsapi.SegmentID]bool{}, disk: osfs.NewMem(osfs.MemOptions{}),
		calls: all,
	}
	w.keys = &keys{seed: seed, cipher: pick(r, []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20}), first: 1, last: 1}
	warm := pick(r, []int{4, 8, 8, 16})
	for _, t := range []struct {
		tier string
		n    int
	}{{"hot", 4}, {"warm", warm}, {"cold", 3}} {
		for range t.n {
			w.addPlace(t.tier)
		}
	}
	for _, p := range w.places {
		if err := p.create(w.disk); err != nil {
			return nil, err
		}
	}
	w.choosePolicies(warm)
	w.choose(r)
	if l := rand.New(rand.NewPCG(seed, 22)); l.IntN(3) == 0 {
		w.ledger = newLedger(l, seed, timely)
		w.options.OpenEngine = w.openEngine
	}
	return w, nil
}

// addPlace makes a place that is no drive yet: of tier cold a bucket.
func (w *world) addPlace(tier string) *place {
	p := &place{id: w.nextID, tier: tier, seed: w.seed, room: 128 << 20}
	w.nextID++
	if tier == "cold" {
		p.bucket = objmem.New(objmem.Options{Name: p.String(), Whole: 4 * partSize * int64(p.id%2)})
	}
	w.places = append(w.places, p)
	return p
}

func (w *world) choosePolicies(warm int) {
	list := []string{
		"hot:2", "hot:3", "hot:2:min=2", "hot:3:min=1", "warm:2+1", "warm:2+1:min=3", "hot:1:evictable,cold:1", "hot:1:evictable=10m,cold:2",
		"hot:2:evictable,warm:2+1", "hot:1,cold:1",
	}
	if warm >= 8 {
		list = append(list, "warm:4+2", "warm:4+2", "warm:4+2:min=5", "hot:1:evictable,warm:4+2", "hot:2,warm:4+2,cold:1")
	}
	if warm >= 16 {
		list = append(list, "warm:10+4", "warm:10+4", "warm:10+4:min=11", "hot:1:evictable,warm:10+4")
	}
	for _, text := range list {
		p, err := policy.Parse("copies=" + text)
		if err != nil {
			panic(err)
		}
		w.policies = append(w.policies, p.Copies)
	}
}

// choose draws the options of the layers.
func (w *world) choose(r *rand.Rand) {
	chunking := pick(r, []policy.Chunking{{Min: 512, Avg: 4096, Max: 16384}, {Fixed: 4096}, {Fixed: 65536}, {}})
	journal := pick(r, []int{1 << 10, 16 << 10, 512 << 10})
	segment := pick(r, []int64{32 << 10, 128 << 10, 1 << 20})
	memtable := pick(r, []int64{64 << 10, 256 << 10})
	batch := pick(r, []int64{64 << 10, 4 << 20})
	inline := pick(r, []int{0, 0, -1})
	w.options = stack.Options{
		Dir: "/strake", Cipher: w.keys.cipher,
		Policy:        policy.Policy{Chunking: chunking, Compression: pick(r, []policy.Compression{"auto", "none", "s2"}), Copies: pick(r, w.policies)},
		NewKeys:       func(osfs.FS) (blob.Keys, error) { return w.keys, nil },
		OpenDrives:    w.openDrives,
		PebbleOptions: func(o *pebble.Options) { o.MemTableBytes, o.Rand = memtable, w.jitter },
		BlobOptions: func(o *blob.Options) {
			o.SegmentBytes, o.JournalMax, o.CacheBytes, o.Workers, o.Prefetch = segment, journal, 128<<10, 1, -1
			o.Rand = w.ids()
		},
		UpkeepOptions: func(o *upkeep.Options) {
			o.BatchBytes, o.Copiers, o.Jobs, o.Keys, o.Rate, o.Tiering.PromoteRate = batch, 1, 1, w.keys, -1, -1
			o.Tiering.Marks, o.Tiering.MinAge = upkeep.Watermarks{High: 0.05, Low: 0.01}, time.Minute
			o.RepairAfter, o.GatherBytes = 10*time.Minute, 1<<20
			o.Clock, o.Rand = lazy{}, w.jitter
		},
		VFSOptions: func(o *vfs.Options) {
			o.DirtyMax, o.InlineMax, o.Segment, o.Nodes = 8<<20, inline, max(segment, 128<<10), 30
		},
	}
	if r.IntN(4) == 0 {
		w.options.Policy.Trash = 1000 * time.Hour // longer than a life: nobody but clients empties it
	}
}

// jitter is chance for retries, by when they are made.
func (w *world) jitter(n int64) int64 {
	return rand.New(rand.NewPCG(w.seed, uint64(time.Now().UnixNano()))).Int64N(n)
}

// lazy is the clock of a bubble on which nothing is looked at several times a
// second: that nothing happened costs a campaign most of its time.
type lazy struct{}

func (lazy) Now() time.Time { return time.Now() }

func (lazy) After(d time.Duration) <-chan time.Time { return time.After(max(d, 2*time.Second)) }

// ids is where segments' ids come from: another stream in each life.
func (w *world) ids() io.Reader {
	var key [32]byte
	copy(key[:], w.keys.derive("ids", w.rng.Uint64()))
	return &locked{r: rand.NewChaCha8(key)}
}

type locked struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (l *locked) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// luck decides between drives, by what is wanted and when.
func (w *world) luck(wish *blob.Wish, id fsapi.DriveID) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, time.Now().UnixNano(), wish.Tier, wish.Size, wish.Avoid, wish.Beside, id)
	return rand.New(rand.NewPCG(h.Sum64(), 1)).Float64()
}

// openDrives opens what answers. Upkeep is told of the rest by settle.
func (w *world) openDrives(set *blob.DriveSet) error {
	set.SetChance(w.luck)
	for _, p := range w.places {
		d, err := p.open(w.fault, w.life)
		if errors.Is(err, fsapi.NoDevice) {
			continue
		}
		if err != nil {
			p.say(w, "cannot be opened: %v", err)
			continue
		}
		if err := set.Add(w.guard(d)); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) say(w *world, format string, args ...any) {
	w.say("      drive %s %s", p, fmt.Sprintf(format, args...))
}

// place is the one with an id.
func (w *world) place(id fsapi.DriveID) *place {
	for _, p := range w.places {
		if p.id == id {
			return p
		}
	}
	return nil
}

// troubled reports whether anything may fail now.
func (w *world) troubled() bool {
	for _, p := range w.places {
		if !p.gone && (p.illness() != well || p.state() != drive.Online) {
			return true
		}
	}
	return false
}

// hurt reports whether anything stored is not as it should be, or cannot be
// stored.
func (w *world) hurt() bool {
	return len(w.bad) > 0 || w.outage.Load() != nil || w.foul() || w.troubled()
}

// tolerate says of an error of a client that what was done to drives may be why.
func (w *world) tolerate(err error) bool {
	if !w.hurt() {
		return false
	}
	switch fsapi.KindOf(err) {
	case fsapi.IO, fsapi.NoSpace, fsapi.NoDevice, fsapi.TimedOut, fsapi.Corrupt, fsapi.NotExist:
		return true
	}
	return false
}
