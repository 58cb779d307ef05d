// Package dir is a drive in a directory of a local disk or of a NAS mount.
//
// It owns: the layout of the directory, the drive's identity file, how blobs
// are written, and the open descriptors. It must not know what is in the blobs.
//
// Layout: a blob is the file of its name below the root. Names of blobs have no
// part that starts with a dot; .strake holds what is not a blob: drive (the
// identity), owner (the store it belongs to), attachment (whether it was detached
// cleanly), lock (held while open), tmp (blobs being written, emptied at Open).
//
// A directory on a NAS without locks can be taken over by another store, or another
// copy of this one, while it is open: every deletion and replacement asks owner
// first, commits every few seconds.
//
// Locks: attachment.mu is held while the mark is written, by those who are about
// to write; no other is taken under it. Drive.mu guards descriptors and commits in
// progress and is never held during I/O; writer.mu comes before it. Goroutines: a
// writer has at most one, writing a buffer out; Commit, Abort and Close wait for it.
package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

const (
	privateDir   = ".strake"
	identityFile = "drive"
	ownerFile    = "owner"
	markFile     = "attachment"
	lockFile     = "lock"
	tempDir      = "tmp"
)

// WriteMode is how blobs reach the disk.
type WriteMode int

// The modes.
const (
	// WriteDirect bypasses the page cache with O_DIRECT, or is WriteBuffered
	// where the file system refuses that. Its speed and its cost in CPU do not
	// depend on how much free memory the host has at hand.
	WriteDirect WriteMode = iota
	// WriteBuffered goes through the page cache, starting write-out early so
	// that the final fdatasync is short.
	WriteBuffered
)

// Defaults of Options.
const (
	DefaultReserve   = 256 << 20 // bytes
	DefaultOpenFiles = 256
	DefaultBuffer    = 2 << 20 // bytes
)

// Options say which directory, and how.
type Options struct {
	FS   osfs.FS // nil: osfs.OS
	Path string
	// Expect is the id the directory must have; zero: any.
	Expect fsapi.DriveID
	// Role is what it must be for; "": a drive.
	Role identity.Role
	// Owner is the store that it must belong to, and belongs to from now on if it
	// belongs to none; nil: any. TakeOver: whichever it belongs to.
	Owner    *identity.Owner
	TakeOver bool
	// Claiming is asked before Owner is written there; nil: nobody is.
	Claiming identity.Claiming
	// ReadOnly opens a place that another process writes to: it must belong to
	// Owner already, nothing in it is changed, and what would fails with
	// fsapi.ReadOnly.
	ReadOnly bool
	// Name, Tier and Domain go into Info.
	Name, Tier, Domain string
	// Spindown goes there, too.
	Spindown bool
	// Reserve is bytes of the file system that blobs must leave free; zero:
	// DefaultReserve; negative: none. Replace may use them.
	Reserve int64
	Write   WriteMode
	// OpenFiles bounds the descriptors kept open for reading, besides those in
	// use at the moment; zero: DefaultOpenFiles.
	OpenFiles int
	// Buffer is bytes of each of the two buffers a writer has, rounded up to
	// osfs.DirectAlign; zero: DefaultBuffer. Up to 8 free ones are kept.
	Buffer int
	// DropCache makes the host forget pages after buffered writes and after
	// reads of 1 MiB and more.
	DropCache bool
	// Clock says since when what was written is at risk; nil: the machine's, as
	// times of blobs are the file system's.
	Clock clock.Clock
}

func (o *Options) fill() {
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = DefaultOpenFiles
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	o.Buffer = roundUp(o.Buffer)
	o.Reserve = max(o.Reserve, 0)
}

func roundUp(n int) int { return (n + osfs.DirectAlign - 1) / osfs.DirectAlign * osfs.DirectAlign }

// Drive is a directory that is open as a drive. Safe for concurrent use.
type Drive struct {
	opts    Options
	fs      osfs.FS
	info    drive.Info
	lock    io.Closer // nil where the file system has no locks
	direct  bool
	links   atomic.Bool // hard links work, as far as is known
	temps   atomic.Uint64
	buffers chan []byte // free buffers of opts.Buffer bytes
	handles handles
	claimed *identity.Claim // nil: whoever's it is

	attached attachment

	mu sync.Mutex
	// All below is guarded by mu.
	closed  bool
	calls   int                // running
	idle    chan struct{}      // closed when closed and no calls run
	commits map[string]*commit // running, by blob
	lost    map[string]bool    // hidden until the next Open: neither made durable nor removed
	synced  map[string]bool    // directories whose names are durable
	writers map[*writer]struct{}
}

var (
	_ drive.Drive        = (*Drive)(nil)
	_ drive.BatchDeleter = (*Drive)(nil)
	_ drive.Claimed      = (*Drive)(nil)
)

