package vfs_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// counted counts what is asked of an engine, and fails it on demand.
type counted struct {
	kv.Engine
	updates, syncs atomic.Int64
	fail           atomic.Pointer[error]
}

func newCounted(t testing.TB) *counted {
	e, err := mem.Open(mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Engine: e}
}

func (e *counted) Update(ctx context.Context, o kv.UpdateOptions, fn func(kv.Tx) error) (kv.Seq, error) {
	if err := e.fail.Load(); err != nil {
		return 0, *err
	}
	e.updates.Add(1)
	return e.Engine.Update(ctx, o, fn)
}

func (e *counted) Sync(ctx context.Context) error {
	e.syncs.Add(1)
	return e.Engine.Sync(ctx)
}

// idle keeps write-back by age out of a test.
func idle(o *vfs.Options) { o.FlushAge = time.Hour }

// failing makes every call of a drive's writer fail while on is set.
type failing struct {
	on  atomic.Bool
	err error
}

func (f *failing) hook(op, _ string) error {
	if f.on.Load() && (op == "Write" || op == "Commit" || op == "Create") {
		return f.err
	}
	return nil
}

func TestSyncCostsOneTransactionAndOneLogFlush(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle})
	f := r.create("f")
	defer f.Close()
	r.write(f, noise(1, 1<<20), 0)
	r.ok(f.Sync(r.ctx, false))
	more := 0
	for i := range 10 {
		r.write(f, noise(uint64(i), 4096), int64(i)*8192)
		u, s := e.updates.Load(), e.syncs.Load()
		r.ok(f.Sync(r.ctx, true))
		u, s = e.updates.Load()-u, e.syncs.Load()-s
		if u > 1 { // the volume's janitor looks once for what is to be released
			more++
		}
		if u < 1 || s != 1 || more > 2 {
			t.Fatalf("fsync of 4 KiB took %d transactions and %d log flushes", u, s)
		}
	}
	u := e.updates.Load()
	r.ok(f.Sync(r.ctx, false))
	if n := e.updates.Load() - u; n != 0 {
		t.Fatalf("fsync of a clean file took %d transactions", n)
	}
}

func TestAsyncWaitsForNothing(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle, policy: func(p *policy.Policy) { p.Ack = policy.AckAsync }})
	f := r.create("f")
	defer f.Close()
	r.write(f, noise(1, 4096), 0)
	u, s := e.updates.Load(), e.syncs.Load()
	r.ok(f.Sync(r.ctx, false))
	if e.updates.Load() != u || e.syncs.Load() != s {
		t.Fatal("fsync of an async file did something")
	}
}

func TestSmallFilesShareATransaction(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle})
	const files = 1000
	for i := range files {
		f := r.create(fmt.Sprint(i))
		r.write(f, noise(uint64(i), 4096), 0)
		r.ok(f.Close())
	}
	u, s := e.updates.Load(), e.syncs.Load()
	r.ok(r.fs.Syncfs(r.ctx))
	if u, s := e.updates.Load()-u, e.syncs.Load()-s; u > 4 || s != 1 {
		t.Fatalf("storing %d small files took %d transactions and %d log flushes", files, u, s)
	}
	r.ok(r.fs.DropCaches(r.ctx))
	for _, i := range []int{0, 511, 512, files - 1} {
		a, err := r.fs.Lookup(r.ctx, fsapi.Root, fsapi.RootIno, fmt.Sprint(i))
		r.ok(err)
		f, err := r.fs.Open(r.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
		r.ok(err)
		r.wants(f, noise(uint64(i), 4096))
		r.ok(f.Close())
	}
}

func TestTinyFilesGoInline(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	f := r.create("f")
	defer f.Close()
	r.write(f, bytes.Repeat([]byte("tiny "), 100), 0)
	r.ok(f.Sync(r.ctx, false))
	x, err := r.fs.Explain(r.ctx, f.Ino())
	r.ok(err)
	if len(x.Extents) != 1 || x.Extents[0].Kind != fsapi.ExtentInline || x.Dirty != 0 {
		t.Fatalf("stored as %+v", x)
	}
	r.write(f, []byte("more"), 500)
	r.ok(f.Sync(r.ctx, false))
	r.wants(f, append(bytes.Repeat([]byte("tiny "), 100), "more"...))
}

