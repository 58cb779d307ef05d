package osfs

import (
	"io"
	"io/fs"
	"sync/atomic"
	"time"
)

// The calls Fault asks its rule about.
const (
	OpOpen        Op = "open"
	OpRemove      Op = "remove"
	OpRemoveAll   Op = "removeall"
	OpRename      Op = "rename" // Name is the new one
	OpLink        Op = "link"   // Name is the new one
	OpMkdirAll    Op = "mkdirall"
	OpStat        Op = "stat"
	OpReadDir     Op = "readdir"
	OpSyncDir     Op = "syncdir"
	OpLock        Op = "lock"
	OpStatFS      Op = "statfs"
	OpRead        Op = "read"
	OpWrite       Op = "write"
	OpTruncate    Op = "truncate"
	OpSync        Op = "sync" // Sync and SyncData
	OpSyncRange   Op = "syncrange"
	OpPreallocate Op = "preallocate"
	OpDropCache   Op = "dropcache"
	OpClose       Op = "close"
)

// Fault passes calls on to a file system below unless its rule says otherwise.
type Fault struct {
	fs    FS
	rule  atomic.Pointer[Rule]
	sleep func(time.Duration)
}

var (
	_ FS   = (*Fault)(nil)
	_ File = (*faultFile)(nil)
)

// NewFault decorates fsys. A nil rule lets everything pass.
func NewFault(fsys FS, rule Rule) *Fault {
	f := &Fault{fs: fsys, sleep: time.Sleep}
	f.SetRule(rule)
	return f
}

// SetRule replaces the rule for calls that begin from now on, those on open
// files too. It may be called at any time.
func (f *Fault) SetRule(rule Rule) { f.rule.Store(&rule) }

// SetSleep replaces time.Sleep for delays. It must be called before first use.
func (f *Fault) SetSleep(sleep func(time.Duration)) { f.sleep = sleep }

// before asks the rule and waits its delay.
func (f *Fault) before(c Call) Outcome {
	rule := *f.rule.Load()
	if rule == nil {
		return Outcome{}
	}
	o := rule(c)
	if o.Delay > 0 {
		f.sleep(o.Delay)
	}
	o.Err = pathError(string(c.Op), c.Name, o.Err)
	return o
}

// check is before for calls that pass or fail, no more.
func (f *Fault) check(op Op, name string) error { return f.before(Call{Op: op, Name: name}).Err }

// OpenFile implements FS.
func (f *Fault) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := f.check(OpOpen, name); err != nil {
		return nil, err
	}
	file, err := f.fs.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fault: f}, nil
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// RemoveAll implements FS.
func (f *Fault) RemoveAll(name string) error {
	if err := f.check(OpRemoveAll, name); err != nil {
		return err
	}
	return f.fs.RemoveAll(name)
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	if err := f.check(OpRename, to); err != nil {
		return err
	}
	return f.fs.Rename(from, to)
}

// Link implements FS.
func (f *Fault) Link(from, to string) error {
	if err := f.check(OpLink, to); err != nil {
		return err
	}
	return f.fs.Link(from, to)
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.check(OpMkdirAll, name); err != nil {
		return err
	}
	return f.fs.MkdirAll(name, perm)
}

// Stat implements FS.
func (f *Fault) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(OpStat, name); err != nil {
		return nil, err
	}
	return f.fs.Stat(name)
}

// ReadDir implements FS.
func (f *Fault) ReadDir(name string) ([]string, error) {
	if err := f.check(OpReadDir, name); err != nil {
		return nil, err
	}
	return f.fs.ReadDir(name)
}

// SyncDir implements FS.
func (f *Fault) SyncDir(name string) error {
	if err := f.check(OpSyncDir, name); err != nil {
		return err
	}
	return f.fs.SyncDir(name)
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	if err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.fs.Lock(name)
}

// StatFS implements FS.
func (f *Fault) StatFS(name string) (Capacity, error) {
	if err := f.check(OpStatFS, name); err != nil {
		return Capacity{}, err
	}
	return f.fs.StatFS(name)
}

// faultFile asks the rule about calls on an open file.
type faultFile struct {
	File
	fault  *Fault
	forgot atomic.Bool // syncs do nothing: see Outcome.Forget
}

func (f *faultFile) check(op Op, off, n int64) error {
	return f.fault.before(Call{Op: op, Name: f.Name(), Off: off, Len: int(n)}).Err
}

// Read implements File. The rule sees no offset.
func (f *faultFile) Read(p []byte) (int, error) {
	return f.read(p, 0, func() (int, error) { return f.File.Read(p) })
}

// ReadAt implements File.
func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	return f.read(p, off, func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *faultFile) read(p []byte, off int64, call func() (int, error)) (int, error) {
	o := f.fault.before(Call{Op: OpRead, Name: f.Name(), Off: off, Len: len(p)})
	if o.Err != nil {
		return 0, o.Err
	}
	n, err := call()
	if bit := o.FlipBit - 1; bit >= 0 && bit/8 < n {
		p[bit/8] ^= 1 << (bit % 8)
	}
	return n, err
}

// Write implements File. The rule sees no offset.
func (f *faultFile) Write(p []byte) (int, error) { return f.write(p, 0, f.File.Write) }

// WriteAt implements File.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, off, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *faultFile) write(p []byte, off int64, call func([]byte) (int, error)) (int, error) {
	o := f.fault.before(Call{Op: OpWrite, Name: f.Name(), Off: off, Len: len(p)})
	if o.Err == nil {
		return call(p)
	}
	if short := min(o.Short, len(p)); short > 0 {
		n, err := call(p[:short])
		if err != nil {
			return n, err
		}
		return n, o.Err
	}
	return 0, o.Err
}

// Truncate implements File.
func (f *faultFile) Truncate(size int64) error {
	if err := f.check(OpTruncate, size, 0); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Sync implements File.
func (f *faultFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements File.
func (f *faultFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *faultFile) sync(call func() error) error {
	o := f.fault.before(Call{Op: OpSync, Name: f.Name()})
	if o.Err != nil && o.Forget {
		f.forgot.Store(true)
	}
	if o.Err != nil || f.forgot.Load() {
		return o.Err
	}
	return call()
}

// SyncRange implements File.
func (f *faultFile) SyncRange(off, n int64) error {
	if err := f.check(OpSyncRange, off, n); err != nil {
		return err
	}
	return f.File.SyncRange(off, n)
}

// Preallocate implements File.
func (f *faultFile) Preallocate(off, n int64) error {
	if err := f.check(OpPreallocate, off, n); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

// DropCache implements File.
func (f *faultFile) DropCache(off, n int64) error {
	if err := f.check(OpDropCache, off, n); err != nil {
		return err
	}
	return f.File.DropCache(off, n)
}

// Stat implements File.
func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.check(OpStat, 0, 0); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// Close implements File. The file below is closed whatever the rule says.
func (f *faultFile) Close() error {
	err := f.check(OpClose, 0, 0)
	if closeErr := f.File.Close(); closeErr != nil {
		return closeErr
	}
	return err
}