// Open opens the drive in a directory that Init made one. fsapi.NotExist: there
// is none; fsapi.Stale: it is another one than expected; fsapi.Busy: a process
// has it open; fsapi.Corrupt: its identity is damaged.
func Open(o Options) (*Drive, error) {
	o.fill()
	id, err := ReadIdentity(o.FS, o.Path)
	if err != nil {
		return nil, err
	}
	if o.Expect != 0 && o.Expect != id.ID {
		return nil, fsapi.Errorf(fsapi.Stale, "%s holds drive %s, not %s: another disk is mounted there", o.Path, id.ID, o.Expect)
	}
	if err := id.Is(o.Role, o.Path); err != nil {
		return nil, err
	}
	d := &Drive{
		opts: o, fs: o.FS,
		info: drive.Info{ID: id.ID, Name: o.Name, Kind: "dir", Where: o.Path, Tier: o.Tier, Domain: o.Domain, Spindown: o.Spindown},

		buffers: make(chan []byte, 8), idle: make(chan struct{}),
		handles: newHandles(o.OpenFiles),
		commits: map[string]*commit{}, lost: map[string]bool{}, synced: map[string]bool{}, writers: map[*writer]struct{}{},
	}
	d.links.Store(true)
	if o.ReadOnly {
		if err := d.claim(); err != nil {
			return nil, err
		}
		return d, nil
	}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	if err := errors.Join(d.claim(), d.clearTemps(), d.loadMark()); err != nil {
		return nil, errors.Join(err, d.unlock())
	}
	d.claimed = identity.NewClaim(d.opts.Owner, o.Path, o.Clock.Now, func(context.Context) (identity.Owner, error) { return ReadOwner(o.FS, o.Path) })
	d.direct = o.Write == WriteDirect && d.probeDirect()
	return d, nil
}

func (d *Drive) takeLock() error {
	lock, err := d.fs.Lock(path.Join(d.opts.Path, privateDir, lockFile))
	switch {
	case err == nil:
		d.lock = lock
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fsapi.Errorf(fsapi.Busy, "drive %s in %s is in use by another process", d.info.ID, d.opts.Path)
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOLCK):
		// Some NAS mounts have no locks.
	default:
		return d.fail(err, "lock", "")
	}
	return nil
}

func (d *Drive) unlock() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

// clearTemps removes what a crash left of blobs never committed.
func (d *Drive) clearTemps() error {
	tmp := path.Join(d.opts.Path, privateDir, tempDir)
	if err := d.fs.MkdirAll(tmp, 0o700); err != nil {
		return d.fail(err, "open", "")
	}
	names, err := d.fs.ReadDir(tmp)
	if err != nil {
		return d.fail(err, "open", "")
	}
	for _, name := range names {
		if err := d.fs.Remove(path.Join(tmp, name)); err != nil {
			return d.fail(err, "remove what a crash left of", name)
		}
	}
	return nil
}

// probeDirect writes a little with O_DIRECT: some file systems refuse the open,
// some the write.
func (d *Drive) probeDirect() bool {
	name := d.tempName()
	f, err := d.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|osfs.DirectIO, 0o600)
	if err != nil {
		return false
	}
	_, err = f.Write(osfs.DirectBuffer(osfs.DirectAlign))
	err = errors.Join(err, f.Close(), d.fs.Remove(name))
	return err == nil
}

func (d *Drive) tempName() string {
	var digits [16]byte
	n := d.temps.Add(1)
	for i := range digits {
		digits[i] = "0123456789abcdef"[n>>(60-4*i)&15]
	}
	return path.Join(d.opts.Path, privateDir, tempDir, string(digits[:]))
}

// enter begins a call unless the drive is closed or ctx has ended; leave ends
// it.
func (d *Drive) enter(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return d.fail(err, verb, name)
	}
	if err := d.claimed.Lost(); err != nil {
		return d.fail(err, verb, name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fsapi.Errorf(fsapi.Closed, "drive %s: %s: the drive is closed", d.label(), drive.Doing(verb, name))
	}
	d.calls++
	return nil
}

func (d *Drive) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls--
	if d.closed && d.calls == 0 {
		close(d.idle)
	}
}

// enterBlob is enter for a call that names a blob.
func (d *Drive) enterBlob(ctx context.Context, verb, name string) error {
	if err := drive.CheckName(name); err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "drive "+d.label()+": "+verb)
	}
	return d.enter(ctx, verb, name)
}

// enterWrite is enterBlob for a call that changes something.
func (d *Drive) enterWrite(ctx context.Context, verb, name string) error {
	if err := d.writable(verb, name); err != nil {
		return err
	}
	return d.enterBlob(ctx, verb, name)
}

