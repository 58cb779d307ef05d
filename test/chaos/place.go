package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/bucket"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	objmem "github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

// illness is what is wrong with a place.
type illness uint32

const (
	well  illness = iota
	away          // nothing answers
	late          // calls come back long after their deadline; what they ask may happen then
	slow          // calls take long, and succeed
	full          // nothing can be written
	lies          // what was written before reads with a bit wrong
	flaky         // some calls fail, some of them after they took place; reads, of what was written before
	illnesses
)

func (i illness) String() string {
	return [...]string{"well", "away", "late", "slow", "full", "lies", "flaky"}[i]
}

// place is somewhere that a drive is, or was. It outlives kills.
type place struct {
	id     fsapi.DriveID
	tier   string
	seed   uint64
	room   int64                // bytes
	bucket *objmem.Bucket       // nil: a directory
	ill    atomic.Uint32        // illness
	wanted drive.State          // by an administrator
	can    *object.Capabilities // of the bucket, once probed
	gone   bool                 // for good: another took its place
	calls  atomic.Int32         // under way in it that take their time
	births atomic.Pointer[births]
	worn   worn // what it has of the time before it fell ill

	// Of the present life.
	base  drive.Drive // nil: not open
	watch *watch.Drive
	told  drive.State // what upkeep was told last
}

// worn is the blobs that a drive had when it began to lie or to be flaky. What is
// written afterwards reads: no policy with one replica outlives anything else, and
// nobody can tell such a drive from a good one.
type worn struct {
	mu    sync.Mutex
	names map[string]bool // false: written again since; guarded by mu
}

func (o *worn) set(names map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names = names
}

// has reports whether a blob was there, and whether it is as it was.
func (o *worn) has(name string) (was, still bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	still, was = o.names[name]
	return was, still
}

func (o *worn) renew(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.names[name]; ok {
		o.names[name] = false
	}
}

func (p *place) String() string       { return fmt.Sprintf("%s-%x", p.tier, uint64(p.id)) }
func (p *place) dir() string          { return fmt.Sprintf("/strake/d%x", uint64(p.id)) }
func (p *place) illness() illness     { return illness(p.ill.Load()) }
func (p *place) sicken(i illness)     { p.ill.Store(uint32(i)) }
func (p *place) answers() bool        { i := p.illness(); return i != away && i != late }
func (p *place) file(n string) string { return path.Join(p.dir(), n) }

// chance is a number of [0, n), which depends on what is asked, and on how often
// it was asked in this life.
func (p *place) chance(l *life, n int, what ...any) int {
	return l.chance(p.seed, n, append(what, p.id)...)
}

// falters says whether a call of a flaky drive fails: never so many in a row of one
// life that the drive is taken for one that is away there.
func (p *place) falters(l *life, what ...any) bool {
	fails := p.chance(l, 3, what...) == 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.faltered[p.id]++; !fails || l.faltered[p.id] > falterMost {
		l.faltered[p.id] = 0
		return false
	}
	return true
}

// patience is how long a call may take before nobody waits for it any more;
// tooLong is longer than anybody waits, and no call takes longest.
const (
	patience = 20 * time.Second
	tooLong  = 2 * patience
	longest  = tooLong + 2*time.Minute
)

// dawdle keeps a call for a time, whether its caller waits or not. Questions for
// room are not counted: write-back asks again and again while there is none.
func (p *place) dawdle(op fault.Op, d time.Duration) {
	if op != fault.Capacity {
		p.calls.Add(1)
		defer p.calls.Add(-1)
	}
	time.Sleep(d)
}

// watchFailures is how many failures in a row make a drive suspect. Calls that fail
// are falterMost in a row at most, in the order in which they are made; the drive is
// told of them in the order in which they come back, so that one that succeeded may
// come late.
const (
	watchFailures = 7
	falterMost    = 2
)