func TestStreamIsStoredWhileItIsWritten(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		o.FlushAge, o.Segment, o.DirtyMax = time.Hour, 8<<20, 24<<20
	}})
	f := r.create("f")
	defer f.Close()
	data := noise(3, 96<<20)
	for off := 0; off < len(data); off += 1 << 20 {
		r.write(f, data[off:off+1<<20], int64(off))
	}
	if s := r.fs.Stats(); s.DirtyBytes > 32<<20 {
		t.Fatalf("%d dirty bytes in memory, with a bound of %d", s.DirtyBytes, 24<<20)
	}
	r.ok(f.Sync(r.ctx, false))
	if s := r.fs.Stats(); s.DirtyBytes != 0 {
		t.Fatalf("%d dirty bytes in memory after fsync", s.DirtyBytes)
	}
	r.wants(f, data)
	// Chunks must not end where flushes happened to: writing the same again
	// finds every chunk but those around the last byte.
	dup := r.blob.Stats().BytesDup
	g := r.create("g")
	defer g.Close()
	for off := 0; off < len(data); off += 300_000 {
		r.write(g, data[off:min(off+300_000, len(data))], int64(off))
	}
	r.ok(g.Sync(r.ctx, false))
	if d := int(r.blob.Stats().BytesDup - dup); d < len(data)-4<<20 {
		t.Fatalf("only %d of %d bytes were found as duplicates", d, len(data))
	}
}

// blocked holds up the drive until release.
type blocked struct {
	entered chan struct{}
	release chan struct{}
}

func (b *blocked) hook(op, _ string) error {
	if op != "Commit" {
		return nil
	}
	select {
	case b.entered <- struct{}{}:
	default:
	}
	<-b.release
	return nil
}

func TestWritesDuringWriteBackAreNotLost(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	b := &blocked{entered: make(chan struct{}, 1), release: make(chan struct{})}
	f := r.create("f")
	defer f.Close()
	data := noise(1, 3<<20)
	r.write(f, data, 0)
	r.drive.Fail = b.hook
	done := make(chan error, 1)
	go func() { done <- f.Sync(r.ctx, false) }()
	<-b.entered
	over := noise(2, 200_000)
	r.write(f, over, 1_000_000)
	copy(data[1_000_000:], over)
	r.wants(f, data)
	r.ok(f.Truncate(r.ctx, 2_000_000))
	r.write(f, []byte("end"), 2_500_000)
	data = append(data[:2_000_000], make([]byte, 500_000)...)
	data = append(data, "end"...)
	r.wants(f, data)
	close(b.release)
	r.ok(<-done)
	r.wants(f, data)
	r.ok(f.Sync(r.ctx, false))
	r.ok(r.fs.DropCaches(r.ctx))
	r.wants(f, data)
}

func TestFailedWriteBack(t *testing.T) {
	for _, kind := range []fsapi.Kind{fsapi.IO, fsapi.NoSpace} {
		t.Run(kind.Error(), func(t *testing.T) {
			r := newRig(t, rigOptions{options: idle})
			bad := &failing{err: fsapi.Errorf(kind, "injected")}
			r.drive.Fail = bad.hook
			f := r.create("f")
			g, err := r.fs.Open(r.ctx, fsapi.Root, f.Ino(), rw)
			r.ok(err)
			data := noise(1, 2<<20)
			r.write(f, data, 0)
			bad.on.Store(true)
			r.fails(kind, f.Sync(r.ctx, false))
			r.fails(kind, f.Sync(r.ctx, false))
			r.wants(f, data)
			// Each handle hears of it once.
			r.fails(kind, g.Flush(r.ctx, vfs.LockOwner{}))
			r.ok(g.Flush(r.ctx, vfs.LockOwner{}))
			r.ok(f.Flush(r.ctx, vfs.LockOwner{}))
			r.fails(kind, r.fs.Syncfs(r.ctx))
			bad.on.Store(false)
			r.write(f, []byte("more"), 2<<20)
			r.fails(kind, g.Sync(r.ctx, false)) // D6: what failed since its last report
			r.ok(g.Sync(r.ctx, false))
			r.ok(f.Close())
			r.ok(g.Close())
			r.ok(r.fs.Close(r.ctx))
			r.open(idle)
			f, err = r.fs.Open(r.ctx, fsapi.Root, f.Ino(), vfs.OpenRead)
			r.ok(err)
			r.wants(f, append(data, "more"...))
			r.ok(f.Close())
		})
	}
}

