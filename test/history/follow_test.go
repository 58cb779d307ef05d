package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/bucket"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
)

// TestFollower plays histories on a volume whose metadata is in a bucket, while
// another machine follows it there: what that one shows, whenever it has caught up,
// is what the writer shows, whatever it had in its caches before. While it lags
// behind it can read all the same, though what it knows of is given up.
func TestFollower(t *testing.T) {
	ops := 1500 / slowdown
	if long() {
		ops = 6_000
	}
	if *flagOps > 0 {
		ops = *flagOps
	}
	all := configs()
	for _, i := range []int{4, len(all)/2 + 3, len(all) - 5} {
		c := all[i]
		t.Run(c.name, func(t *testing.T) {
			f := startFollower(t, c)
			f.play(ops, rand.New(rand.NewPCG(*flagSeed, uint64(i))))
		})
	}
}

// follower is a writer and the machine that follows it.
type follower struct {
	t      *testing.T
	ctx    context.Context
	writer *stack.Stack
	engine *bucket.Follower
	slow   *slowView // over it, for meta
	meta   *meta.Store
	local  *vfs.Local
	seen   kv.Seq
}

func (f *follower) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func startFollower(t *testing.T, c config) *follower {
	b := mem.New(mem.Options{})
	engine := func() bucket.Options {
		s, err := b.Open(provider.Options{Prefix: "meta", Retry: backoff.Policy{Attempts: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return bucket.Options{
			Objects: s, Key: make([]byte, 32), FS: osfs.NewMem(osfs.MemOptions{}), Dir: "/cache", MemTableBytes: 256 << 10,
			CheckpointBytes: 256 << 10, FenceCheck: -1, PollMin: time.Hour, PollMax: time.Hour, Log: slog.New(slog.DiscardHandler),
		}
	}
	c.o.OpenEngine = func() (kv.Engine, error) { return bucket.Open(t.Context(), engine()) }
	f := &follower{t: t, ctx: context.Background(), writer: stack.Start(t, c.o)}
	f.ok(f.writer.Meta.Sync(f.ctx))
	var err error
	f.engine, err = bucket.Follow(f.ctx, engine())
	f.ok(err)
	t.Cleanup(func() { f.ok(f.engine.Close()) })
	f.slow = &slowView{Engine: f.engine}
	f.meta, err = meta.OpenReadOnly(f.ctx, f.slow, meta.Options{})
	f.ok(err)
	blobs, err := blob.New(blob.Options{Index: f.meta, Keys: f.writer.Keys, Drives: f.writer.Set, CacheBytes: 256 << 10})
	f.ok(err)
	t.Cleanup(func() { f.ok(blobs.Close()) })
	f.local, err = vfs.New(vfs.Options{
		Meta: f.meta, Blob: vfs.FromStore(blobs), Volume: f.writer.Volume, Nodes: 20, ReadOnly: true,
		CatchUp: f.engine.CatchUp, Log: slog.New(slog.DiscardHandler),
	})
	f.ok(err)
	t.Cleanup(func() { f.ok(f.local.Close(f.ctx)) })
	f.seen = f.engine.LastSeq()
	return f
}

// refresh gives the caches the batches that the engine shows.
func (f *follower) refresh() {
	f.t.Helper()
	for f.seen < f.engine.LastSeq() {
		tail, err := f.engine.Tail(f.seen + 1)
		if errors.Is(err, fsapi.NotExist) { // newer tables came instead
			f.seen = f.engine.LastSeq()
			f.meta.Refreshed()
			f.ok(f.local.RefreshAll(f.ctx))
			continue
		}
		f.ok(err)
		f.take(tail)
		tail.Close()
	}
}

func (f *follower) take(tail kv.Tail) {
	f.t.Helper()
	for f.seen < f.engine.LastSeq() {
		b, err := tail.Next(f.ctx)
		if errors.Is(err, fsapi.NotExist) {
			return
		}
		f.ok(err)
		vols, _, err := meta.TouchedBy(b)
		f.ok(err)
		f.meta.Refreshed()
		for _, v := range vols {
			f.ok(f.local.Refresh(f.ctx, v))
		}
		f.seen = b.Seq
	}
}

func (f *follower) play(ops int, rnd *rand.Rand) {
	w := newWorld(f.ctx, f.writer.Local, fsapi.RootIno, "", f.writer.Policy.Atime)
	w.drop = func() error { return f.writer.Local.DropCaches(f.ctx) }
	compared := 0
	for i, o := range generate(*flagSeed+7, ops, opRestart, opUpkeep) {
		if err := w.run(o); err != nil {
			f.t.Fatalf("operation %d: %v\n%s", i, err, tail(w.trace, 30))
		}
		switch rnd.IntN(40) {
		case 0, 1, 2:
			f.compare(w, i)
			compared++
		case 3, 4:
			f.ok(upkeepOf(f.ctx, f.writer, uint32(rnd.IntN(3))))
			f.lag(w)
		case 5, 6, 7:
			f.lag(w)
		case 8:
			f.ok(f.engine.CatchUp(f.ctx)) // shown, and the caches do not know
			f.lag(w)
		}
	}
	f.ok(w.closeAll())
	f.compare(w, ops)
	if compared == 0 {
		f.t.Fatal("nothing was compared")
	}
}

// compare wants both to show the same once everything is in the bucket.
func (f *follower) compare(w *world, at int) {
	f.t.Helper()
	f.ok(f.writer.Local.Syncfs(f.ctx))
	want, err := stack.Image(f.ctx, f.writer.Local, fsapi.RootIno)
	f.ok(err)
	// Who looks sets times of access: at both sides.
	_, err = stack.Image(f.ctx, w.fs[oracle], fsapi.RootIno)
	f.ok(err)
	f.ok(f.writer.Local.Syncfs(f.ctx))
	f.ok(f.engine.CatchUp(f.ctx))
	f.refresh()
	got, err := stack.Image(f.ctx, f.local, fsapi.RootIno)
	f.ok(err)
	if d := cmp.Diff(want, got); d != "" {
		f.t.Fatalf("operation %d: the follower differs (-writer +follower):\n%s\n%s", at, d, tail(w.trace, 30))
	}
	f.compareAccess(w, at)
}

// compareAccess wants both to let the same users in.
func (f *follower) compareAccess(w *world, at int) {
	f.t.Helper()
	for _, n := range w.alive(0) {
		if a, err := w.fs[oracle].Getattr(f.ctx, n.ino[oracle]); err != nil || a.Nlink == 0 {
			continue // only the writer has it open
		}
		for _, c := range []*fsapi.Cred{cred(7), cred(8)} {
			for _, want := range []uint32{4, 1} {
				there := f.writer.Local.Access(f.ctx, c, n.ino[subject], want)
				here := f.local.Access(f.ctx, c, n.ino[subject], want)
				if (there == nil) != (here == nil) || there != nil && fsapi.KindOf(there) != fsapi.KindOf(here) {
					f.t.Fatalf("operation %d: access of %d to #%d for %o: the writer says %v, the follower %v", at, c.Uid, n.id, want, there, here)
				}
			}
		}
	}
}

// lag reads files through the follower, which does not know the newest. One that is
// gone says so; reading the others does not fail.
func (f *follower) lag(w *world) {
	f.t.Helper()
	for _, n := range w.nodes {
		if n.typ != fsapi.TypeRegular {
			continue
		}
		h, err := f.local.Open(f.ctx, fsapi.Root, n.ino[subject], vfs.OpenRead|vfs.OpenNoTime)
		if err != nil {
			f.checkGone(err)
			continue
		}
		a, err := h.Attr(f.ctx)
		f.ok(err)
		p := make([]byte, min(a.Size, 1<<20))
		if _, err = h.ReadAt(f.ctx, p, 0); err != nil && !errors.Is(err, io.EOF) {
			f.checkGone(err)
		}
		f.ok(h.Close())
	}
}

// TestFollowerReadsOneState has a follower read files while the writer truncates,
// rewrites, removes and makes them, and gives up what was stored of them: every
// read is of one version, wholly, or says that the file is gone.
func TestFollowerReadsOneState(t *testing.T) {
	c := configs()[7]
	f := startFollower(t, c)
	rounds := 150
	if long() {
		rounds = 3000
	}
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	const files = 4
	name := func(i int) string { return fmt.Sprint("f", i) }
	write := func(i, version int) {
		fs := f.writer.Local
		if version%7 == 6 {
			if err := fs.Unlink(f.ctx, fsapi.Root, fsapi.RootIno, name(i)); err != nil && !errors.Is(err, fsapi.NotExist) {
				t.Error(err)
			}
		}
		_, h, err := fs.Create(f.ctx, fsapi.Root, fsapi.RootIno, name(i), vfs.NewNode{Mode: 0o644}, vfs.OpenWrite|vfs.OpenTrunc)
		f.ok(err)
		p := make([]byte, 3000+version*7919%60_000)
		for j := range p {
			p[j] = byte(version%250) + 1
		}
		_, err = h.WriteAt(f.ctx, p, 0)
		f.ok(err)
		f.ok(h.Sync(f.ctx, false))
		f.ok(h.Close())
	}
	for i := range files {
		write(i, i)
	}
	var readers sync.WaitGroup
	var full, gone atomic.Int64
	for i := range files {
		readers.Go(func() {
			var h vfs.File
			for n := 0; ctx.Err() == nil; n++ {
				if h == nil {
					a, err := f.local.Lookup(f.ctx, fsapi.Root, fsapi.RootIno, name(i))
					if err == nil {
						h, err = f.local.Open(f.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
					}
					if err != nil {
						f.checkGone(err)
						gone.Add(1)
						continue
					}
				}
				p := make([]byte, 100_000)
				got, err := h.ReadAt(f.ctx, p, 0)
				if err != nil {
					f.checkGone(err)
					gone.Add(1)
				}
				for j := range got {
					if p[j] == 0 || p[j] != p[0] {
						t.Errorf("read %d of %s: byte %d is of version %d, byte 0 of %d", n, name(i), j, p[j], p[0])
						return
					}
				}
				if got > 0 {
					full.Add(1)
				}
				if n%5 == 4 || err != nil {
					_ = h.Close()
					h = nil
				}
				if n%9 == 0 {
					_ = f.local.DropCaches(f.ctx)
				}
			}
			if h != nil {
				_ = h.Close()
			}
		})
	}
	for version := files; version < rounds && !t.Failed(); version++ {
		write(version%files, version)
		if version%10 == 0 {
			f.ok(f.writer.GC(f.ctx))
		}
		if version%3 == 0 {
			f.ok(f.engine.CatchUp(f.ctx))
			f.refresh()
		}
	}
	stop()
	readers.Wait()
	t.Logf("%d reads of a version, %d of what was gone", full.Load(), gone.Load())
	if full.Load() < int64(rounds) {
		t.Errorf("only %d reads read anything", full.Load())
	}
}

func (f *follower) checkGone(err error) {
	switch fsapi.KindOf(err) {
	case fsapi.NotExist, fsapi.Stale:
	default:
		f.t.Errorf("a follower that lags: %v", err)
	}
}

// slowView is an engine of which one view returns late, with what it saw before.
type slowView struct {
	kv.Engine
	hold atomic.Pointer[held] // taken by the next view
}

type held struct{ seen, goOn chan struct{} }

// View implements kv.Engine.
func (s *slowView) View(ctx context.Context, fn func(r kv.Reader) error) error {
	err := s.Engine.View(ctx, fn)
	if h := s.hold.Swap(nil); h != nil {
		close(h.seen)
		<-h.goOn
	}
	return err
}

// TestFollowerLookupDuringRefresh has a lookup read an inode before a batch is shown
// and return after the caches were given it: what it read is not kept.
func TestFollowerLookupDuringRefresh(t *testing.T) {
	f := startFollower(t, configs()[4])
	a, h, err := f.writer.Local.Create(f.ctx, fsapi.Root, fsapi.RootIno, "f", vfs.NewNode{Mode: 0o644}, vfs.OpenWrite)
	f.ok(err)
	size := func(n int64) {
		f.ok(h.Truncate(f.ctx, n))
		f.ok(h.Sync(f.ctx, false))
		f.ok(f.engine.CatchUp(f.ctx))
	}
	size(1000)
	f.refresh()
	f.ok(f.local.DropCaches(f.ctx))
	slow := &held{make(chan struct{}), make(chan struct{})}
	f.slow.hold.Store(slow)
	looked := make(chan error)
	go func() {
		_, err := f.local.Getattr(f.ctx, a.Ino)
		looked <- err
	}()
	<-slow.seen
	size(2000)
	f.refresh()
	close(slow.goOn)
	f.ok(<-looked)
	got, err := f.local.Getattr(f.ctx, a.Ino)
	f.ok(err)
	if got.Size != 2000 {
		t.Errorf("%d bytes, as before the batch that the caches were given", got.Size)
	}
	f.ok(h.Close())
}