// rule is what becomes of the drive's calls in a life.
func (p *place) rule(l *life) fault.Rule {
	return func(c fault.Call) (o fault.Outcome) {
		if l.dead.Load() && p.bucket != nil {
			return fault.Outcome{Err: fsapi.Errorf(fsapi.NoDevice, "the process was killed")}
		}
		changes := c.Op == fault.Commit || c.Op == fault.Delete || c.Op == fault.Replace
		if c.Op == fault.Commit {
			p.worn.renew(c.Name)
		}
		_, old := p.worn.has(c.Name)
		switch p.illness() {
		case away:
			o.Err = fsapi.Errorf(fsapi.NoDevice, "it is away")
		case late:
			o.Err, o.Late = fsapi.Errorf(fsapi.IO, "it was too late"), changes && p.chance(l, 2, "late", c.Op, c.Name) == 0
			p.dawdle(c.Op, tooLong+time.Duration(p.chance(l, 100, "wait", c.Op, c.Name))*time.Second)
		case slow:
			p.dawdle(c.Op, time.Duration(p.chance(l, int(patience/time.Millisecond)/2, "wait", c.Op, c.Name, c.Off))*time.Millisecond)
		case full:
			if c.Op == fault.Write || c.Op == fault.Commit || c.Op == fault.Replace {
				o.Err = syscall.ENOSPC
			}
		case lies:
			if c.Op == fault.Read && c.Len > 0 && old {
				o.FlipBit = 1 + p.chance(l, 8*c.Len, "flip", c.Name, c.Off)
			}
		case flaky:
			if (c.Op != fault.Read || old) && p.falters(l, c.Op, c.Name, c.Off) {
				o.Err, o.Late = syscall.EIO, changes && p.chance(l, 2, "late", c.Op, c.Name) == 0
			}
		}
		return o
	}
}

// way is how a process gets to the place's bucket: one that is flaky leaves open
// whether requests took place.
func (p *place) way(l *life) *way {
	return &way{Bucket: p.bucket, of: "bucket " + p.String(), seed: p.seed, life: l, fate: func(r objmem.Request) (f fate) {
		switch {
		case p.illness() == away:
			f.err = fsapi.Errorf(fsapi.IO, "the bucket is away")
		case p.illness() == flaky && r.Op != objmem.Get && p.falters(l, r.Op, r.Key):
			f.err = fsapi.Errorf(fsapi.TimedOut, "no answer in time")
			f.late = p.chance(l, 2, "late", r.Op, r.Key) == 0
		}
		return f
	}}
}

// once: requests are made one time. A wait for another attempt would be one under
// locks, in which the time of a bubble does not pass.
func once(hold *provider.Memory) provider.Options {
	return provider.Options{Retry: backoff.Policy{Attempts: 1}, PartSize: partSize, Hold: hold}
}

// holdSize is bytes that the buckets of a life may hold together: two objects, so
// that some are sent whole, and others not.
const holdSize = 6 * partSize

// partSize is bytes of a part of an upload. Every other bucket would rather have up to
// four of them in one request.
const partSize = 64 << 10

// create makes the place a drive, empty.
func (p *place) create(disk osfs.FS) error {
	if p.bucket == nil {
		return dir.Init(disk, p.dir(), dir.Identity{ID: p.id, Created: time.Now().UTC().Truncate(time.Second)})
	}
	st, err := p.bucket.Open(once(nil))
	if err != nil {
		return err
	}
	return errors.Join(bucket.Init(context.Background(), st, bucket.Identity{ID: p.id, Created: time.Now()}), st.Close())
}

// open opens it for a life; fsapi.NoDevice while it does not answer.
func (p *place) open(disk osfs.FS, l *life) (drive.Drive, error) {
	p.base, p.watch = nil, nil
	if !p.answers() || p.gone {
		return nil, fsapi.Errorf(fsapi.NoDevice, "drive %s is away", p)
	}
	base, err := p.openBase(disk, l)
	if err != nil {
		return nil, err
	}
	p.base = base
	p.watch = watch.New(fault.New(&sized{Drive: base, p: p}, l.all.drive(p.String(), p.rule(l)), nil), watch.Options{
		Failures: watchFailures, OfflineAfter: 10 * time.Second, MaxCoolDown: 8 * time.Second, MaxStuck: 8,
		Read: patience, Write: patience, Commit: patience, Other: patience,
	})
	return p.watch, nil
}

func (p *place) openBase(disk osfs.FS, l *life) (drive.Drive, error) {
	if p.bucket == nil {
		return dir.Open(dir.Options{
			FS: disk, Path: p.dir(), Expect: p.id, Name: p.String(), Tier: p.tier, Domain: p.String(), Reserve: -1, Buffer: 64 << 10,
		})
	}
	st, err := provider.New(p.way(l), once(l.memory))
	if err != nil {
		return nil, err
	}
	d, err := bucket.Open(context.Background(), bucket.Options{Store: st, Expect: p.id, Name: p.String(), Tier: p.tier, Domain: p.String(), Has: p.can})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	can := d.Has()
	p.can = &can
	return d, nil
}