// TestFenced: once another writer has taken over nothing can be stored any more, and
// who writes is told at once.
func TestFenced(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	bad := &failing{err: fsapi.Errorf(fsapi.Fenced, "injected")}
	r.drive.Fail = bad.hook
	f := r.create("f")
	g := r.create("g")
	data := noise(1, 2<<20)
	r.write(f, data, 0)
	bad.on.Store(true)
	r.fails(fsapi.Fenced, f.Sync(r.ctx, false))
	_, err := g.WriteAt(r.ctx, data, 0)
	r.fails(fsapi.Fenced, err)
	r.wants(f, data)
	bad.on.Store(false)
	r.ok(f.Close())
	r.ok(g.Close())
}

func TestFailingDriveDoesNotHangWriters(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		o.DirtyMax, o.FlushAge, o.Segment = 4<<20, 10*time.Millisecond, 1<<20
	}})
	bad := &failing{err: fsapi.Errorf(fsapi.NoSpace, "injected")}
	r.drive.Fail = bad.hook
	f := r.create("f")
	defer f.Close()
	bad.on.Store(true)
	var err error
	written := 0
	for err == nil && written < 64<<20 {
		_, err = f.WriteAt(r.ctx, noise(uint64(written), 1<<20), int64(written))
		if err == nil {
			written += 1 << 20
		}
	}
	r.fails(fsapi.NoSpace, err)
	bad.on.Store(false)
	for r.fs.Syncfs(r.ctx) != nil {
	}
	r.write(f, noise(uint64(written), 1<<20), int64(written))
	for off := 0; off < written; off += 1 << 20 {
		if !bytes.Equal(r.read(f, int64(off), 1<<20), noise(uint64(off), 1<<20)) {
			t.Fatalf("data at %d is not what was written", off)
		}
	}
}

func TestFailingLog(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle})
	f := r.create("f")
	defer f.Close()
	r.write(f, []byte("data"), 0)
	err := fsapi.Errorf(fsapi.IO, "injected")
	e.fail.Store(&err)
	r.fails(fsapi.IO, f.Sync(r.ctx, false))
	_, _, createErr := r.fs.Create(r.ctx, fsapi.Root, fsapi.RootIno, "g", vfs.NewNode{Mode: 0o644}, rw)
	r.fails(fsapi.IO, createErr)
	_, lookErr := r.fs.Lookup(r.ctx, fsapi.Root, fsapi.RootIno, "g")
	r.fails(fsapi.NotExist, lookErr)
	r.wants(f, []byte("data"))
	e.fail.Store(nil)
	r.ok(f.Sync(r.ctx, false))
	r.ok(r.fs.DropCaches(r.ctx))
	r.wants(f, []byte("data"))
}

func TestRenameOverStoresTheSourceFirst(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle})
	old := r.create("old")
	r.write(old, []byte("old"), 0)
	r.ok(old.Close())
	f := r.create("new")
	defer f.Close()
	r.write(f, noise(1, 100_000), 0)
	r.ok(r.fs.Rename(r.ctx, fsapi.Root, fsapi.RootIno, "new", fsapi.RootIno, "old", 0))
	x, err := r.fs.Explain(r.ctx, f.Ino())
	r.ok(err)
	if x.Dirty != 0 || len(x.Extents) == 0 {
		t.Fatalf("after the rename %d bytes are dirty and %d extents stored", x.Dirty, len(x.Extents))
	}
}

func TestUnlinkedFilesAreNotStored(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	for i := range 50 {
		f := r.create(fmt.Sprint(i))
		r.write(f, noise(uint64(i), 100_000), 0)
		if i%2 == 0 { // the others are orphans until they are closed
			r.ok(f.Close())
		}
		r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, fmt.Sprint(i)))
		if i%2 == 1 {
			r.wants(f, noise(uint64(i), 100_000))
			r.ok(f.Close())
		}
	}
	if s := r.fs.Stats(); s.DirtyBytes != 0 {
		t.Fatalf("%d bytes of removed files are dirty", s.DirtyBytes)
	}
	r.ok(r.fs.Syncfs(r.ctx))
	if b := r.blob.Stats().BytesAdded; b != 0 {
		t.Fatalf("%d bytes of removed files were stored", b)
	}
}