// claimAge is how old what is known of the owner may be where a blob is added; of
// what removes or replaces one, nothing may be old. What another store does not
// know it leaves alone for longer.
const claimAge = 5 * time.Second

// ours refuses a change of a directory that was taken over (D7).
func (d *Drive) ours(ctx context.Context, age time.Duration, verb, name string) error {
	err := d.claimed.Holds(ctx, age)
	if err == nil {
		return nil
	}
	return d.fail(err, verb, name)
}

// Claimed implements drive.Claimed.
func (d *Drive) Claimed(ctx context.Context) error { return d.ours(ctx, 0, "look whose it is", "") }

func (d *Drive) writable(verb, name string) error {
	if d.opts.ReadOnly {
		return fsapi.Errorf(fsapi.ReadOnly, "drive %s: %s: it is open read-only here", d.label(), drive.Doing(verb, name))
	}
	return nil
}

// Info implements drive.Drive.
func (d *Drive) Info() drive.Info { return d.info }

// Direct says whether blobs are written with O_DIRECT.
func (d *Drive) Direct() bool { return d.direct }

func (d *Drive) label() string {
	if d.info.Name != "" {
		return d.info.Name
	}
	return d.info.ID.String()
}

// fail gives an error of the file system its kind and names drive and blob.
func (d *Drive) fail(err error, verb, name string) error {
	kind := kindOf(err)
	if kind == fsapi.NotExist {
		if err := d.here(verb, name); err != nil {
			return err
		}
	}
	if kind == fsapi.NotExist && name != "" {
		return fsapi.Errorf(kind, "drive %s: %s: no such blob", d.label(), drive.Doing(verb, name))
	}
	return fsapi.Errorf(kind, "drive %s: %s: %w", d.label(), drive.Doing(verb, name), err)
}

// here says whether the directory still holds this drive. A disk that was taken
// away leaves an empty mount point, where no blob is, and all of them are well.
// What keeps the identity from being read has its own kind.
func (d *Drive) here(verb, name string) error {
	id, err := ReadIdentity(d.fs, d.opts.Path)
	switch {
	case err == nil && id.ID == d.info.ID:
		return nil
	case err == nil:
		return fsapi.Errorf(fsapi.NoDevice, "drive %s: %s: %s holds drive %s now: another disk is mounted there", d.label(), drive.Doing(verb, name), d.opts.Path, id.ID)
	case errors.Is(err, fsapi.NotExist), errors.Is(err, fsapi.Corrupt):
		return fsapi.Errorf(fsapi.NoDevice, "drive %s: %s: %v", d.label(), drive.Doing(verb, name), err) // not wrapped: no blob is missing
	}
	return fsapi.Errorf(fsapi.KindOf(err), "drive %s: %s: %w", d.label(), drive.Doing(verb, name), err)
}

// kindOf is the kind of an error of osfs.
func kindOf(err error) fsapi.Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fsapi.NotExist
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fsapi.NoSpace
	case errors.Is(err, syscall.ETIMEDOUT):
		return fsapi.TimedOut
	}
	if k := fsapi.KindOf(err); k != fsapi.Other {
		return k
	}
	return fsapi.IO
}

func (d *Drive) file(name string) string { return path.Join(d.opts.Path, name) }

// Capacity implements drive.Drive.
func (d *Drive) Capacity(ctx context.Context) (drive.Capacity, error) {
	if err := d.enter(ctx, "measure", ""); err != nil {
		return drive.Capacity{}, err
	}
	defer d.leave()
	return d.capacity()
}

func (d *Drive) capacity() (drive.Capacity, error) {
	if err := d.here("measure", ""); err != nil {
		return drive.Capacity{}, err
	}
	c, err := d.fs.StatFS(d.opts.Path)
	if err != nil {
		return drive.Capacity{}, fsapi.Errorf(fsapi.IO, "drive %s: measure: %w", d.label(), err)
	}
	return drive.Capacity{Total: c.Total, Used: c.Total - c.Free, Avail: max(c.Avail-d.opts.Reserve, 0)}, nil
}

// Close implements drive.Drive. It waits for running calls.
func (d *Drive) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	if d.calls == 0 {
		close(d.idle)
	}
	d.mu.Unlock()
	<-d.idle
	for _, w := range d.openWriters() {
		w.Abort()
	}
	if !d.opts.ReadOnly && d.claimed.Holds(context.Background(), 0) == nil {
		d.detach()
	}
	err := errors.Join(d.handles.closeAll(), d.unlock())
	if err != nil {
		return d.fail(err, "close", "")
	}
	return nil
}

func (d *Drive) openWriters() []*writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.writers))
}
