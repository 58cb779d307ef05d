// Package watch decorates a drive so that one which hangs or fails hangs nobody:
// each call has a deadline, a drive that keeps failing is left alone for a time,
// and how it fares is measured.
//
// It owns: deadlines, the state of a drive (online, suspect, offline), latencies
// and counts. It must not know which drive that is, nor what is done about a
// drive that is away.
//
// Goroutines: one for each call, because nothing else can leave a system call
// behind that does not come back (a hard NFS mount). A call that does not come
// back keeps its goroutine and its own copy of the data until it does; there are
// at most Options.MaxStuck of them beyond the calls that were running when the
// drive began to hang. Close does not wait for them.
//
// A call that was left behind may take place at any later time: a deletion after
// the blob was written again, say. Until it has come back every other call that
// would change the same blob is refused.
//
// Locks: breaker.mu, doubtful.mu and op.mu, each alone, never during calls;
// breaker.telling before breaker.mu, held while subscribers are told.
package watch

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Defaults of Options: for a disk or a NAS. A bucket's own attempts take longer.
const (
	DefaultRead         = 30 * time.Second
	DefaultWrite        = time.Minute
	DefaultCommit       = 2 * time.Minute
	DefaultOther        = 30 * time.Second
	DefaultMaxStuck     = 64
	DefaultFailures     = 5
	DefaultCoolDown     = time.Second
	DefaultMaxCoolDown  = time.Minute
	DefaultOfflineAfter = 2 * time.Minute
)

// Options say how patient one is. Zero fields have the defaults.
type Options struct {
	// Read is how long ReadAt may take, Write a Write of at most 1 MiB (longer
	// ones are cut), Commit a Commit or Replace, Other all else; of a listing,
	// the time from one blob to the next.
	Read, Write, Commit, Other time.Duration
	// Upload is how long Write and Commit of a writer may take where they wait for
	// other uploads and each ends by itself when nothing moves; 0: as Write and
	// Commit say.
	Upload time.Duration
	// MaxStuck bounds calls that did not come back.
	MaxStuck int
	// Failures is the number of failures in a row (no answer in time, fsapi.IO,
	// fsapi.NoDevice) that make a drive suspect.
	Failures int
	// CoolDown is how long a suspect drive is left alone before one call tries
	// it, twice as long after each that fails, up to MaxCoolDown.
	CoolDown, MaxCoolDown time.Duration
	// OfflineAfter is how long a drive is suspect before it is offline, which
	// differs in name only.
	OfflineAfter time.Duration
	// OnChange is told every change of state, in order, one at a time, by the
	// call that brought it about, which waits. It must not call the drive.
	OnChange func(Change)
	Clock    clock.Clock // nil: the machine's
}

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (o *Options) fill() {
	o.Read = orElse(o.Read, DefaultRead)
	o.Write = orElse(o.Write, DefaultWrite)
	o.Commit = orElse(o.Commit, DefaultCommit)
	o.Other = orElse(o.Other, DefaultOther)
	o.MaxStuck = orElse(o.MaxStuck, DefaultMaxStuck)
	o.Failures = orElse(o.Failures, DefaultFailures)
	o.CoolDown = orElse(o.CoolDown, DefaultCoolDown)
	o.MaxCoolDown = orElse(o.MaxCoolDown, DefaultMaxCoolDown)
	o.OfflineAfter = orElse(o.OfflineAfter, DefaultOfflineAfter)
	if o.Clock == nil {
		o.Clock = clock.Real
	}
}

// Drive is watched. Safe for concurrent use.
type Drive struct {
	below   drive.Drive
	opts    Options
	breaker breaker
	ops     [opCount]meter
	stuck   atomic.Int64
	// doubtful says of which blobs stuck calls leave open what becomes of them.
	doubtful doubtful
	buffers  sync.Pool // of *[]byte
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
)

// New decorates d, which is taken to be online.
func New(d drive.Drive, o Options) *Drive {
	o.fill()
	w := &Drive{below: d, opts: o, doubtful: doubtful{calls: map[string]int{}}}
	w.breaker.opts = &w.opts
	w.breaker.status.Since = o.Clock.Now()
	return w
}

// Unwrap is the drive below.
func (d *Drive) Unwrap() drive.Drive { return d.below }

// Info implements drive.Drive.
func (d *Drive) Info() drive.Info { return d.below.Info() }

// Status is how the drive fares.
func (d *Drive) Status() Status {
	s := d.breaker.now()
	s.Stuck = int(d.stuck.Load())
	return s
}

// Probe asks the drive for a blob that is not there: an answer makes a suspect
// drive online. Whoever uses drives calls it now and then for those that nobody
// uses. Within a cool-down it is refused as other calls are.
func (d *Drive) Probe(ctx context.Context) error {
	_, err := d.Stat(ctx, "strake-probe")
	if errors.Is(err, fsapi.NotExist) {
		return nil
	}
	return err
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	buf := d.buffer(len(p))
	c := call{d: d, op: Read, name: name, limit: d.opts.Read}
	n, err := run(ctx, c, func(ctx context.Context) (int, error) {
		return d.below.ReadAt(ctx, name, off, *buf)
	}, func(int) { d.buffers.Put(buf) })
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err // the buffer may be in use still
	}
	copy(p, (*buf)[:n])
	d.buffers.Put(buf)
	d.ops[Read].addBytes(n)
	return n, err
}

// buffer is n bytes that the call may keep while its caller has gone on.
func (d *Drive) buffer(n int) *[]byte {
	if b, ok := d.buffers.Get().(*[]byte); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n)
	return &b
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	return run(ctx, call{d: d, op: Stat, name: name, limit: d.opts.Other}, func(ctx context.Context) (drive.Blob, error) {
		return d.below.Stat(ctx, name)
	}, nil)
}

// none is what calls return that return an error only.
type none struct{}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	_, err := run(ctx, call{d: d, op: Delete, name: name, limit: d.opts.Other, changes: []string{name}}, func(ctx context.Context) (none, error) {
		return none{}, d.below.Delete(ctx, name)
	}, nil)
	return err
}

// DeleteMany implements drive.BatchDeleter. It may take as long as a Commit for
// every 100 names begun.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	names = append([]string(nil), names...)
	c := call{d: d, op: Delete, name: "many", limit: d.opts.Commit * time.Duration(1+len(names)/100), changes: names}
	_, err := run(ctx, c, func(ctx context.Context) (none, error) {
		return none{}, drive.DeleteMany(ctx, d.below, names)
	}, nil)
	return err
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	return run(ctx, call{d: d, op: Capacity, limit: d.opts.Other, idle: true}, d.below.Capacity, nil)
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	if len(data) <= drive.MaxReplace { // else it is refused
		data = append([]byte(nil), data...)
	}
	_, err := run(ctx, call{d: d, op: Replace, name: name, limit: d.opts.Commit, changes: []string{name}}, func(ctx context.Context) (none, error) {
		return none{}, d.below.Replace(ctx, name, data)
	}, nil)
	if err == nil {
		d.ops[Replace].addBytes(len(data))
	}
	return err
}

// Close implements drive.Drive. It returns in time, closed or not.
func (d *Drive) Close() error {
	_, err := run(context.Background(), call{d: d, op: Close, limit: d.opts.Commit, idle: true, always: true}, func(context.Context) (none, error) {
		return none{}, d.below.Close()
	}, nil)
	return err
}