func TestDataIsStoredByAge(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) { o.FlushAge = 20 * time.Millisecond }})
	f := r.create("f")
	defer f.Close()
	r.write(f, noise(1, 100_000), 0)
	r.ok(f.Truncate(r.ctx, 200_000))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		x, err := r.fs.Explain(r.ctx, f.Ino())
		r.ok(err)
		if x.Dirty == 0 && len(x.Extents) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("data was not stored by age")
		}
	}
}

func TestQuotaIsToldByWrite(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	d, err := r.fs.Mknod(r.ctx, fsapi.Root, fsapi.RootIno, "d", vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	r.ok(err)
	r.ok(r.fs.SetQuota(r.ctx, fsapi.Root, d.Ino, vfs.Quota{Bytes: 1 << 20}))
	_, f, err := r.fs.Create(r.ctx, fsapi.Root, d.Ino, "f", vfs.NewNode{Mode: 0o644}, rw)
	r.ok(err)
	defer f.Close()
	r.write(f, noise(1, 700_000), 0)
	_, err = f.WriteAt(r.ctx, noise(2, 700_000), 700_000)
	r.fails(fsapi.Quota, err)
	r.write(f, noise(3, 700_000), 0) // an overwrite takes nothing more
	r.ok(f.Sync(r.ctx, false))
	st, err := r.fs.Statfs(r.ctx, d.Ino)
	r.ok(err)
	if st.Total != 1<<20 || st.Used+st.Free != st.Total || st.Used < 700_000 {
		t.Fatalf("statfs says %+v", st)
	}
}

func TestConcurrentSyncsShare(t *testing.T) {
	e := newCounted(t)
	r := newRig(t, rigOptions{engine: e, options: idle})
	f := r.create("f")
	defer f.Close()
	r.write(f, make([]byte, 16*64<<10), 0)
	r.ok(f.Sync(r.ctx, false))
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				p := noise(uint64(w*100+i), 4096)
				off := int64(w) * 64 << 10
				if _, err := f.WriteAt(r.ctx, p, off); err != nil {
					t.Error(err)
				}
				if err := f.Sync(r.ctx, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.ok(r.fs.DropCaches(r.ctx))
	for w := range 16 {
		if !bytes.Equal(r.read(f, int64(w)*64<<10, 4096), noise(uint64(w*100+19), 4096)) {
			t.Fatalf("the last write of writer %d is not there", w)
		}
	}
}

// What one barrier has taken from the queue and is still storing, another must
// wait for.
func TestSyncfsWaitsForWhatAnotherStores(t *testing.T) {
	r := newRig(t, rigOptions{options: idle})
	b := &blocked{entered: make(chan struct{}, 1), release: make(chan struct{})}
	f := r.create("f")
	defer f.Close()
	r.write(f, noise(1, 3<<20), 0)
	r.drive.Fail = b.hook
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- r.fs.Syncfs(r.ctx) }()
	<-b.entered
	go func() { second <- r.fs.Syncfs(r.ctx) }()
	select {
	case err := <-second:
		t.Errorf("the second barrier returned (%v) before the data was stored", err)
		second <- err
	case <-time.After(100 * time.Millisecond): // it waits, as it should
	}
	close(b.release)
	r.ok(<-first)
	r.ok(<-second)
}

// What write-back has of a file that is removed while it is being streamed is
// given up: the memory goes back to the budget.
func TestUnlinkedStreamFreesMemory(t *testing.T) {
	budget := vfs.NewBudget(16 << 20)
	r := newRig(t, rigOptions{options: func(o *vfs.Options) { o.Budget, o.FlushAge = budget, time.Hour }})
	for i := range 6 {
		f := r.create("f")
		for k := range 12 {
			r.write(f, noise(uint64(100*i+k), 1<<20), int64(k)<<20)
		}
		r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, "f"))
		r.ok(f.Close())
	}
	r.ok(r.fs.Syncfs(r.ctx))
	for start := time.Now(); budget.Used() != 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%d bytes are held for files that are gone", budget.Used())
		}
	}
}

