package bucket

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// process is a writer with a way to the bucket and a disk of its own, and a clock
// that jumps.
type process struct {
	name string
	gate *gate
	o    Options
	e    *Engine
	n    int // writes
	// acked is the last write that was acknowledged as durable.
	acked int
}

func newProcess(t *testing.T, b *mem.Bucket, name string, seed uint64) *process {
	p := &process{name: name, gate: &gate{Store: opened(t, b)}}
	p.o = small(p.gate, osfs.NewMem(osfs.MemOptions{}))
	p.o.Clock = &skewed{rng: rand.New(rand.NewPCG(seed, 3))}
	p.o.CheckpointObjects, p.o.CheckpointBytes = 4, 16<<10
	return p
}

func (p *process) open(ctx context.Context) (err error) {
	p.e, err = Open(ctx, p.o)
	return err
}

// write makes n writes, each with a key of its own and most of them durable.
func (p *process) write(ctx context.Context, n int) error {
	for range n {
		p.n++
		durable := p.n%3 != 0
		_, err := p.e.Update(ctx, kv.UpdateOptions{Sync: durable}, func(tx kv.Tx) error {
			tx.Put(fmt.Appendf(nil, "%s/%06d", p.name, p.n), make([]byte, 700))
			return nil
		})
		if err != nil {
			return err
		}
		if durable {
			p.acked = p.n
		}
	}
	return nil
}

// seen is how many writes of a process an engine shows: they must be the first
// ones, without gaps.
func seen(t *testing.T, e kv.Engine, name string) int {
	t.Helper()
	n := 0
	must(t, e.View(context.Background(), func(r kv.Reader) error {
		return r.Scan([]byte(name+"/"), []byte(name+"0"), func(k, _ []byte) (bool, error) {
			n++
			if string(k) != fmt.Sprintf("%s/%06d", name, n) {
				t.Fatalf("%s: after write %d comes %q", name, n-1, k)
			}
			return true, nil
		})
	}))
	return n
}

// holdAt holds a process up at its n-th call from now on, before or after that takes effect.
// reached is closed when it stands there; never, where it makes fewer calls.
func (p *process) holdAt(n int, late bool) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	p.gate.mu.Lock()
	n += p.gate.n
	p.gate.mu.Unlock()
	p.gate.set(func(at int, _, _ string) outcome {
		if at != n {
			return outcome{}
		}
		return outcome{hold: release, late: late, held: func() { close(reached) }}
	})
	return reached, release
}

// inherit lets a second process take over, write, and remove what only the first
// could still need.
func inherit(t *testing.T, b *mem.Bucket, name string) *process {
	t.Helper()
	p := newProcess(t, b, name, 99)
	must(t, p.open(t.Context()))
	return p
}

func (p *process) thrive(t *testing.T) {
	t.Helper()
	for range 4 {
		must(t, p.write(t.Context(), 12))
		must(t, p.e.s.checkpoint(t.Context()))
		p.o.Clock.(*skewed).pass() // garbage is old enough for the next one to remove it
	}
}

// TestPausedWriter holds a writer up at every call it makes in turn, before and
// after it takes effect, while another takes over, writes, checkpoints and cleans
// up; then lets it go on.
func TestPausedWriter(t *testing.T) {
	const writes = 30
	for _, late := range []bool{false, true} {
		for at, made := 1, true; made && !t.Failed(); at += stride() {
			t.Run(fmt.Sprintf("%d/%v", at, late), func(t *testing.T) { made = pausedWriter(t, at, late, writes) })
		}
	}
}

// stride is how many calls are passed over.
func stride() int {
	if long() {
		return 1
	}
	return 5
}

