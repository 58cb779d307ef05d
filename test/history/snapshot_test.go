package history

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
)

// TestSnapshots plays histories while snapshots are taken, deleted, restored
// from and cloned at random, and upkeep runs. Whatever happens later, a snapshot
// shows what the tree showed when it was taken, and when all are gone their
// space is free.
func TestSnapshots(t *testing.T) {
	ops := 250
	if long() {
		ops = 10_000
	}
	if *flagOps > 0 {
		ops = *flagOps
	}
	all := configs()
	for _, i := range []int{1, len(all)/3 + 2, len(all) - 3} {
		c := all[i]
		t.Run(c.name, func(t *testing.T) {
			s := stack.Start(t, c.o)
			p := &past{t: t, ctx: t.Context(), s: s, images: map[string]map[string]string{}, rnd: rand.New(rand.NewPCG(*flagSeed, uint64(i)))}
			p.play(ops)
			p.release()
		})
	}
}

// maxPast bounds the snapshots there are.
const maxPast = 20

// changeTimes is what an image says of times that a copy does not keep.
var changeTimes = regexp.MustCompile(` (ctime|btime) -?\d+`)

// past is a history with snapshots.
type past struct {
	t      *testing.T
	ctx    context.Context
	s      *stack.Stack
	w      *world
	rnd    *rand.Rand
	images map[string]map[string]string // by snapshot: what it is to show
	taken  int
}

func (p *past) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, tail(p.w.trace, 30))
	}
}

func (p *past) play(ops int) {
	a, err := p.s.Local.Mknod(p.ctx, fsapi.Root, fsapi.RootIno, "work", vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	if err != nil {
		p.t.Fatal(err)
	}
	p.w = newWorld(p.ctx, p.s.Local, a.Ino, "/work", p.s.Policy.Atime)
	p.w.drop = func() error { return p.s.Local.DropCaches(p.ctx) }
	for i, o := range generate(*flagSeed+99, ops, opRestart, opUpkeep) {
		if err := p.w.run(o); err != nil {
			p.t.Fatalf("operation %d: %v\n%s", i, err, tail(p.w.trace, 30))
		}
		switch p.rnd.IntN(24) {
		case 0, 1:
			if len(p.images) < maxPast {
				p.take()
			}
		case 2:
			p.delete()
		case 3:
			p.compareSome()
		case 4:
			p.ok(upkeepOf(p.ctx, p.s, p.rnd.Uint32()))
		case 5:
			p.restoreAside()
		}
	}
	p.compare()
}

func (p *past) image(path string) map[string]string {
	p.t.Helper()
	a, err := p.s.Local.Resolve(p.ctx, fsapi.Root, path, false)
	p.ok(err)
	m, err := stack.Image(p.ctx, p.s.Local, a.Ino)
	p.ok(err)
	return m
}

func (p *past) take() {
	p.taken++
	name := fmt.Sprint("s", p.taken)
	_, err := p.s.Local.CreateSnapshot(p.ctx, fsapi.Root, vfs.Snapshot{Name: name})
	p.ok(err)
	p.images[name] = p.image("/work")
	// Who looks sets times of access: at both sides.
	_, err = stack.Image(p.ctx, p.w.fs[oracle], fsapi.RootIno)
	p.ok(err)
}

func (p *past) names() []string { return slices.Sorted(maps.Keys(p.images)) }

func (p *past) delete() {
	if names := p.names(); len(names) > 0 {
		name := names[p.rnd.IntN(len(names))]
		p.ok(p.s.Local.DeleteSnapshot(p.ctx, fsapi.Root, name))
		delete(p.images, name)
	}
}

// compare looks at every snapshot.
func (p *past) compare() {
	p.t.Helper()
	for _, name := range p.names() {
		p.compareOne(name)
	}
}

// compareSome looks at a few.
func (p *past) compareSome() {
	p.t.Helper()
	for i, names := 0, p.names(); i < min(3, len(names)); i++ {
		p.compareOne(names[p.rnd.IntN(len(names))])
	}
}

func (p *past) compareOne(name string) {
	p.t.Helper()
	if d := cmp.Diff(p.images[name], p.image(vfs.VirtualName+"/snapshots/"+name+"/work")); d != "" {
		p.t.Fatalf("snapshot %s (-want +got):\n%s\n%s", name, d, tail(p.w.trace, 30))
	}
}

// restoreAside makes a copy of a snapshot's tree, which must be like it but for
// times of change and birth and for names outside, and removes it.
func (p *past) restoreAside() {
	names := p.names()
	if len(names) == 0 {
		return
	}
	name := names[p.rnd.IntN(len(names))]
	_, err := p.s.Local.RestoreSnapshot(p.ctx, fsapi.Root, vfs.RestoreSnapshot{Snapshot: name, Path: "/work", To: "/aside"}, nil)
	p.ok(err)
	timeless := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for path, line := range m {
			out[path] = changeTimes.ReplaceAllString(line, "")
		}
		return out
	}
	if d := cmp.Diff(timeless(p.images[name]), timeless(p.image("/aside"))); d != "" {
		p.t.Fatalf("a copy of snapshot %s (-want +got):\n%s", name, d)
	}
	p.ok(removeTree(p.ctx, p.s.Local, fsapi.RootIno, "aside"))
}

