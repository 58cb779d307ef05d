package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/workload"
)

// step is one kind of step.
type step struct {
	name   string
	weight int
	do     func(*world) error
	// mortal: the process may be killed within it.
	mortal bool
}

func steps() []step {
	return []step{
		{"work", 60, (*world).work, true},
		{"policy", 6, (*world).policy, true},
		{"snapshot", 4, (*world).snapshot, false},
		{"drop a snapshot", 2, (*world).dropSnapshot, false},
		{"look into a snapshot", 2, (*world).lookSnapshot, false},
		{"restore", 3, (*world).restore, false},
		{"drop a copy", 2, (*world).dropCopy, false},
		{"harm", 7, (*world).harm, false},
		{"heal", 9, (*world).heal, false},
		{"rot", 9, (*world).rot, false},
		{"replace a drive", 1, (*world).replace, false},
		{"leave", 4, (*world).leave, false},
		{"remove", 1, (*world).remove, false},
		{"rebalance", 2, start(upkeep.JobRebalance), true},
		{"scrub deep", 2, start(upkeep.JobScrub, "deep"), true},
		{"scrub", 1, start(upkeep.JobScrub, "shallow"), true},
		{"job gc", 1, start(upkeep.JobGC), true},
		{"job orphans", 1, start(upkeep.JobOrphans), true},
		{"job compact", 1, start(upkeep.JobCompact), true},
		{"rescue", 1, start(upkeep.JobRescue), true},
		{"upkeep", 8, (*world).upkeepAWhile, true},
		{"work beside upkeep", 4, (*world).busy, true},
		{"the log's disk fails", 4, (*world).logFails, true},
		{"pending", 6, (*world).pending, true},
		{"bad at birth", 4, (*world).birth, false},
		{"pack", 3, (*world).pack, true},
		{"gc", 4, (*world).gc, true},
		{"orphans", 2, (*world).orphans, true},
		{"evict", 5, (*world).evict, true},
		{"promote", 2, (*world).promote, true},
		{"tier", 2, (*world).tier, true},
		{"rotate the key", 1, (*world).rotate, false},
		{"re-encrypt", 2, (*world).reencrypt, true},
		{"a new key beside work", 3, (*world).rekey, true},
		{"time", 6, (*world).pass, false},
		{"verify", 2, (*world).verify, false},
		{"drop caches", 2, func(w *world) error { return w.s.Local.DropCaches(w.ctx) }, false},
		{"reopen", 2, (*world).reopen, false},
		{"kill", 6, (*world).kill, false},
	}
}

// bucketFailsName is the step in which the bucket of the metadata fails.
const bucketFailsName = "the metadata's bucket fails"

// stepsOf are the steps of this world.
func (w *world) stepsOf() (list []step) {
	if w.ledger == nil {
		return steps()
	}
	for _, s := range steps() {
		if s.name == "the log's disk fails" {
			s = step{bucketFailsName, 8, (*world).bucketFails, true}
		}
		list = append(list, s)
	}
	if w.ledger.timely {
		list = append(list, step{"another takes over", 6, (*world).takeover, false})
	}
	if age := w.ledger.options.GarbageAge; w.ledger.timely && (age < 0 || age >= time.Hour) { // else what it reads may be gone
		list = append(list, step{"another looks on", 4, (*world).look, false})
	}
	return list
}

// next does a step chosen by chance.
func (w *world) next() error {
	w.steps++
	all := w.stepsOf()
	sum := 0
	for _, s := range all {
		sum += s.weight
	}
	r := w.rng.IntN(sum)
	for _, s := range all {
		if r -= s.weight; r < 0 {
			return w.do(s)
		}
	}
	return nil
}

func (w *world) do(s step) error {
	if err := s.do(w); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if w.cut == nil {
		if err := w.settle(); err != nil {
			return err
		}
		if err := w.born(s.name == "work" || s.name == "time"); err != nil {
			return err
		}
	}
	w.calls.step(w.steps, s.name, w.tickets.Load())
	n, sum := w.calls.so()
	w.say("%-24s %d calls, %016x", s.name, n, sum)
	return nil
}

// kill does a step within which, or after which, the process is killed.
func (w *world) kill() error {
	var mortal []step
	for _, s := range w.stepsOf() {
		if s.mortal {
			for range s.weight {
				mortal = append(mortal, s)
			}
		}
	}
	s := pick(w.rng, mortal)
	w.arm()
	if err := w.do(s); err != nil && w.cut.disk == nil {
		return err // what fails after the kill, fails because of it
	}
	w.quiet()
	if err := w.revive(); err != nil {
		return fmt.Errorf("killed within %s: %w", s.name, err)
	}
	return w.audit()
}

