// Package fault decorates a drive so that tests can make it fail: errors, full
// drives, slowness, hangs, wrong bits and writes that are lost although they
// were acknowledged.
//
// It owns: what happens to a call before it reaches the drive below. It must
// not know which drive that is.
package fault

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Op names a call.
type Op string

// The calls a rule is asked about.
const (
	Create   Op = "create"
	Write    Op = "write"
	Commit   Op = "commit"
	Read     Op = "read"
	Stat     Op = "stat"
	List     Op = "list" // Name is the prefix
	Delete   Op = "delete"
	Capacity Op = "capacity"
	Replace  Op = "replace"
)

// Call is one call on its way down.
type Call struct {
	Op   Op
	Name string // of the blob
	Off  int64  // of a read
	Len  int    // of what is read or written
}

// Outcome is what happens to a call. The zero Outcome lets it pass.
type Outcome struct {
	// Delay is waited first, or until the context ends.
	Delay time.Duration
	// Hang waits until the context ends.
	Hang bool
	// Err is returned instead of calling down. Errors without a kind get one:
	// ENOSPC is fsapi.NoSpace, anything else fsapi.IO. A Commit that fails
	// leaves nothing behind.
	Err error
	// Late makes Err come after the call below was made: a Commit, Delete or
	// Replace which happened although it failed.
	Late bool
	// Lost makes a Commit, Delete or Replace succeed without happening.
	Lost bool
	// FlipBit, where 1 or more, inverts bit FlipBit-1 of what is read.
	FlipBit int
}

// Rule decides about calls. It may be called concurrently.
type Rule func(Call) Outcome

// Drive passes calls on unless its rule says otherwise. Safe for concurrent
// use.
type Drive struct {
	drive drive.Drive
	clock clock.Clock
	rule  atomic.Pointer[Rule]
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
)

// New decorates d. A nil rule lets everything pass; a nil clock is the
// machine's.
func New(d drive.Drive, rule Rule, c clock.Clock) *Drive {
	if c == nil {
		c = clock.Real
	}
	f := &Drive{drive: d, clock: c}
	f.SetRule(rule)
	return f
}

// SetRule replaces the rule for calls that begin from now on.
func (d *Drive) SetRule(rule Rule) { d.rule.Store(&rule) }

// Unwrap is the drive below.
func (d *Drive) Unwrap() drive.Drive { return d.drive }

// before asks the rule and waits. early is the error to return at once.
func (d *Drive) before(ctx context.Context, c Call) (o Outcome, early error) {
	rule := *d.rule.Load()
	if rule == nil {
		return Outcome{}, nil
	}
	o = rule(c)
	if err := d.wait(ctx, o); err != nil {
		o.Err = d.named(c, fsapi.KindOf(err), err)
		return o, o.Err
	}
	if o.Err == nil {
		return o, nil
	}
	o.Err = d.named(c, kindOf(o.Err), o.Err)
	if o.Late {
		return o, nil
	}
	return o, o.Err
}

func (d *Drive) wait(ctx context.Context, o Outcome) error {
	var after <-chan time.Time
	switch {
	case o.Hang:
	case o.Delay > 0:
		after = d.clock.After(o.Delay)
	default:
		return nil
	}
	select {
	case <-after:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Drive) named(c Call, k fsapi.Kind, err error) error {
	return fsapi.Errorf(k, "drive %s: %s: injected: %w", d.drive.Info().Name, drive.Doing(string(c.Op), c.Name), err)
}

func kindOf(err error) fsapi.Kind {
	if errors.Is(err, syscall.ENOSPC) {
		return fsapi.NoSpace
	}
	if k := fsapi.KindOf(err); k != fsapi.Other {
		return k
	}
	return fsapi.IO
}

// refuse is before for calls of which nothing but an error can come.
func (d *Drive) refuse(ctx context.Context, c Call) error {
	o, _ := d.before(ctx, c)
	return o.Err
}

// change is a call that changes the drive: it may be lost, or fail late.
func (d *Drive) change(ctx context.Context, c Call, call func() error) error {
	o, err := d.before(ctx, c)
	if err != nil || o.Lost {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	return o.Err
}

// Info implements drive.Drive.
func (d *Drive) Info() drive.Info { return d.drive.Info() }

// Create implements drive.Drive.
func (d *Drive) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	if err := d.refuse(ctx, Call{Op: Create, Name: name}); err != nil {
		return nil, err
	}
	w, err := d.drive.Create(ctx, name, size)
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, d: d, ctx: ctx, name: name}, nil
}

// ReadAt implements drive.Drive.
func (d *Drive) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	o, err := d.before(ctx, Call{Op: Read, Name: name, Off: off, Len: len(p)})
	if err != nil {
		return 0, err
	}
	n, err := d.drive.ReadAt(ctx, name, off, p)
	if bit := o.FlipBit - 1; bit >= 0 && bit/8 < n {
		p[bit/8] ^= 1 << (bit % 8)
	}
	if o.Err != nil {
		return 0, o.Err
	}
	return n, err
}

// Stat implements drive.Drive.
func (d *Drive) Stat(ctx context.Context, name string) (drive.Blob, error) {
	if err := d.refuse(ctx, Call{Op: Stat, Name: name}); err != nil {
		return drive.Blob{}, err
	}
	return d.drive.Stat(ctx, name)
}

// List implements drive.Drive.
func (d *Drive) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	if err := d.refuse(ctx, Call{Op: List, Name: prefix}); err != nil {
		return err
	}
	return d.drive.List(ctx, prefix, after, fn)
}

// Delete implements drive.Drive.
func (d *Drive) Delete(ctx context.Context, name string) error {
	return d.change(ctx, Call{Op: Delete, Name: name}, func() error { return d.drive.Delete(ctx, name) })
}

// DeleteMany implements drive.BatchDeleter: the rule is asked about each name.
func (d *Drive) DeleteMany(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := d.Delete(ctx, name); err != nil && !errors.Is(err, fsapi.NotExist) {
			return err
		}
	}
	return nil
}

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	if err := d.refuse(ctx, Call{Op: Capacity}); err != nil {
		return drive.Capacity{}, err
	}
	return d.drive.Capacity(ctx)
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	return d.change(ctx, Call{Op: Replace, Name: name, Len: len(data)}, func() error {
		return d.drive.Replace(ctx, name, data)
	})
}

// Close implements drive.Drive. The rule has no say.
func (d *Drive) Close() error { return d.drive.Close() }

// writer asks the rule about a blob being written.
type writer struct {
	drive.Writer
	d    *Drive
	ctx  context.Context // of Create, for Write has none
	name string
}

// Write implements drive.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.d.refuse(w.ctx, Call{Op: Write, Name: w.name, Len: len(p)}); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// Commit implements drive.Writer.
func (w *writer) Commit(ctx context.Context) error {
	defer w.Abort()
	return w.d.change(ctx, Call{Op: Commit, Name: w.name}, func() error { return w.Writer.Commit(ctx) })
}
