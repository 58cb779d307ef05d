package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// configure chooses how the store of a history is built: every bound so small
// that it is met. The same seed gives the same store.
func configure(seed uint64) stack.Options {
	r := rand.New(rand.NewPCG(seed, 77))
	o := stack.Options{
		Drives:  1 + r.IntN(3),
		Cipher:  pick(r, []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20}),
		Keyring: r.IntN(3) == 0,
		Policy: policy.Policy{
			Chunking:    pick(r, []policy.Chunking{{Min: 512, Avg: 4096, Max: 16384}, {Fixed: 4096}, {Fixed: 65536}, {}}),
			Compression: pick(r, []policy.Compression{"auto", "none", "s2", "zstd-3"}),
		},
	}
	if o.Drives > 1 && r.IntN(2) == 0 {
		o.Policy.Copies = []policy.Copy{{Tier: "hot", Replicas: 2}}
	}
	if r.IntN(3) == 0 {
		o.Policy.Trash = 24 * time.Hour
	}
	journal := pick(r, []int{1 << 10, 16 << 10, 512 << 10})
	segment := pick(r, []int64{64 << 10, 256 << 10, 4 << 20})
	memtable := pick(r, []int64{64 << 10, 256 << 10, 1 << 20})
	age := pick(r, []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Second})
	dirty := pick(r, []int64{256 << 10, 4 << 20, 256 << 20})
	inline := pick(r, []int{0, 0, -1})
	batch := pick(r, []int64{64 << 10, 4 << 20})
	o.PebbleOptions = func(p *pebble.Options) { p.MemTableBytes = memtable }
	o.BlobOptions = func(b *blob.Options) {
		b.SegmentBytes, b.JournalMax, b.CacheBytes = segment, journal, 256<<10
	}
	o.UpkeepOptions = func(u *upkeep.Options) { u.BatchBytes = batch }
	o.VFSOptions = func(v *vfs.Options) {
		v.FlushAge, v.DirtyMax, v.InlineMax, v.Segment, v.Nodes = age, dirty, inline, max(segment, 128<<10), 30
	}
	return o
}

// point is a clone of the disk, and what was known when it was taken.
type point struct {
	n      int
	disk   *osfs.Mem
	before int64 // ticket: what was done by then was done
	after  int64 // ticket: what had not begun by then had not begun
	at     osfs.Call
}

