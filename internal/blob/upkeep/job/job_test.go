package job_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
)

// hands is a clock that a test moves.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) After(time.Duration) <-chan time.Time { return nil }

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// records are settings in memory.
type records struct {
	mu   sync.Mutex
	m    map[string][]byte
	puts int
	fail error
}

func (s *records) PutSetting(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.puts++
	s.m[name] = slices.Clone(value)
	return nil
}

func (s *records) DeleteSetting(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, name)
	return nil
}

func (s *records) Settings(_ context.Context, prefix string, fn func(string, []byte) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.m)) {
		if strings.HasPrefix(name, prefix) && !fn(name, slices.Clone(s.m[name])) {
			break
		}
	}
	return nil
}

func (s *records) count() (records, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m), s.puts
}

// rig has a kind "count", which counts to its argument, one for each token, and
// a kind "rush", which is urgent.
type rig struct {
	t      *testing.T
	clock  *hands
	store  *records
	r      *job.Runner
	tokens chan struct{}
	seen   chan string // what was counted, as "id n"
	end    func()
}

func newRig(t *testing.T, running int) *rig {
	g := &rig{t: t, clock: &hands{now: time.Unix(1e9, 0)}, store: &records{m: map[string][]byte{}}, tokens: make(chan struct{}), seen: make(chan string, 1000)}
	g.open(running)
	t.Cleanup(func() { g.end() })
	return g
}

// open starts a runner, as a new process would.
func (g *rig) open(running int) {
	g.t.Helper()
	if g.end != nil {
		g.end()
	}
	count := func(ctx context.Context, t *job.Task) error {
		n := len(t.Cursor())
		t.Total(int64(len(t.Args()[0])), 0)
		for n < len(t.Args()[0]) {
			select {
			case <-g.tokens:
			case <-ctx.Done():
				return ctx.Err()
			}
			n++
			g.seen <- fmt.Sprint(t.Args()[0], n)
			if err := t.Step(ctx, make([]byte, n), 1, 100); err != nil {
				return err
			}
		}
		if t.Args()[0] == "bad" {
			return fsapi.Errorf(fsapi.NoSpace, "no more room")
		}
		return nil
	}
	check := func(args []string) ([]string, error) {
		if len(args) != 1 {
			return nil, fsapi.Errorf(fsapi.Invalid, "want one argument")
		}
		return []string{strings.ToLower(args[0])}, nil
	}
	var err error
	g.r, err = job.New(job.Options{Store: g.store, Running: running, History: 3, Clock: g.clock, Kinds: []job.Kind{
		{Name: "count", Check: check, Run: count}, {Name: "other", Check: check, Run: count}, {Name: "rush", Check: check, Urgent: true, Run: count},
	}})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.r.Run(ctx) }()
	g.end = func() { cancel(); <-done }
}

func (g *rig) start(kind, arg string, anew bool) uint64 {
	g.t.Helper()
	j, err := g.r.Start(g.t.Context(), kind, []string{arg}, anew)
	if err != nil {
		g.t.Fatal(err)
	}
	return j.ID
}

// count lets one count and expects it.
func (g *rig) count(want string) {
	g.t.Helper()
	g.tokens <- struct{}{}
	if got := <-g.seen; got != want {
		g.t.Fatalf("counted %s, want %s", got, want)
	}
}

func (g *rig) ended(id uint64, want job.State) job.Job {
	g.t.Helper()
	j, err := g.r.Wait(g.t.Context(), id)
	if err != nil || j.State != want {
		g.t.Fatalf("job %d: %v %q, %v; want %v", id, j.State, j.Err, err, want)
	}
	return j
}

func TestJobRunsToItsEnd(t *testing.T) {
	g := newRig(t, 1)
	id := g.start("count", "AB", false)
	g.count("ab1")
	g.clock.move(time.Minute)
	g.count("ab2")
	j := g.ended(id, job.Done)
	if j.Progress != (job.Progress{Done: 2, Total: 2, DoneBytes: 200}) || j.Ended.IsZero() || j.Started.IsZero() {
		t.Errorf("%+v", j)
	}
	bad := g.start("count", "bad", false)
	for i := range 3 {
		g.count(fmt.Sprint("bad", i+1))
	}
	if j := g.ended(bad, job.Failed); !strings.Contains(j.Err, "no more room") {
		t.Errorf("%+v", j)
	}
}

func TestWrongJobsAreRefused(t *testing.T) {
	g := newRig(t, 1)
	for _, c := range [][]string{{"nothing"}, {"count"}, {"count", strings.Repeat("x", 2000)}} {
		if _, err := g.r.Start(t.Context(), c[0], c[1:], false); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%.20v: %v", c, err)
		}
	}
	if _, err := g.r.Pause(t.Context(), 7); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("pause of nothing: %v", err)
	}
	g.store.fail = fsapi.Errorf(fsapi.IO, "no disk")
	if _, err := g.r.Start(t.Context(), "count", []string{"a"}, false); !errors.Is(err, fsapi.IO) {
		t.Errorf("a job that cannot be kept: %v", err)
	}
	if l, err := g.r.Jobs(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%v, %v", l, err)
	}
}

