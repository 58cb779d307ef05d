package diskcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

const pageSize = 1024

// rig is a cache over a drive that counts reads and can be made to fail, on a
// file system that can, too.
type rig struct {
	t     *testing.T
	disk  *osfs.Mem
	fs    *osfs.Fault
	below *mem.Drive
	slow  *fault.Drive
	*Drive

	mu    sync.Mutex
	reads []fault.Call // guarded by mu
	rule  fault.Rule   // guarded by mu
}

func newRig(t *testing.T, change func(*Options)) *rig {
	r := &rig{t: t, disk: osfs.NewMem(osfs.MemOptions{}), below: mem.New(mem.Options{Info: drive.Info{ID: 7, Name: "nas"}})}
	r.fs = osfs.NewFault(r.disk, nil)
	r.slow = fault.New(r.below, func(c fault.Call) fault.Outcome {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c.Op == fault.Read {
			r.reads = append(r.reads, c)
		}
		if r.rule != nil {
			return r.rule(c)
		}
		return fault.Outcome{}
	}, nil)
	r.open(change)
	return r
}

func (r *rig) open(change func(*Options)) {
	r.t.Helper()
	o := Options{Drive: r.slow, Dir: "/cache", Bytes: 100 * (pageSize + headerLen), Page: pageSize, FS: r.fs}
	if change != nil {
		change(&o)
	}
	d, err := Open(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Drive = d
	r.t.Cleanup(func() { d.Close() })
}

// again opens the cache anew, as another process would.
func (r *rig) again(change func(*Options)) {
	r.t.Helper()
	if err := r.lock.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open(change)
}

func (r *rig) setRule(rule fault.Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rule = rule
}

// asked is how many reads the slow drive saw since it was last asked.
func (r *rig) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.reads)
	r.reads = nil
	return n
}

func (r *rig) put(name string, n int) []byte {
	r.t.Helper()
	data := drivetest.Bytes(uint64(len(name)+n), n)
	if err := drivetest.Put(r.t.Context(), r.Drive, name, data, 0, 700); err != nil {
		r.t.Fatal(err)
	}
	return data
}

func (r *rig) want(name string, data []byte, off, n int) {
	r.t.Helper()
	p := make([]byte, n)
	got, err := r.ReadAt(r.t.Context(), name, int64(off), p)
	left := max(0, len(data)-off)
	if got != min(n, left) || (err != nil) != (n > left) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p[:got], data[off:off+got]) {
		r.t.Fatalf("%s [%d,+%d): %d bytes, %v", name, off, n, got, err)
	}
}

func (r *rig) files() (list []string) {
	r.t.Helper()
	dirs, err := r.disk.ReadDir("/cache/pages")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, sub := range dirs {
		names, err := r.disk.ReadDir(path.Join("/cache/pages", sub))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, n := range names {
			list = append(list, path.Join("/cache/pages", sub, n))
		}
	}
	return list
}

