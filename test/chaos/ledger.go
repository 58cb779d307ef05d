package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/lawful"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/object"
	objmem "github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// ledger is the bucket that has the metadata, in lives that keep all state in one,
// and what the machine caches of it.
type ledger struct {
	bucket  *objmem.Bucket
	disk    *osfs.Mem // of the machine
	seed    uint64
	timely  bool           // requests may take time
	options bucket.Options // sizes and times
	pace    time.Duration  // what a request takes when all is well, at most
	weather atomic.Pointer[weather]

	engine *bucket.Engine // of the present life
	// fork is set while another process takes over: its directories become its own,
	// as they are once it owns the metadata. What the first has put on record by then
	// is in them, for it goes there first.
	fork  *rand.Rand
	opens int // how many were begun
}

// cacheDir is of the engine, on the machine's disk.
const cacheDir = "/cache"

func newLedger(r *rand.Rand, seed uint64, timely bool) *ledger {
	g := &ledger{bucket: objmem.New(objmem.Options{Name: "metadata", Page: 20}), disk: osfs.NewMem(osfs.MemOptions{}), seed: seed, timely: timely}
	g.options = bucket.Options{
		Dir: cacheDir, Holder: "a life",
		DiskBytes:       pick(r, []int64{70 << 10, 300 << 10, 4 << 20}),
		CacheBytes:      pick(r, []int64{16 << 10, 1 << 20}),
		MemTableBytes:   pick(r, []int64{64 << 10, 256 << 10}),
		PendingBytes:    pick(r, []int64{4 << 10, 64 << 10, 1 << 20}),
		ObjectBytes:     pick(r, []int64{1 << 10, 16 << 10, 256 << 10}),
		CheckpointBytes: pick(r, []int64{8 << 10, 64 << 10, 512 << 10}), CheckpointObjects: pick(r, []int64{3, 10, 100}),
		ReadTimeout: pick(r, []time.Duration{2 * time.Second, 20 * time.Second}),
		FenceCheck:  pick(r, []time.Duration{time.Minute, 10 * time.Minute}),
		GarbageAge:  pick(r, []time.Duration{-1, time.Millisecond, time.Minute, time.Hour}),
	}
	if timely {
		g.pace = pick(r, []time.Duration{0, 10 * time.Millisecond, 300 * time.Millisecond})
	}
	return g
}

// weather is what requests to the bucket of the metadata meet for a while.
type weather struct {
	kind  sky
	cache syscall.Errno // what some changes of the machine's disk fail with, too; 0: none do
	until time.Time     // it is over then

	mu   sync.Mutex
	left int // requests that it lasts for, at most; guarded by mu
	hits int // that it had a part in; guarded by mu
}

type sky int

const (
	silent   sky = iota // nothing answers, or says that it cannot
	sluggish            // all takes long
	doubtful            // what became of a request stays open, often
	mixed               // any of these
	skies
)

func (s sky) String() string { return [...]string{"silent", "sluggish", "doubtful", "mixed"}[s] }

func (g *ledger) newWeather(r *rand.Rand) *weather {
	x := &weather{kind: sky(r.IntN(int(skies))), left: 1 + r.IntN(pick(r, []int{3, 30, 300}))}
	if r.IntN(3) == 0 {
		x.cache = pick(r, []syscall.Errno{syscall.ENOSPC, syscall.EIO})
	}
	if g.timely {
		x.left = 1 << 30
		x.until = time.Now().Add(time.Duration(1+r.IntN(60)) * pick(r, []time.Duration{time.Second, 10 * time.Second, time.Minute}))
	}
	return x
}

// hit says whether the weather is one for a request.
func (x *weather) hit(timely bool) bool {
	if x == nil || timely && !time.Now().Before(x.until) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.left == 0 {
		return false
	}
	x.left--
	x.hits++
	return true
}