// history is one run of clients over one store, with the clones taken of it.
type history struct {
	seed    uint64
	options stack.Options
	s       *stack.Stack
	ships   *checkpoint.Shipper
	faults  *faults // nil: none
	clients []*workload.Client
	tickets atomic.Int64
	kick    chan struct{} // a client has done something
	full    chan struct{} // closed when all points are taken

	mu     sync.Mutex
	rng    *rand.Rand
	want   int
	calls  int
	next   int
	stride int
	points []point
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// clientsOf is how many clients a history has: mostly one, whose names can be
// told exactly.
func clientsOf(seed uint64) int {
	if seed%2 == 0 {
		return 1
	}
	return 2 + int(seed/2%3)
}

// play runs a history until enough points are taken, with faults if they are
// given.
func play(ctx context.Context, seed uint64, points int, f *faults) (*history, error) {
	h, disk, fault, err := begin(seed, f)
	if err != nil {
		return nil, err
	}
	h.want = points
	if err := h.populate(ctx); err != nil {
		return nil, errors.Join(err, h.s.Close())
	}
	h.next = h.rng.IntN(h.stride)
	fault.SetRule(h.rule(disk))
	err = h.run(ctx)
	if f != nil {
		f.end()
		err = errors.Join(err, h.settle(ctx))
	}
	// Ending is something that the power can be cut in, too.
	err = errors.Join(err, h.s.Close())
	fault.SetRule(nil)
	return h, err
}

// begin opens the store of a history over a disk, with a place for faults.
func begin(seed uint64, f *faults) (*history, *osfs.Mem, *osfs.Fault, error) {
	h := &history{
		seed: seed, options: configure(seed), faults: f, kick: make(chan struct{}, 100), full: make(chan struct{}),
		rng: rand.New(rand.NewPCG(seed, 1)),
	}
	h.stride = 10 << h.rng.IntN(8)
	if f != nil {
		h.stride = 200 // so that there is time to fail
		f.configure(&h.options)
	}
	disk := osfs.NewMem(osfs.MemOptions{})
	fault := osfs.NewFault(disk, nil)
	h.options.FS = fault
	var err error
	if h.s, err = stack.Open(h.options); err != nil {
		return nil, nil, nil, err
	}
	if h.ships, err = shipper(h.s); err != nil {
		return nil, nil, nil, errors.Join(err, h.s.Close())
	}
	return h, disk, fault, nil
}

func shipper(s *stack.Stack) (*checkpoint.Shipper, error) {
	return checkpoint.New(checkpoint.Options{
		Engine: s.KV, Drives: s.Set.All, Key: s.Keys.StoreKey(), IsCounter: meta.IsCounter, GroupBytes: 64 << 10, CheckpointBytes: 256 << 10,
	})
}

// populate makes the clients and their directories.
func (h *history) populate(ctx context.Context) error {
	a, err := h.s.Local.Mknod(ctx, fsapi.Root, fsapi.RootIno, workload.SharedName, vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		return err
	}
	for id := range clientsOf(h.seed) {
		o := workload.Options{ID: id, Seed: h.seed, Shared: a.Ino, Tickets: &h.tickets, Trash: h.options.Policy.Trash > 0}
		c, err := workload.New(ctx, h.s.Local, o)
		if err != nil {
			return err
		}
		if h.faults != nil {
			c.Tolerate = h.faults.caused
		}
		h.clients = append(h.clients, c)
	}
	return h.s.Local.Syncfs(ctx)
}

// rule takes a clone now and then, within whatever call comes by.
func (h *history) rule(disk *osfs.Mem) osfs.Rule {
	return func(c osfs.Call) osfs.Outcome {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls++
		if h.calls <= h.next || len(h.points) >= h.want {
			return h.faults.below(c)
		}
		h.next = h.calls + h.rng.IntN(2*h.stride)
		p := point{n: len(h.points), at: c, before: h.tickets.Load()}
		p.disk = disk.CrashClone(h.rng, osfs.AnyCrash(h.rng))
		p.after = h.tickets.Load()
		h.points = append(h.points, p)
		if len(h.points) == h.want {
			close(h.full)
		}
		return h.faults.below(c)
	}
}

// maxSteps bounds the operations of one client, where points are slow to come.
const maxSteps = 3000

// run has the clients work until all but the last points are taken, which are
// left for the end.
func (h *history) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(h.clients)+1)
	done := make(chan struct{})
	wg.Go(func() { errs[len(h.clients)] = h.upkeep(ctx, done) })
	var work sync.WaitGroup
	for i, c := range h.clients {
		work.Go(func() {
			for range maxSteps {
				select {
				case <-h.full:
					return
				default:
				}
				if errs[i] = c.Step(); errs[i] != nil {
					return
				}
				select {
				case h.kick <- struct{}{}:
				default:
				}
			}
		})
	}
	work.Wait()
	close(done)
	wg.Wait()
	return errors.Join(errs...)
}

// upkeep does some work of upkeep after every few operations of the clients.
func (h *history) upkeep(ctx context.Context, done <-chan struct{}) error {
	r := rand.New(rand.NewPCG(h.seed, 99))
	for {
		for range 1 + r.IntN(15) {
			select {
			case <-done:
				return nil
			case <-h.kick:
			}
		}
		err := h.upkeepStep(ctx, r.IntN(10))
		if err != nil && (h.faults == nil || !h.faults.caused(err)) {
			return err
		}
	}
}

func (h *history) upkeepStep(ctx context.Context, n int) (err error) {
	var what string
	switch n {
	case 0, 1, 2:
		what = "pack"
		_, err = h.s.Upkeep.Pack(ctx)
	case 3, 4, 5:
		what = "gc"
		_, err = h.s.Upkeep.GC(ctx, upkeep.GCOptions{Now: true})
	case 6:
		what = "compact"
		_, err = h.s.Upkeep.Compact(ctx, true)
	case 7:
		what = "checkpoint"
		err = h.ships.Flush(ctx)
	case 8:
		what = "drop caches"
		err = h.s.Local.DropCaches(ctx)
	case 9:
		what = "scrub"
		_, err = h.s.Upkeep.Scrub(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("upkeep: %s: %w", what, err)
	}
	return nil
}