// close ends the drive's part in a life.
func (p *place) close() error {
	if p.base == nil {
		return nil
	}
	err := p.base.Close()
	p.base, p.watch = nil, nil
	return err
}

// sized is a drive of the size that its place has.
type sized struct {
	drive.Drive
	p *place

	mu      sync.Mutex
	used    int64     // bytes, when they were last counted; guarded by mu
	counted time.Time // guarded by mu
}

// countEvery is how long a count of the bytes on a drive is good for.
const countEvery = 2 * time.Minute

// bytes counts what is on the drive, now and then.
func (s *sized) bytes(ctx context.Context) (n int64, err error) {
	s.mu.Lock()
	n, counted := s.used, s.counted
	s.mu.Unlock()
	if time.Since(counted) < countEvery {
		return n, nil
	}
	n = 0
	for _, prefix := range prefixes {
		if err := s.List(ctx, prefix, "", func(b drive.Blob) error {
			n += b.Size
			return nil
		}); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used, s.counted = n, time.Now()
	return n, nil
}

// Create implements drive.Drive.
func (s *sized) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	w, err := s.Drive.Create(ctx, name, size)
	if err != nil {
		return nil, err
	}
	return &born{w, s.p, name}, nil
}

// Capacity implements drive.Drive.
func (s *sized) Capacity(ctx context.Context) (drive.Capacity, error) {
	n, err := s.bytes(ctx)
	if err != nil {
		return drive.Capacity{}, err
	}
	c := drive.Capacity{Total: s.p.room, Used: n}
	if s.p.illness() == full {
		c.Used = c.Total
	}
	c.Avail = max(0, c.Total-c.Used)
	return c, nil
}

// What follows looks at what is there, whatever the drive would say.

// blobs are the names of all.
func (p *place) blobs(disk *osfs.Mem) (map[string]bool, error) {
	names := map[string]bool{}
	for _, prefix := range prefixes {
		err := p.each(disk, prefix, func(name string) { names[name] = true })
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (p *place) each(disk *osfs.Mem, prefix string, fn func(name string)) error {
	if p.bucket != nil {
		return p.behind(func(st *provider.Store) error {
			return st.List(context.Background(), prefix, "", func(o object.Object) error {
				fn(o.Key)
				return nil
			})
		})
	}
	subs, err := disk.ReadDir(p.file(prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, sub := range subs {
		names, rerr := disk.ReadDir(p.file(path.Join(prefix, sub)))
		err = errors.Join(err, rerr)
		for _, name := range names {
			fn(path.Join(prefix, sub, name))
		}
	}
	return err
}

// raw is the bytes of a blob; nil: there is none.
func (p *place) raw(disk *osfs.Mem, name string) ([]byte, error) {
	if p.bucket != nil {
		var data []byte
		err := p.behind(func(st *provider.Store) error {
			o, err := st.Stat(context.Background(), name)
			if errors.Is(err, fsapi.NotExist) {
				return nil
			}
			if err == nil {
				data = make([]byte, o.Size)
				_, _, err = st.Get(context.Background(), name, 0, data)
			}
			return err
		})
		return data, err
	}
	f, err := disk.OpenFile(p.file(name), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// has reports whether a blob is there.
func (p *place) has(disk *osfs.Mem, name string) (bool, error) {
	if p.bucket != nil {
		data, err := p.raw(disk, name)
		return data != nil, err
	}
	_, err := disk.Stat(p.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// spoil replaces the bytes of a blob, or with nil takes it away.
func (p *place) spoil(disk *osfs.Mem, name string, data []byte) error {
	if p.bucket != nil {
		return p.behind(func(st *provider.Store) error {
			if data == nil {
				return st.Delete(context.Background(), name)
			}
			_, err := st.Put(context.Background(), name, bytes.NewReader(data), int64(len(data)), objectAlways)
			return err
		})
	}
	if data == nil {
		return errors.Join(disk.Remove(p.file(name)), disk.SyncDir(path.Dir(p.file(name))))
	}
	f, err := disk.OpenFile(p.file(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// behind is a store on the bucket of which nothing fails.
func (p *place) behind(do func(st *provider.Store) error) error {
	st, err := p.bucket.Open(provider.Options{})
	if err != nil {
		return err
	}
	return errors.Join(do(st), st.Close())
}