// machine is the disk of the cache in a life.
func (g *ledger) machine(l *life) osfs.FS {
	return osfs.NewFault(g.disk, l.all.file(func(c osfs.Call) (o osfs.Outcome) {
		switch c.Op {
		case osfs.OpWrite, osfs.OpOpen, osfs.OpRename, osfs.OpRemove, osfs.OpTruncate:
		default:
			return o
		}
		x := g.weather.Load()
		if x != nil && x.cache == syscall.ENOSPC && c.Op == osfs.OpRemove {
			return o // room is never needed for that, and the disk would grow and grow
		}
		if x != nil && x.cache != 0 && l.chance(g.seed, 3, c.Op, c.Name) == 0 && x.hit(g.timely) {
			o.Err, o.Short = x.cache, l.chance(g.seed, c.Len+1, "short", c.Name)
		}
		return o
	}))
}

// strayMost is the longest that a request is on its way for which nobody waits.
const strayMost = 5 * time.Minute

// fate of a request of a process.
func (g *ledger) fate(l *life, r objmem.Request) (f fate) {
	chance := func(n int, what string) int { return l.chance(g.seed, n, what, r.Op, r.Key) }
	some := func(most time.Duration, what string) time.Duration {
		if most == 0 {
			return 0
		}
		return time.Duration(chance(int(most/time.Microsecond), what)) * time.Microsecond
	}
	f.wait = some(g.pace, "pace")
	switch chance(3, "stray") {
	case 0:
		f.stray = 1 + some(50*time.Millisecond, "near")
	case 1:
		f.stray = 1 + some(strayMost, "far")
	}
	x := g.weather.Load()
	if !x.hit(g.timely) {
		return f
	}
	kind := x.kind
	if kind == mixed {
		kind = sky(chance(int(mixed), "kind"))
	}
	switch kind {
	case silent:
		f.err = nth(chance(3, "why"), fsapi.Errorf(fsapi.IO, "the connection is refused"), fsapi.Errorf(fsapi.Busy, "too many requests"), fsapi.Errorf(fsapi.TimedOut, "no answer in time"))
		f.wait += some(3*time.Minute*time.Duration(chance(2, "hangs")), "hang")
		f.stray *= time.Duration(chance(2, "lost"))
	case sluggish:
		f.wait += some(nth(chance(3, "slow"), time.Second, 10*time.Second, 100*time.Second), "slowly")
	default:
		if chance(2, "falters") == 0 {
			f.err, f.late = fsapi.Errorf(fsapi.TimedOut, "no answer in time"), chance(3, "late") == 0
		}
	}
	if !g.timely {
		f.wait = 0
	}
	return f
}

// nth is one of a list, by its index.
func nth[T any](n int, list ...T) T { return list[n] }

// store is a process's store on the bucket.
func (g *ledger) store(l *life) (*provider.Store, error) {
	o := provider.Options{Retry: backoff.Policy{Attempts: 1}}
	if g.timely {
		o = provider.Options{Timeout: 30 * time.Second}
	}
	y := &way{Bucket: g.bucket, of: "metadata", seed: g.seed, life: l, asked: true}
	y.fate = func(r objmem.Request) fate { return g.fate(l, r) }
	return provider.New(y, o)
}

// hasty is the clock of a bubble whose time does not pass while locks are waited for:
// what is tried again is tried at once, though not for ever at one instant.
type hasty struct {
	mu   sync.Mutex
	at   time.Time // guarded by mu
	left int       // waits at that instant which end at once; guarded by mu
}

// Now implements clock.Clock.
func (*hasty) Now() time.Time { return time.Now() }

// After implements clock.Clock.
func (c *hasty) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now != c.at {
		c.at, c.left = now, 1000
	}
	if d > 15*time.Second || c.left == 0 {
		return time.After(d)
	}
	c.left--
	ended := make(chan time.Time, 1)
	ended <- c.at
	return ended
}

// openEngine opens the metadata for a life, on what the machine caches.
func (w *world) openEngine() (kv.Engine, error) {
	g := w.ledger
	st, err := g.store(w.life)
	if err != nil {
		return nil, err
	}
	g.opens++
	e, err := bucket.Open(w.ctx, w.engineOptions(st, g.machine(w.life)))
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	g.engine = e
	if g.fork != nil {
		w.disk = w.disk.CrashClone(g.fork, osfs.CrashKeep)
		w.fault = osfs.NewFault(w.disk, w.calls.file(nil))
		g.fork = nil
	}
	return &closing{e, st}, nil
}