// damage changes the bytes of every page's file.
func (r *rig) damage(fn func([]byte) []byte) {
	r.t.Helper()
	for _, name := range r.files() {
		f, err := r.disk.OpenFile(name, 2, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err == nil {
			err = f.Truncate(0)
		}
		if err == nil {
			_, err = f.WriteAt(fn(b), 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"read":          func(*Options) {},
		"write through": func(o *Options) { o.WriteThrough = true },
		"small":         func(o *Options) { o.WriteThrough, o.Bytes = true, maxRun*(4096+headerLen) },
		"full directory": func(o *Options) {
			o.WriteThrough = true
			o.FS = osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), func(c osfs.Call) osfs.Outcome {
				if c.Op == osfs.OpWrite && strings.Contains(c.Name, "/pages/") {
					return osfs.Outcome{Err: syscall.ENOSPC, Short: c.Len / 2}
				}
				return osfs.Outcome{}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(t *testing.T, d drive.Drive, fsys osfs.FS) drive.Drive {
				o := Options{Drive: d, Dir: "/cache", Bytes: 1 << 20, Page: 4096, FS: fsys}
				change(&o)
				c, err := Open(o)
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			drivetest.Run(t, func(t *testing.T) drive.Drive {
				return open(t, mem.New(mem.Options{}), osfs.NewMem(osfs.MemOptions{}))
			}, drivetest.Capabilities{
				Reopen: func(t *testing.T, d drive.Drive) drive.Drive {
					c := d.(*Drive)
					c.Unwrap().(*mem.Drive).Reopen()
					return open(t, c.Unwrap(), c.o.FS)
				},
			})
		})
	}
}

// What was read is read again without asking the drive, also by the next process
// and while the drive hangs.
func TestCachedRangesNeedNoDrive(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", 5*pageSize+100)
	r.want("seg/a", data, 0, len(data))
	if n := r.asked(); n != 1 {
		t.Errorf("%d reads of the drive for one of the cache", n)
	}
	r.setRule(func(fault.Call) fault.Outcome { return fault.Outcome{Hang: true} })
	for range 2 {
		for off := 0; off < len(data); off += 333 {
			r.want("seg/a", data, off, min(900, len(data)-off))
		}
		r.want("seg/a", data, len(data)-50, 100)
		if n := r.asked(); n != 0 {
			t.Errorf("%d reads of the drive", n)
		}
		r.again(nil)
	}
	r.want("seg/a", data, 0, len(data))
	if s := r.Stats(); s.Hits == 0 || s.Misses != 0 || s.Pages != 6 {
		t.Errorf("%+v", s)
	}
}

// A page that has rotted is fetched again, and the reader sees nothing.
func TestRottenPages(t *testing.T) {
	for name, rot := range map[string]func([]byte) []byte{
		"data":   func(b []byte) []byte { b[headerLen+5] ^= 1; return b },
		"header": func(b []byte) []byte { b[17] ^= 1; return b },
		"zeros":  func(b []byte) []byte { return make([]byte, len(b)) },
		"short":  func(b []byte) []byte { return b[:len(b)/2] },
		"empty":  func(b []byte) []byte { return nil },
		"other":  func(b []byte) []byte { return seal(8, "seg/a", 0, b[headerLen:]) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			data := r.put("seg/a", 3*pageSize)
			r.want("seg/a", data, 0, len(data))
			r.damage(rot)
			r.want("seg/a", data, 10, 2*pageSize)
			if s := r.Stats(); s.Bad < 1 || r.asked() < 2 {
				t.Errorf("%+v", s)
			}
			r.want("seg/a", data, 0, len(data))
			r.asked()
			r.want("seg/a", data, 0, len(data))
			if n := r.asked(); n != 0 {
				t.Errorf("it is not kept again: %d reads", n)
			}
			r.damage(rot)
			r.again(nil)
			r.want("seg/a", data, 0, len(data))
		})
	}
}

// Many readers of one page make one read of the drive; one who gives up leaves it
// to the others.
func TestConcurrentReadersShareAFetch(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", pageSize)
	begun, release := make(chan struct{}), make(chan struct{})
	first := true
	r.setRule(func(c fault.Call) fault.Outcome {
		if c.Op != fault.Read {
			return fault.Outcome{}
		}
		if first {
			first = false
			close(begun)
			return fault.Outcome{Hang: true}
		}
		r.mu.Unlock()
		<-release
		r.mu.Lock()
		return fault.Outcome{}
	})
	ctx, giveUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.ReadAt(ctx, "seg/a", 0, make([]byte, 10)); err == nil {
			t.Error("read although it gave up")
		}
	})
	<-begun
	for i := range 20 {
		wg.Go(func() {
			p := make([]byte, 100)
			if _, err := r.ReadAt(t.Context(), "seg/a", int64(i*40), p); err != nil || !bytes.Equal(p, data[i*40:i*40+100]) {
				t.Error(err)
			}
		})
	}
	giveUp()
	close(release)
	wg.Wait()
	if n := r.asked(); n != 2 {
		t.Errorf("%d reads of the drive, one of which was given up", n)
	}
}