func pausedWriter(t *testing.T, at int, late bool, writes int) (made bool) {
	b := mem.New(mem.Options{})
	a := newProcess(t, b, "a", uint64(at))
	must(t, a.open(t.Context()))
	reached, release := a.holdAt(at, late)
	ended := make(chan error, 1)
	go func() { ended <- a.write(context.Background(), writes) }()
	select {
	case <-reached:
	case err := <-ended: // it makes fewer calls
		must(t, err)
		close(release)
		must(t, a.e.Close())
		return false
	}
	second := inherit(t, b, "b")
	before := seen(t, second.e, "a")
	second.thrive(t)
	close(release)
	err := <-ended
	if err == nil { // it stood in a checkpoint, or at an end: its next write tells it
		err = a.write(context.Background(), 2)
	}
	wantFenced(t, err)
	wantFenced(t, a.write(context.Background(), 1))
	_ = a.e.Close()
	must(t, second.write(t.Context(), 5))
	must(t, second.e.Close())
	last := inherit(t, b, "c")
	defer func() { must(t, last.e.Close()) }()
	if n := seen(t, last.e, "a"); n != before || n < a.acked {
		t.Errorf("%d writes of the first writer are there; at the takeover it were %d, and it was told of %d", n, before, a.acked)
	}
	if n := seen(t, last.e, "b"); n != second.n {
		t.Errorf("%d writes of the second writer are there of %d", n, second.n)
	}
	return true
}

func wantFenced(t *testing.T, err error) {
	t.Helper()
	if err == nil || fsapi.KindOf(err) != fsapi.Fenced {
		t.Fatalf("got %v, want that the writer is fenced", err)
	}
}

// TestPausedTakeover holds one who takes over up at every call he makes, while
// another takes over from the same writer, or from him.
func TestPausedTakeover(t *testing.T) {
	for _, late := range []bool{false, true} {
		for at, made := 1, true; made && !t.Failed(); at++ {
			t.Run(fmt.Sprintf("%d/%v", at, late), func(t *testing.T) { made = pausedTakeover(t, at, late) })
		}
	}
}

func pausedTakeover(t *testing.T, at int, late bool) (made bool) {
	b := mem.New(mem.Options{})
	a := inherit(t, b, "a")
	must(t, a.write(t.Context(), 7))
	p := newProcess(t, b, "p", uint64(at))
	reached, release := p.holdAt(at, late)
	ended := make(chan error, 1)
	go func() { ended <- p.open(context.Background()) }()
	select {
	case <-reached:
	case err := <-ended:
		must(t, err)
		close(release)
		must(t, p.e.Close())
		wantFenced(t, a.write(t.Context(), 3))
		_ = a.e.Close()
		return false
	}
	c := inherit(t, b, "c")
	wantFenced(t, a.write(t.Context(), 3))
	_ = a.e.Close()
	c.thrive(t)
	close(release)
	// He may come to own it in turn, having seen all that c wrote, or learn that
	// he does not: at the latest with his first write, if he stood behind his last
	// look. Never both.
	err := <-ended
	saw := -1
	if err == nil {
		saw = seen(t, p.e, "c")
		err = p.write(t.Context(), 3)
		_ = p.e.Close()
	}
	if err == nil {
		if saw != c.n {
			t.Fatalf("took over with %d of %d writes", saw, c.n)
		}
		wantFenced(t, c.write(t.Context(), 3))
		_ = c.e.Close()
	} else {
		wantFenced(t, err)
		must(t, c.write(t.Context(), 3))
		must(t, c.e.Close())
	}
	d := inherit(t, b, "d")
	defer func() { must(t, d.e.Close()) }()
	if got := seen(t, d.e, "a"); got < a.acked {
		t.Errorf("%d writes of the first writer are there; it was told of %d", got, a.acked)
	}
	if got := seen(t, d.e, "c"); got < c.acked {
		t.Errorf("%d writes of the second writer are there; it was told of %d", got, c.acked)
	}
	if got := seen(t, d.e, "p"); got < p.acked {
		t.Errorf("%d writes of the one that was held up are there; it was told of %d", got, p.acked)
	}
	return true
}

// TestRivals lets writers take the bucket from one another again and again, with
// clocks that jump, calls that wait, fail before they take effect, or after.
func TestRivals(t *testing.T) {
	seeds := 6
	if long() {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { rivals(t, rand.New(rand.NewPCG(uint64(seed), 11))) })
	}
}

// turns makes calls to the bucket one at a time, in an order drawn at random: a
// call waits while others pass it, often for long.
type turns struct {
	mu   sync.Mutex
	cond *sync.Cond
	rng  *rand.Rand
	wait map[*int]bool
	busy bool
}