func (w *world) engineOptions(st *provider.Store, disk osfs.FS) bucket.Options {
	g := w.ledger
	o := g.options
	o.Objects, o.Key, o.FS, o.Log = st, w.keys.StoreKey(), disk, w.options.Log
	o.Rand = w.jitter
	ids := w.ids()
	o.Random = func(p []byte) { _, _ = ids.Read(p) }
	if !g.timely {
		o.Clock = &hasty{}
	}
	return o
}

// closing is an engine that closes its store.
type closing struct {
	kv.Engine
	st *provider.Store
}

// Close implements kv.Engine.
func (c *closing) Close() error { return errors.Join(c.Engine.Close(), c.st.Close()) }

// guard keeps a process from deleting what is another's, where it can be replaced.
func (w *world) guard(d drive.Drive) drive.Drive {
	if w.ledger == nil {
		return d
	}
	return lawful.New(d, w.ledger.engine.CheckFence)
}

// cacheLeft is what is left of the machine's cache after a kill: of the machine, of
// the process, or of the power; and now and then something in it is wrong.
func (w *world) cacheLeft(r *rand.Rand) (*osfs.Mem, string, error) {
	disk, text := w.ledger.disk, "its cache as it was"
	switch r.IntN(4) {
	case 0:
		return osfs.NewMem(osfs.MemOptions{}), "an empty cache", nil
	case 1:
		disk, text = disk.CrashClone(r, osfs.AnyCrash(r)), "a torn cache"
	default:
		disk = disk.CrashClone(r, osfs.CrashKeep)
	}
	if r.IntN(2) == 0 {
		return disk, text, nil
	}
	return disk, text + ", rotten", rotten(r, disk, cacheDir)
}

// rotten flips bits in files below a directory.
func rotten(r *rand.Rand, disk *osfs.Mem, dir string) error {
	names, err := disk.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		name = path.Join(dir, name)
		fi, serr := disk.Stat(name)
		switch {
		case serr != nil:
			err = errors.Join(err, serr)
		case fi.IsDir():
			err = errors.Join(err, rotten(r, disk, name))
		case fi.Size() > 0:
			err = errors.Join(err, flip(disk, name, r.Int64N(fi.Size())))
		}
	}
	return err
}

func flip(disk *osfs.Mem, name string, at int64) error {
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		b[0] ^= 1 << (at % 8)
		_, err = f.WriteAt(b, at)
	}
	return errors.Join(err, f.Close())
}

// openStack opens the store, and where all state is in a bucket now and then beside
// another process that wants it, too: who loses tries again.
func (w *world) openStack() error {
	if w.ledger == nil {
		_, err := w.openOnce()
		return err
	}
	for try := 0; ; try++ {
		var rival sync.WaitGroup
		if try < 3 && w.chance(4) {
			w.say("another wants the metadata at the same time")
			rival.Go(w.rival())
		}
		opened, err := w.openOnce()
		rival.Wait()
		if err == nil {
			err = w.ledger.engine.CheckFence(w.ctx)
		}
		if err == nil || try == 3 || !errors.Is(err, fsapi.Fenced) {
			return err
		}
		if opened {
			_ = w.s.Close()
		}
		for _, p := range w.places {
			_ = p.close()
		}
	}
}

// openOnce says whether the stack is this world's now.
func (w *world) openOnce() (bool, error) {
	w.life = newLife(w.calls)
	o := w.options
	o.FS = w.fault
	s, err := stack.Open(o)
	if err != nil {
		return false, err
	}
	w.s = s
	return true, nil
}

// rival is another that takes the metadata over on a machine of its own, and is
// killed at some request.
func (w *world) rival() (run func()) {
	r := newRand(w.rng.Uint64())
	l := newLife(w.calls)
	l.prompt = true // else it could come to own it when it is not there any more
	left := make(chan int, 1)
	left <- r.IntN(40)
	count := func() {
		n := <-left
		if n == 0 {
			l.dead.Store(true)
		}
		left <- n - 1
	}
	l.asked.Store(&count)
	st, err := w.ledger.store(l)
	if err != nil {
		panic(err) // its settings are as those of all
	}
	w.ledger.opens++
	o := w.engineOptions(st, osfs.NewMem(osfs.MemOptions{}))
	return func() {
		if w.ledger.timely {
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		}
		e, err := bucket.Open(w.ctx, o)
		if err == nil {
			_ = e.Checkpoint(w.ctx)
			_ = e.Close()
		}
		_ = st.Close()
		l.dead.Store(true)
	}
}