// A scan of far more than fits leaves what is read again and again.
func TestScanKeepsWhatIsInUse(t *testing.T) {
	r := newRig(t, nil)
	used := r.put("seg/used", 30*pageSize)
	big := r.put("seg/big", 1000*pageSize)
	for range 4 {
		r.want("seg/used", used, 0, len(used))
	}
	for off := 0; off < len(big); off += 400 { // reads smaller than a page
		r.want("seg/big", big, off, min(400, len(big)-off))
		if off%40_000 == 0 {
			r.want("seg/used", used, (off/40_000%30)*pageSize, pageSize)
		}
	}
	r.asked()
	r.want("seg/used", used, 0, len(used))
	if n := r.asked(); n != 0 {
		t.Errorf("a scan flushed what is in use: %d reads", n)
	}
	s := r.Stats()
	if s.PageBytes > r.o.Bytes || len(r.files()) != int(s.Pages) {
		t.Errorf("%+v of at most %d bytes in %d files", s, r.o.Bytes, len(r.files()))
	}
}

// Deleted, written again, replaced: no old byte is seen.
func TestInvalidation(t *testing.T) {
	for _, through := range []bool{false, true} {
		r := newRig(t, func(o *Options) { o.WriteThrough = through })
		data := r.put("seg/a", 3*pageSize)
		r.want("seg/a", data, 0, len(data))
		if err := r.Delete(t.Context(), "seg/a"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadAt(t.Context(), "seg/a", 0, make([]byte, 1)); !errors.Is(err, fsapi.NotExist) || len(r.files()) != 0 {
			t.Errorf("deleted: %v, %v", err, r.files())
		}
		data = r.put("seg/a", 2*pageSize+1)
		r.asked()
		r.want("seg/a", data, 0, len(data))
		if n := r.asked(); (n == 0) != through {
			t.Errorf("write through %v: %d reads of what was just written", through, n)
		}
		// One who loses the race for a name leaves nothing of what he wrote.
		if err := drivetest.Put(t.Context(), r.Drive, "seg/a", make([]byte, 4*pageSize), 0, 500); !errors.Is(err, fsapi.Exist) {
			t.Errorf("written twice: %v", err)
		}
		r.want("seg/a", data, 0, len(data))
		if err := r.Replace(t.Context(), "seg/a", []byte("new")); err != nil {
			t.Fatal(err)
		}
		r.want("seg/a", []byte("new"), 0, 3)
		r.again(nil)
		r.want("seg/a", []byte("new"), 0, 3)
	}
}

// A blob deleted while it is fetched is not kept.
func TestDeletedWhileFetched(t *testing.T) {
	r := newRig(t, nil)
	r.put("seg/a", pageSize)
	r.setRule(func(c fault.Call) fault.Outcome {
		if c.Op == fault.Read {
			r.mu.Unlock()
			r.Forget("seg/a")
			r.mu.Lock()
		}
		return fault.Outcome{}
	})
	if _, err := r.ReadAt(t.Context(), "seg/a", 0, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Pages != 0 || len(r.files()) != 0 || len(r.flights) != 0 {
		t.Errorf("%+v, %v", s, r.files())
	}
}

// What is read while a blob is being deleted is not there afterwards.
func TestReadWhileDeleted(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", pageSize)
	r.setRule(func(c fault.Call) fault.Outcome {
		if c.Op == fault.Delete {
			r.mu.Unlock()
			r.want("seg/a", data, 0, len(data))
			r.mu.Lock()
		}
		return fault.Outcome{}
	})
	if err := r.Delete(t.Context(), "seg/a"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(t.Context(), "seg/a", 0, make([]byte, 10)); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("deleted: %d bytes, %v", n, err)
	}
}

// Who reads a blob while it is replaced gets no bytes of both.
func TestReplacedWhileRead(t *testing.T) {
	r := newRig(t, nil)
	old, next := r.put("seg/a", 2*pageSize), bytes.Repeat([]byte("next"), 2*pageSize/4)
	r.want("seg/a", old, 0, 10) // the first page is cached
	r.setRule(func(c fault.Call) fault.Outcome {
		if c.Op == fault.Read {
			r.rule = nil
			r.mu.Unlock()
			if err := r.Replace(t.Context(), "seg/a", next); err != nil {
				t.Error(err)
			}
			r.mu.Lock()
		}
		return fault.Outcome{}
	})
	r.want("seg/a", next, 0, len(next))
	r.want("seg/a", next, 0, len(next))
}

// Who reads after a blob was deleted, and written anew, does not wait for a fetch
// that began before, nor take what it brings.
func TestReadAfterDeletionBesideFetch(t *testing.T) {
	r := newRig(t, nil)
	r.put("seg/a", pageSize)
	begun, release := make(chan struct{}), make(chan struct{})
	first := true
	r.setRule(func(c fault.Call) fault.Outcome {
		if c.Op == fault.Read && first {
			first = false
			close(begun)
			r.mu.Unlock()
			<-release
			r.mu.Lock()
		}
		return fault.Outcome{}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = r.ReadAt(t.Context(), "seg/a", 0, make([]byte, 10)) // whatever it finds
	})
	<-begun
	if err := r.Delete(t.Context(), "seg/a"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.ReadAt(ctx, "seg/a", 0, make([]byte, 10)); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("after it was deleted: %v", err)
	}
	data := r.put("seg/a", pageSize/2)
	p := make([]byte, len(data))
	for range 2 {
		if _, err := r.ReadAt(ctx, "seg/a", 0, p); err != nil || !bytes.Equal(p, data) {
			t.Errorf("written anew it is not what was written, %v", err)
		}
	}
	close(release)
	wg.Wait()
	r.want("seg/a", data, 0, len(data))
	if len(r.flights) != 0 {
		t.Errorf("%d fetches are left", len(r.flights))
	}
}

// The cache of another drive, or with other pages, is not used.
func TestIdentity(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", 3*pageSize)
	r.want("seg/a", data, 0, len(data))
	if _, err := Open(r.o); !errors.Is(err, fsapi.Busy) {
		t.Errorf("opened twice: %v", err)
	}
	r.again(func(o *Options) { o.Page = 2 * pageSize })
	if s := r.Stats(); s.Pages != 0 || len(r.files()) != 0 {
		t.Errorf("other pages: %+v", s)
	}
	r.want("seg/a", data, 0, len(data))
	other := mem.New(mem.Options{Info: drive.Info{ID: 8}})
	if err := drivetest.Put(t.Context(), other, "seg/a", []byte("other bytes"), 0, 100); err != nil {
		t.Fatal(err)
	}
	r.again(func(o *Options) { o.Drive, o.Page = other, 2*pageSize })
	r.want("seg/a", []byte("other bytes"), 0, 11)
}

// Where the directory is full or broken the cache just does not cache, and tries
// again later.
func TestFullDirectory(t *testing.T) {
	c := &hands{now: time.Unix(1_750_000_000, 0)}
	r := newRig(t, func(o *Options) { o.Clock = c })
	data := r.put("seg/a", 3*pageSize)
	r.fs.SetRule(func(c osfs.Call) osfs.Outcome {
		if c.Op == osfs.OpWrite {
			return osfs.Outcome{Err: syscall.ENOSPC, Short: c.Len / 2}
		}
		return osfs.Outcome{}
	})
	for range 3 {
		r.want("seg/a", data, 0, len(data))
	}
	if s := r.Stats(); s.Failures != 1 || len(r.files()) != 0 {
		t.Errorf("%+v, %v", s, r.files())
	}
	r.fs.SetRule(nil)
	c.now = c.now.Add(time.Minute)
	r.want("seg/a", data, 0, len(data))
	if s := r.Stats(); s.Pages != 3 {
		t.Errorf("after there was room again: %+v", s)
	}
}

// hands is a clock that a test moves; not while it is in use.
type hands struct{ now time.Time }

func (h *hands) Now() time.Time                       { return h.now }
func (h *hands) After(time.Duration) <-chan time.Time { return nil }

// Any call on the directory may fail, at random: every read is right.
func TestAnyFault(t *testing.T) {
	for seed := range uint64(20) {
		c := &hands{now: time.Unix(1_750_000_000, 0)}
		r := newRig(t, func(o *Options) { o.Clock, o.WriteThrough = c, seed%2 == 0 })
		rule := osfs.Random(seed, osfs.Odds{Fail: 0.15, Flip: 0.1})
		r.fs.SetRule(func(c osfs.Call) osfs.Outcome {
			if !strings.Contains(c.Name, "/pages/") {
				return osfs.Outcome{}
			}
			return rule(c)
		})
		rnd := rand.New(rand.NewPCG(seed, 1))
		blobs := map[string][]byte{}
		for range 300 {
			c.now = c.now.Add(time.Minute)
			name := fmt.Sprint("seg/", rnd.IntN(8))
			data, there := blobs[name]
			switch {
			case !there:
				blobs[name] = r.put(name, 1+rnd.IntN(20*pageSize))
			case rnd.IntN(30) == 0:
				if err := r.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				delete(blobs, name)
			default:
				off := rnd.IntN(len(data))
				r.want(name, data, off, 1+rnd.IntN(4*pageSize))
			}
		}
	}
}

// After a power cut whatever is left of the directory is right or not used.
func TestCrash(t *testing.T) {
	for seed := range uint64(30) {
		r := newRig(t, func(o *Options) { o.WriteThrough = seed%2 == 0 })
		blobs := map[string][]byte{}
		for i := range 6 {
			name := fmt.Sprint("seg/", i)
			blobs[name] = r.put(name, (i+1)*3*pageSize/2)
			r.want(name, blobs[name], 0, len(blobs[name]))
		}
		rnd := rand.New(rand.NewPCG(seed, 2))
		disk := r.disk.CrashClone(rnd, osfs.AnyCrash(rnd))
		d, err := Open(Options{Drive: r.slow, Dir: "/cache", Bytes: r.o.Bytes, Page: pageSize, FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		r.Drive = d
		for name, data := range blobs {
			r.want(name, data, 0, len(data))
		}
	}
}

// Readers who must see the place do.
func TestUncached(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", pageSize)
	r.want("seg/a", data, 0, pageSize)
	r.setRule(func(fault.Call) fault.Outcome { return fault.Outcome{Err: syscall.EIO} })
	if _, err := r.ReadAt(drive.Uncached(t.Context()), "seg/a", 0, make([]byte, 10)); !errors.Is(err, fsapi.IO) {
		t.Errorf("read from the cache: %v", err)
	}
	r.setRule(nil)
	r.again(func(o *Options) { o.Cache = func(name string) bool { return strings.HasPrefix(name, "seg/") } })
	other := r.put("other", pageSize)
	for range 2 {
		r.want("other", other, 0, pageSize)
		if r.asked() == 0 {
			t.Error("a name that is not to be cached was")
		}
	}
}

func TestWarm(t *testing.T) {
	r := newRig(t, nil)
	data := r.put("seg/a", 40*pageSize+7)
	r.want("seg/a", data, 3*pageSize, pageSize)
	r.asked()
	n, err := r.Warm(t.Context(), "seg/a")
	if err != nil || n != int64(len(data)-pageSize) || r.asked() != 4 {
		t.Errorf("warmed %d bytes, %v", n, err)
	}
	if n, err := r.Warm(t.Context(), "seg/a"); err != nil || n != 0 || r.asked() != 0 {
		t.Errorf("again: %d bytes, %v", n, err)
	}
	r.want("seg/a", data, 0, len(data))
	if r.asked() != 0 {
		t.Error("what was warmed is read from the drive")
	}
	if _, err := r.Warm(t.Context(), "seg/none"); !errors.Is(err, fsapi.NotExist) {
		t.Error(err)
	}
}

func FuzzPage(f *testing.F) {
	good := seal(7, "seg/a", 3, []byte("some data"))
	f.Add(good)
	f.Add(good[:headerLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Error(err)
			}
			return
		}
		again := make([]byte, headerLen)
		h.encode(again)
		if h2, err := decodeHeader(again); err != nil || h2 != h {
			t.Errorf("%+v became %+v, %v", h, h2, err)
		}
		if data, err := open(slices.Clone(b), h.drive, h.name, h.page); err == nil && len(data) != int(h.length) {
			t.Errorf("%d bytes of %d", len(data), h.length)
		}
	})
}