// A batch that renames over a file stores what the source has first, as Rename
// does (D2): a crash then finds the old content or the whole new one.
func TestBatchRenameStoresTheSource(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) { o.FlushAge = time.Hour }})
	r.ok(r.create("old").Close())
	f := r.create("new")
	r.write(f, noise(1, 100_000), 0)
	x, err := r.fs.Explain(r.ctx, f.Ino())
	r.ok(err)
	if x.Dirty == 0 {
		t.Fatal("nothing is dirty before the batch: nothing is tested")
	}
	_, err = r.fs.Batch(r.ctx, fsapi.Root, []vfs.Op{{Kind: vfs.OpRename, Path: "/new", To: "/old"}})
	r.ok(err)
	x, err = r.fs.Explain(r.ctx, f.Ino())
	r.ok(err)
	if x.Dirty != 0 || len(x.Extents) == 0 {
		t.Errorf("%d bytes are dirty after the rename, %d extents stored", x.Dirty, len(x.Extents))
	}
	r.wants(f, noise(1, 100_000))
	r.ok(f.Close())
}

// TestStreamFillsSegments: what is written from one end to the other lies in full
// segments, not in full ones with one of a few bytes behind each: a bucket bills
// every object.
func TestStreamFillsSegments(t *testing.T) {
	for name, chunking := range map[string]policy.Chunking{
		"content": policy.Default().Chunking,
		"fixed":   {Fixed: 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{policy: func(p *policy.Policy) { p.Chunking = chunking }})
			f := r.create("f")
			const block, blocks = 1 << 20, 200
			for i := range blocks {
				r.write(f, noise(uint64(i), block), int64(i)*block)
			}
			r.ok(f.Sync(r.ctx, false))
			var sizes []int64
			r.ok(r.meta.Segments(r.ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
				sizes = append(sizes, u.Size)
				return true
			}))
			small := 0
			for _, n := range sizes {
				if n < 56<<20 {
					small++
				}
			}
			if small > 1 || len(sizes) > 4 {
				t.Errorf("%d MiB are in segments of %d bytes", blocks, sizes)
			}
			r.ok(f.Close())
		})
	}
}

// looked is an engine after each of whose transactions somebody looks at what a
// crash would leave.
type looked struct {
	kv.Engine
	look atomic.Pointer[func()]
}

func (e *looked) Update(ctx context.Context, o kv.UpdateOptions, fn func(kv.Tx) error) (kv.Seq, error) {
	seq, err := e.Engine.Update(ctx, o, fn)
	if look := e.look.Load(); look != nil {
		(*look)()
	}
	return seq, err
}

// TestCutBehindAStream cuts a file of which a flight has taken data that it has not
// stored yet: no transaction leaves content beyond the end, which a file that grows
// after a crash would show.
func TestCutBehindAStream(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  int64 // the file's size then
		grow int64 // and after it was written to again
	}{{"to nothing", 0, 0}, {"to a part", 3<<20 + 100, 0}, {"and grows", 100, 7 << 20}} {
		t.Run(c.name, func(t *testing.T) {
			e := &looked{Engine: newCounted(t)}
			r := newRig(t, rigOptions{engine: e, options: func(o *vfs.Options) {
				o.FlushAge, o.Segment, o.DirtyMax = time.Hour, 8<<20, 24<<20
			}})
			look := func() {
				r.ok(r.meta.Check(r.ctx, r.fs.Volume(), nil, func(p meta.Problem) { t.Error(p) }))
			}
			e.look.Store(&look)
			f := r.create("f")
			defer f.Close()
			data := noise(5, 10<<20)
			r.write(f, data, 0)
			r.ok(f.Sync(r.ctx, false))
			// Some of this is in a flight that is not full, and not all of it stored.
			again := noise(6, 20<<20)
			for off := 0; off < len(again); off += 1 << 20 {
				r.write(f, again[off:off+1<<20], int64(off))
			}
			size := c.cut
			a, err := f.Attr(r.ctx)
			r.ok(err)
			_, err = r.fs.Setattr(r.ctx, fsapi.Root, a.Ino, vfs.SetAttr{Size: &size})
			r.ok(err)
			want := again[:c.cut]
			if c.grow > 0 {
				r.write(f, []byte("end"), c.grow)
				want = append(append(slices.Clone(want), make([]byte, c.grow-c.cut)...), "end"...)
			}
			r.ok(f.Sync(r.ctx, false))
			r.wants(f, want)
			r.ok(r.fs.DropCaches(r.ctx))
			r.wants(f, want)
		})
	}
}