// foul reports whether the bucket of the metadata does not do what it is asked.
func (w *world) foul() bool { return w.ledger != nil && w.ledger.weather.Load() != nil }

// bucketFails has clients and upkeep work while the bucket of the metadata fails.
// Afterwards all goes on by itself.
func (w *world) bucketFails() error {
	g := w.ledger
	x := g.newWeather(w.rng)
	w.say("      the metadata's bucket is %s until %v; the disk of the cache: %v", x.kind, x.until.Format("15:04:05"), x.cache)
	g.weather.Store(x)
	for _, c := range w.clients {
		c.MustRead = false
	}
	defer func() {
		g.weather.Store(nil)
		for _, c := range w.clients {
			c.MustRead = true
		}
	}()
	for range 1 + w.rng.IntN(3) {
		do := pick(w.rng, []func(*world) error{
			(*world).work, (*world).work, (*world).work, (*world).busy, (*world).upkeepAWhile, (*world).gc, (*world).orphans, (*world).pack, (*world).tier, (*world).reencrypt, (*world).rekey,
		})
		if err := do(w); err != nil {
			return err
		}
	}
	x.mu.Lock()
	x.left = 0
	hits := x.hits
	x.mu.Unlock()
	w.say("      %d requests met it", hits)
	time.Sleep(max(0, time.Until(x.until)) + time.Minute)
	// Each handle says once that it could not be stored.
	if err := w.each((*workload.Client).SyncHandles); err != nil {
		return err
	}
	g.weather.Store(nil)
	if err := w.s.Local.Syncfs(w.ctx); err != nil && !w.tolerate(err) {
		return fmt.Errorf("syncfs after the metadata's bucket failed: %w", err)
	}
	return w.each((*workload.Client).SyncHandles)
}

// lean checks that the bucket of the metadata, once all is quiet, has no more than it
// needs.
func (w *world) lean() error {
	g := w.ledger
	time.Sleep(strayMost + time.Minute) // what was still on its way has arrived
	// What one checkpoint condemns goes with one that is made later than it may stay:
	// two make garbage of everything, one more removes it.
	for i := range 3 {
		if i > 0 {
			time.Sleep(2 * time.Hour)
		}
		if err := w.s.Meta.Sync(w.ctx); err != nil {
			return err
		}
		if err := g.engine.Checkpoint(w.ctx); err != nil {
			return fmt.Errorf("checkpoint when all is well: %w", err)
		}
	}
	st, err := g.bucket.Open(provider.Options{})
	if err != nil {
		return err
	}
	count, bytes := map[string]int{}, map[string]int64{}
	var keys []string
	err = st.List(w.ctx, "", "", func(o object.Object) error {
		kind, _, _ := strings.Cut(o.Key, "/")
		count[kind]++
		bytes[kind] += o.Size
		keys = append(keys, o.Key)
		return nil
	})
	s := g.engine.Status()
	w.say("the metadata's bucket has %v, of bytes %v; %d tables count", count, bytes, s.Tables)
	// A request that arrives later than garbage may stay makes an object of the journal
	// again which was removed, and which only a process that comes later looks for.
	journal := g.opens + 10
	if g.options.GarbageAge < strayMost {
		journal = 1 << 30
	}
	if g.options.GarbageAge >= 0 && (count["head"] != 1 || count["manifest"] > 2 || count["table"] > 2*s.Tables+2 || count["journal"] > journal || count[".strake-probe"] > 3) {
		err = errors.Join(err, fmt.Errorf("the metadata's bucket has %v after %d processes, though only %d tables count: %v", count, g.opens, s.Tables, keys))
	}
	return errors.Join(err, st.Close())
}