// work has one client do some operations, or all of them at the same time.
func (w *world) work() error {
	if w.chance(2) {
		return several(pick(w.rng, w.clients), 1+w.rng.IntN(6))
	}
	errs := make([]error, len(w.clients))
	var wg sync.WaitGroup
	for i, c := range w.clients {
		n := w.rng.IntN(6)
		wg.Go(func() { errs[i] = several(c, n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func several(c *workload.Client, n int) error {
	for range n {
		if err := c.Step(); err != nil {
			return err
		}
	}
	return nil
}

// busy has clients work while upkeep does.
func (w *world) busy() (err error) {
	w.during(func() {
		for range 1 + w.rng.IntN(4) {
			if err = w.work(); err != nil {
				return
			}
			time.Sleep(time.Duration(w.rng.IntN(60)) * time.Second)
		}
	})
	return err
}

// policy sets one, and has what is stored follow.
func (w *world) policy() error {
	if ok, err := w.sure(); err != nil || !ok {
		return err
	}
	c := pick(w.rng, w.clients)
	inos := []fsapi.Ino{fsapi.RootIno, c.Some(w.rng), c.Some(w.rng)}
	ino := pick(w.rng, inos)
	p := policy.Policy{Copies: pick(w.rng, w.policies)}
	if err := w.s.Local.SetPolicy(w.ctx, fsapi.Root, ino, p); err != nil {
		return w.fails("set a policy", err)
	}
	w.say("ino %d: copies=%v", ino, policy.Copies(p.Copies))
	if w.chance(2) {
		if _, err := w.s.Upkeep.Relayout(w.ctx, w.s.Volume, ino); err != nil {
			return w.fails("relayout", err)
		}
	}
	return nil
}

func (w *world) snapshot() error {
	if len(w.snaps) >= 4 {
		return nil
	}
	w.made++
	name := fmt.Sprint("s", w.made)
	if _, err := w.s.Local.CreateSnapshot(w.ctx, fsapi.Root, vfs.Snapshot{Name: name}); err != nil {
		return w.fails("take a snapshot", err)
	}
	for _, c := range w.clients {
		w.snaps[name] = append(w.snaps[name], c.Tree())
	}
	return w.durable()
}

// durable makes everything durable, or at least all names.
func (w *world) durable() error {
	return w.s.Meta.Sync(w.ctx)
}

// chosen is one of a set by name, "" of none.
func chosen[T any](w *world, set map[string]T) string {
	if len(set) == 0 {
		return ""
	}
	return pick(w.rng, slices.Sorted(maps.Keys(set)))
}

func (w *world) dropSnapshot() error {
	name := chosen(w, w.snaps)
	if name == "" {
		return nil
	}
	if err := w.s.Local.DeleteSnapshot(w.ctx, fsapi.Root, name); err != nil {
		return w.fails("delete a snapshot", err)
	}
	delete(w.snaps, name)
	return w.durable()
}

func (w *world) lookSnapshot() error {
	name := chosen(w, w.snaps)
	if name == "" {
		return nil
	}
	return w.checkSnapshot(name)
}

func (w *world) checkSnapshot(name string) error {
	for i, c := range w.clients {
		at, err := w.s.Local.Resolve(w.ctx, fsapi.Root, path.Join("/", vfs.VirtualName, "snapshots", name, c.Top()), false)
		if err == nil {
			err = w.snaps[name][i].Check(w.ctx, w.s.Local, at.Ino)
		}
		if err != nil {
			return fmt.Errorf("snapshot %s of client %d: %w", name, i, err)
		}
	}
	return nil
}

// restore makes a copy of what a snapshot has, or puts it back.
func (w *world) restore() error {
	name := chosen(w, w.snaps)
	if name == "" || len(w.copies) >= 3 {
		return nil
	}
	i := w.rng.IntN(len(w.clients))
	r := vfs.RestoreSnapshot{Snapshot: name, Path: "/" + w.clients[i].Top()}
	if w.chance(3) {
		return w.putBack(r, i)
	}
	w.made++
	copied := fmt.Sprint("copy", w.made)
	r.To = "/" + copied
	if _, err := w.s.Local.RestoreSnapshot(w.ctx, fsapi.Root, r, nil); err != nil {
		return w.fails("restore from a snapshot", errors.Join(err, w.removed(copied)))
	}
	w.copies[copied] = w.snaps[name][i]
	return w.fails("sync", w.s.Local.Syncfs(w.ctx))
}

func (w *world) putBack(r vfs.RestoreSnapshot, i int) error {
	c := w.clients[i]
	if err := c.CloseAll(); err != nil {
		return err
	}
	w.say("put back %s of client %d", r.Snapshot, i)
	before, err := w.s.Local.RestoreSnapshot(w.ctx, fsapi.Root, r, nil)
	if err != nil {
		if w.fails("", err) != nil {
			return err
		}
		return w.adoptPart(c)
	}
	if err := w.s.Local.DeleteSnapshot(w.ctx, fsapi.Root, before.Before); err != nil {
		return err
	}
	at, err := w.s.Local.Lookup(w.ctx, fsapi.Root, fsapi.RootIno, c.Top())
	if err == nil {
		err = w.snaps[r.Snapshot][i].Check(w.ctx, w.s.Local, at.Ino)
	}
	if err != nil {
		return fmt.Errorf("put back snapshot %s: %w", r.Snapshot, err)
	}
	if err := w.durable(); err != nil {
		return err
	}
	return c.Adopt(w.ctx, w.s.Local)
}

// adoptPart is Adopt after a restore that was broken off. What a client adopts
// must be durable, and so drives get well first.
func (w *world) adoptPart(c *workload.Client) error {
	if err := w.cureAll(); err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := w.s.Local.Syncfs(w.ctx)
		if err == nil {
			return c.Adopt(w.ctx, w.s.Local)
		}
		if try == 6 || fsapi.KindOf(err) != fsapi.NoSpace && !w.hurt() {
			return fmt.Errorf("syncfs after a restore that was broken off, with all drives well: %w", err)
		}
		w.run(30 * time.Minute)
	}
}

func (w *world) dropCopy() error {
	name := chosen(w, w.copies)
	if name == "" {
		return nil
	}
	delete(w.copies, name)
	if err := w.removed(name); err != nil {
		return err
	}
	return w.durable()
}

// removed removes a tree in the root, if it is there.
func (w *world) removed(name string) error {
	a, err := w.s.Local.Lookup(w.ctx, fsapi.Root, fsapi.RootIno, name)
	if errors.Is(err, fsapi.NotExist) {
		return nil
	}
	if err == nil {
		err = workload.RemoveBelow(w.ctx, w.s.Local, a.Ino)
	}
	if err != nil {
		return err
	}
	return w.s.Local.Rmdir(w.ctx, fsapi.Root, fsapi.RootIno, name)
}

// start starts a job and lets upkeep run for a while.
func start(kind string, args ...string) func(*world) error {
	return func(w *world) error {
		if _, err := w.s.Upkeep.StartJob(w.ctx, kind, args...); err != nil {
			return w.fails("start a job", err)
		}
		w.run(time.Minute)
		return nil
	}
}

func (w *world) upkeepAWhile() error {
	w.run(time.Duration(1+w.rng.IntN(20)) * time.Minute)
	return nil
}

// run lets upkeep run for a time.
func (w *world) run(d time.Duration) { w.during(func() { time.Sleep(d) }) }

// during lets upkeep run beside something. What it cannot do it says in its log,
// and does later.
func (w *world) during(do func()) {
	ctx, end := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.s.Upkeep.Run(ctx) })
	do()
	end()
	wg.Wait()
}

// pending tries each pending copy once.
func (w *world) pending() error {
	var list []meta.Pending
	if err := w.s.Meta.Pending(w.ctx, fsapi.SegmentID{}, func(p meta.Pending) bool {
		list = append(list, p)
		return true
	}); err != nil {
		return err
	}
	for _, p := range list {
		if err := w.s.Upkeep.Attempt(w.ctx, p); err != nil && !w.attemptFails(err) {
			return err
		}
	}
	return nil
}

// attemptFails says of an error of an attempt that there may be nothing wrong.
func (w *world) attemptFails(err error) bool {
	return w.tolerate(err) || errors.Is(err, fsapi.NoSpace) || errors.Is(err, fsapi.Exist) || errors.Is(err, fsapi.Busy)
}

func (w *world) pack() error {
	_, err := w.s.Upkeep.Pack(w.ctx)
	return w.fails("pack", err)
}

func (w *world) gc() error {
	r, err := w.s.Upkeep.GC(w.ctx, upkeep.GCOptions{Now: w.chance(2)})
	if d := r.Doubts(); err == nil && len(d) > 0 && !w.hurt() {
		err = fmt.Errorf("it has doubts: %+v", d)
	}
	return w.fails("gc", err)
}

func (w *world) orphans() error {
	_, err := w.s.Upkeep.SweepOrphans(w.ctx, upkeep.GCOptions{Now: w.chance(2)})
	return w.fails("sweep orphans", err)
}

// reasons checks that whatever is pending says why.
func (w *world) reasons() error {
	var errs []error
	err := w.s.Meta.Pending(w.ctx, fsapi.SegmentID{}, func(p meta.Pending) bool {
		if why := w.s.Upkeep.Waits(p); why == "" || p.Attempts > 0 && p.Err == "" {
			errs = append(errs, fmt.Errorf("segment %v is pending after %d attempts, waits for %q and failed because of %q", p.Segment, p.Attempts, why, p.Err))
		}
		return len(errs) < 10
	})
	return errors.Join(append(errs, err)...)
}

// evictable chooses a segment with a wanted copy that is evictable.
func (w *world) evictable() (id fsapi.SegmentID, tier string, err error) {
	list, err := w.segments()
	if err != nil {
		return id, "", err
	}
	type candidate struct {
		id   fsapi.SegmentID
		tier string
	}
	var all []candidate
	for _, s := range list {
		for _, want := range s.Want {
			if want.Evictable {
				all = append(all, candidate{s.ID, want.Tier})
			}
		}
	}
	if len(all) == 0 {
		return id, "", nil
	}
	c := pick(w.rng, all)
	return c.id, c.tier, nil
}

func (w *world) evict() error {
	for range 3 {
		id, tier, err := w.evictable()
		if err != nil || tier == "" {
			return err
		}
		err = w.s.Upkeep.Evict(w.ctx, id, tier)
		if fsapi.KindOf(err) == fsapi.IO {
			lost, e := w.lost(id)
			if e != nil {
				return e
			}
			if lost {
				continue // the copy to rely on is not whole
			}
		}
		if err := w.fails("evict", err); err != nil {
			return err
		}
	}
	return nil
}

// lost reports whether anything of a segment is on record on a drive that is gone.
func (w *world) lost(id fsapi.SegmentID) (bool, error) {
	s, err := w.s.Meta.Segment(w.ctx, id)
	return slices.ContainsFunc(s.Copies, func(c fsapi.CopyPlace) bool {
		return slices.ContainsFunc(c.Drives, func(d fsapi.DriveID) bool {
			p := w.place(d)
			return p != nil && p.gone
		})
	}), err
}

func (w *world) promote() error {
	id, tier, err := w.evictable()
	if err != nil || tier == "" {
		return err
	}
	return w.fails("promote", w.s.Upkeep.Promote(w.ctx, id, tier))
}

func (w *world) tier() error {
	_, err := w.s.Upkeep.TierOnce(w.ctx)
	return w.fails("tier", err)
}

func (w *world) rotate() error {
	w.keys.rotate()
	return nil
}

func (w *world) reencrypt() error {
	return w.fails("re-encrypt", w.s.Upkeep.Reencrypt(w.ctx, 1<<40, w.chance(2)))
}

// rekey changes the key while clients work, and has everything encrypted anew at
// once: what they have sealed by then and not stored yet needs the old one still.
func (w *world) rekey() error {
	var wg sync.WaitGroup
	var err error
	for _, c := range w.clients {
		if err := several(c, 1+w.rng.IntN(3)); err != nil {
			return err
		}
	}
	wg.Go(func() {
		w.keys.rotate()
		err = w.fails("re-encrypt", w.s.Upkeep.Reencrypt(w.ctx, 1<<40, false))
	})
	werr := w.work()
	wg.Wait()
	return errors.Join(err, werr)
}

// pass lets time pass.
func (w *world) pass() error {
	time.Sleep(time.Duration(1+w.rng.IntN(100)) * pick(w.rng, []time.Duration{time.Second, time.Minute}))
	return nil
}

// verify compares everything there is with what should be, and checks all
// records.
func (w *world) verify() error {
	if err := w.exact(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.copies)) {
		tree := w.copies[name]
		at, err := w.s.Local.Lookup(w.ctx, fsapi.Root, fsapi.RootIno, name)
		if err == nil {
			err = tree.Check(w.ctx, w.s.Local, at.Ino)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.snaps)) {
		if err := w.checkSnapshot(name); err != nil {
			return err
		}
	}
	if err := w.s.CheckMeta(w.ctx); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if err := w.reasons(); err != nil {
		return err
	}
	return w.audit()
}