// A job goes on after a restart from where it was, and a paused one stays paused.
func TestRestartGoesOn(t *testing.T) {
	g := newRig(t, 2)
	id := g.start("count", "abcd", false)
	held := g.start("other", "xy", false)
	if _, err := g.r.Pause(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	g.count("abcd1")
	g.count("abcd2")
	g.open(2)
	g.count("abcd3")
	g.count("abcd4")
	if j := g.ended(id, job.Done); j.Progress.Done != 4 {
		t.Errorf("%+v", j)
	}
	if j, err := g.r.Resume(t.Context(), held); err != nil || j.State.Ended() {
		t.Fatalf("resumed: %+v, %v", j, err)
	}
	g.count("xy1")
	g.count("xy2")
	g.ended(held, job.Done)
}

func TestPauseResumeCancel(t *testing.T) {
	g := newRig(t, 1)
	id := g.start("count", "abc", false)
	g.count("abc1")
	if j, err := g.r.Pause(t.Context(), id); err != nil || j.State != job.Paused {
		t.Fatalf("paused: %+v, %v", j, err)
	}
	next := g.start("count", "z", false) // the kind is free now
	g.count("z1")
	g.ended(next, job.Done)
	if j, err := g.r.Resume(t.Context(), id); err != nil || j.State == job.Paused {
		t.Fatalf("resumed: %+v, %v", j, err)
	}
	g.count("abc2")
	if j, err := g.r.Cancel(t.Context(), id); err != nil || j.State != job.Cancelled {
		t.Fatalf("cancelled: %+v, %v", j, err)
	}
	if _, err := g.r.Resume(t.Context(), id); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("resumed from the dead: %v", err)
	}
	if again := g.start("count", "abc", false); again == id {
		t.Error("a cancelled job was started again")
	}
	g.count("abc1")
}

// One of a kind runs at a time, so many altogether, and urgent ones beside them.
func TestConcurrencyIsBounded(t *testing.T) {
	g := newRig(t, 1)
	a, b := g.start("count", "a", false), g.start("count", "b", false)
	c := g.start("other", "c", false)
	g.count("a1")
	g.ended(a, job.Done)
	g.count("b1")
	g.ended(b, job.Done)
	g.count("c1")
	g.ended(c, job.Done)
	g.start("count", "d", false)
	urgent := g.start("rush", "r", false)
	got := map[string]bool{}
	for range 2 { // both wait for tokens
		g.tokens <- struct{}{}
		got[<-g.seen] = true
	}
	g.ended(urgent, job.Done)
	if !got["d1"] || !got["r1"] {
		t.Error(got)
	}
}

// The same job twice is one job, and begins again if it is to.
func TestSameJobIsOne(t *testing.T) {
	g := newRig(t, 1)
	id := g.start("count", "ab", false)
	g.count("ab1")
	if again := g.start("count", "AB", false); again != id {
		t.Fatalf("job %d and %d", id, again)
	}
	if again := g.start("count", "ab", true); again != id {
		t.Fatalf("job %d and %d", id, again)
	}
	g.count("ab1")
	g.count("ab2")
	if j := g.ended(id, job.Done); j.Progress.Done != 2 {
		t.Errorf("%+v", j)
	}
}

// Records are written when a state changes and now and then in between; those
// of old jobs go.
func TestRecordsAreFewAndBounded(t *testing.T) {
	g := newRig(t, 1)
	long := strings.Repeat("x", 100)
	id := g.start("count", long, false)
	g.count(long + "1") // saved: the last save is of the start
	_, before := g.store.count()
	for i := 2; i <= 50; i++ {
		g.count(fmt.Sprint(long, i))
	}
	if _, after := g.store.count(); after-before > 1 {
		t.Errorf("%d records in no time", after-before)
	}
	g.clock.move(time.Minute)
	for i := 51; i <= 100; i++ {
		g.count(fmt.Sprint(long, i))
	}
	g.ended(id, job.Done)
	for i := range 5 {
		arg := strings.Repeat("y", i+1)
		id := g.start("count", arg, false)
		for k := range i + 1 {
			g.count(fmt.Sprint(arg, k+1))
		}
		g.clock.move(time.Second)
		g.ended(id, job.Done)
	}
	g.end()
	if l, err := g.r.Jobs(t.Context()); err != nil || len(l) != 3 || l[0].ID != 6 {
		t.Errorf("%+v, %v", l, err)
	}
	if n, _ := g.store.count(); n != 3 {
		t.Errorf("%d records of 3 jobs", n)
	}
}

func TestDamagedRecordsArePassedOver(t *testing.T) {
	g := newRig(t, 1)
	id := g.start("count", "a", false)
	g.end()
	for name, b := range g.store.m {
		g.store.m["job/00000000000000ff"] = b // under another's name
		bad := slices.Clone(b)
		bad[12] ^= 1
		g.store.m["job/00000000000000fe"] = bad
		_ = name
		break
	}
	g.open(1)
	if l, err := g.r.Jobs(t.Context()); err != nil || len(l) != 1 || l[0].ID != id {
		t.Errorf("%+v, %v", l, err)
	}
	g.count("a1")
	g.ended(id, job.Done)
}