func removeTree(ctx context.Context, fs vfs.FS, dir fsapi.Ino, name string) error {
	a, err := fs.Lookup(ctx, fsapi.Root, dir, name)
	if err != nil {
		return err
	}
	if a.Type != fsapi.TypeDirectory {
		return fs.Unlink(ctx, fsapi.Root, dir, name)
	}
	d, err := fs.OpenDir(ctx, fsapi.Root, a.Ino)
	if err != nil {
		return err
	}
	var names []string
	err = d.Read(ctx, 0, false, func(e fsapi.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	for _, n := range names {
		if err == nil {
			err = removeTree(ctx, fs, a.Ino, n)
		}
	}
	if err != nil {
		return err
	}
	return fs.Rmdir(ctx, fsapi.Root, dir, name)
}

// release checks everything with the snapshots there are, over a restart and
// garbage collection, then without them.
func (p *past) release() {
	p.ok(p.w.closeAll())
	p.ok(p.s.GC(p.ctx))
	p.ok(p.s.Restart())
	p.compare()
	p.ok(p.s.CheckSpace(p.ctx))
	p.compare()
	p.ok(p.s.Check(p.ctx))
	list, err := p.s.Local.Snapshots(p.ctx)
	p.ok(err)
	for _, snap := range list {
		if snap.Deleting {
			continue
		}
		err := p.s.Meta.CheckSnapshot(p.ctx, p.s.Volume, snap.ID, nil, func(b meta.Problem) { p.t.Errorf("%s: %s: %s", snap.Name, b.Kind, b.Text) })
		p.ok(err)
		p.ok(p.s.Local.DeleteSnapshot(p.ctx, fsapi.Root, snap.Name))
	}
	p.ok(removeTree(p.ctx, p.s.Local, fsapi.RootIno, "work"))
	_, err = p.s.Local.EmptyTrash(p.ctx, 0, time.Time{})
	p.ok(err)
	p.ok(p.s.Restart())
	for more := true; more; {
		more, err = p.s.Meta.ReclaimSnapshots(p.ctx, p.s.Volume, 100)
		p.ok(err)
	}
	p.ok(p.s.CheckSpace(p.ctx))
	p.ok(p.s.Check(p.ctx))
	var live int64
	p.ok(p.s.Meta.Segments(p.ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool { live += u.Live; return true }))
	journal, err := p.s.Meta.JournalBytes(p.ctx)
	p.ok(err)
	if live != 0 || journal != 0 {
		p.t.Errorf("nothing is left, and %d bytes in segments and %d in the journal live", live, journal)
	}
}