func newTurns(rng *rand.Rand) *turns {
	s := &turns{rng: rng, wait: map[*int]bool{}}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// enter waits for a turn; leave ends it. patience is how many others pass first,
// while there are any.
func (s *turns) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	patience := s.rng.IntN(4)
	if s.rng.IntN(10) == 0 {
		patience = s.rng.IntN(60)
	}
	s.wait[&patience] = true
	s.pass()
	for patience > 0 || s.busy {
		s.cond.Wait()
	}
	delete(s.wait, &patience)
	s.busy = true
}

func (s *turns) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	s.pass()
	s.cond.Broadcast()
}

// pass lets one turn go by; where all wait, as many as it takes. REQUIRES: mu held.
func (s *turns) pass() {
	least := 1 << 30
	for p := range s.wait {
		least = min(least, *p)
	}
	if s.busy || least > 1 {
		least = max(least, 1)
	}
	for p := range s.wait {
		*p = max(0, *p-least)
	}
	s.cond.Broadcast()
}

func rivals(t *testing.T, rng *rand.Rand) {
	b := mem.New(mem.Options{})
	order := newTurns(rand.New(rand.NewPCG(rng.Uint64(), 19)))
	var procs []*process
	var wg sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		for life := range 3 {
			p := newProcess(t, b, fmt.Sprintf("%c%d", 'a'+i, life), rng.Uint64())
			p.o.Objects = &ordered{gate: p.gate, turns: order}
			p.gate.set(flaky(rand.New(rand.NewPCG(rng.Uint64(), 17))))
			procs = append(procs, p)
		}
		mine := procs[len(procs)-3:]
		wg.Go(func() {
			for _, p := range mine {
				if p.open(context.Background()) != nil {
					continue
				}
				if err := p.write(context.Background(), 10+rng.IntN(60)); err != nil {
					wantFenced(t, err)
				}
				_ = p.e.Close()
			}
		})
	}
	wg.Wait()
	last := inherit(t, b, "z")
	defer func() { must(t, last.e.Close()) }()
	total := 0
	for _, p := range procs {
		n := seen(t, last.e, p.name)
		total += n
		if n < p.acked || n > p.n {
			t.Errorf("%s: %d writes are there; it made %d and was told of %d", p.name, n, p.n, p.acked)
		}
	}
	t.Logf("%d writes are there", total)
}

func flaky(rng *rand.Rand) func(int, string, string) outcome {
	return func(_ int, op, key string) outcome {
		if rng.IntN(15) == 0 && !strings.HasPrefix(key, object.ProbePrefix) {
			return outcome{err: errDown, late: rng.IntN(2) == 0}
		}
		return outcome{}
	}
}

// TestFencedWhileIdle: a writer that was replaced while it wrote nothing says so as
// soon as it knows, whatever the bucket says then. What it reads that its successor
// removed is not corrupt: it says why it is gone.
func TestFencedWhileIdle(t *testing.T) {
	b := mem.New(mem.Options{})
	first := inherit(t, b, "a")
	fill(t, first.e, 0, 600)
	must(t, first.e.Checkpoint(t.Context()))
	must(t, first.e.Close())

	reads, asks := newProcess(t, b, "a", 97), newProcess(t, b, "a", 98)
	reads.o.still, asks.o.still = true, true // nothing reads what nobody asked for
	must(t, reads.open(t.Context()))
	defer func() { _ = reads.e.Close() }()
	second := inherit(t, b, "b")
	s := opened(t, b)
	var tables []string
	must(t, s.List(t.Context(), prefixTable, "", func(o object.Object) error {
		tables = append(tables, o.Key)
		return nil
	}))
	must(t, asks.open(t.Context()))
	defer func() { _ = asks.e.Close() }()
	third := inherit(t, b, "c")
	must(t, s.Delete(t.Context(), tables...))
	var err error
	for i := 0; i < 600 && err == nil; i++ {
		_, err = get(reads.e, fmt.Sprintf("f%06d", i))
	}
	wantFenced(t, err)
	wantFenced(t, reads.e.Stats().Failure)

	wantFenced(t, asks.e.CheckFence(t.Context()))
	wantFenced(t, asks.e.Stats().Failure)
	asks.gate.set(func(int, string, string) outcome { return outcome{err: errDown} })
	_, err = asks.e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error {
		return tx.Scan(nil, nil, func([]byte, []byte) (bool, error) { return true, nil })
	})
	wantFenced(t, err)
	_ = second.e.Close()
	_ = third.e.Close()
}
