package vfs

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// file is an open regular file. It holds its node.
type file struct {
	fs    *Local
	n     *node
	cred  fsapi.Cred
	flags OpenFlags

	ahead  readAhead
	failed atomic.Uint64 // write-back errors of the node reported already, or older than the handle
	closed atomic.Bool

	flocked atomic.Bool // an flock may have been taken through it
}

var _ File = (*file)(nil)

// open makes a handle of a node the caller holds. The caller has checked
// permissions. REQUIRES n.ns, shared.
func (fs *Local) openNode(c *fsapi.Cred, n *node, flags OpenFlags) *file {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opens++
	if flags&OpenWrite != 0 {
		n.writers++
	}
	n.hold()
	f := &file{fs: fs, n: n, cred: *c, flags: flags}
	if n.fail != nil {
		f.failed.Store(n.fail.seq)
	}
	fs.stats.handles.Add(1)
	return f
}

// Open implements FS.
func (fs *Local) Open(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, flags OpenFlags) (File, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().open(ctx, c, ino, flags)
	}
	if ino >= fsapi.VirtualIno {
		return fs.virt.open(ctx, c, ino, flags)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer n.release()
	if err := fs.mayOpen(ctx, c, n, flags); err != nil {
		return nil, err
	}
	n.ns.RLock()
	if n.isGone() {
		n.ns.RUnlock()
		return nil, errGone(ino)
	}
	f := fs.openNode(c, n, flags)
	n.ns.RUnlock()
	return f, fs.truncateOnOpen(ctx, f)
}

// truncateOnOpen does what O_TRUNC asks; on an error the handle is closed.
func (fs *Local) truncateOnOpen(ctx context.Context, f *file) error {
	if f.flags&OpenTrunc == 0 {
		return nil
	}
	err := fs.truncate(ctx, &f.cred, f.n, 0, true)
	if err != nil {
		_ = f.Close()
	}
	return err
}

// mayOpen checks type and permissions for an open.
func (fs *Local) mayOpen(ctx context.Context, c *fsapi.Cred, n *node, flags OpenFlags) error {
	writes := flags&(OpenWrite|OpenTrunc) != 0
	n.mu.RLock()
	typ, trashed := n.typ, n.in.Flags&meta.Trashed != 0 && n.opens == 0
	n.mu.RUnlock()
	switch {
	case typ == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", n.ino)
	case typ == fsapi.TypeSymlink:
		return fsapi.Errorf(fsapi.Loop, "inode %d is a symlink", n.ino)
	case typ != fsapi.TypeRegular:
		return fsapi.Errorf(fsapi.NoDevice, "inode %d is not a regular file", n.ino)
	case trashed && writes:
		return fsapi.Errorf(fsapi.ReadOnly, "inode %d is in the trash: restore it first", n.ino)
	}
	var want uint32
	if flags&OpenRead != 0 {
		want |= mayRead
	}
	if writes {
		want |= mayWrite
	}
	if flags&OpenExec != 0 {
		want |= mayExec
	}
	if err := fs.permit(ctx, c, n, want); err != nil {
		return err
	}
	if writes {
		if err := fs.mutable(ctx, n); err != nil {
			return err
		}
	}
	if flags&OpenNoTime != 0 {
		return fs.mustOwn(c, n)
	}
	return nil
}

func (n *node) isGone() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.gone
}

func errGone(ino fsapi.Ino) error { return fsapi.Errorf(fsapi.Stale, "inode %d is gone", ino) }

// Ino implements File.
func (f *file) Ino() fsapi.Ino { return f.n.ino }

// Attr implements File.
func (f *file) Attr(context.Context) (fsapi.Attr, error) { return f.n.attr(), nil }

func (f *file) usable(need OpenFlags) error {
	switch {
	case f.closed.Load():
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is closed", f.n.ino)
	case f.fs.closed.Load():
		return f.fs.errClosed()
	case need != 0 && f.flags&need == 0:
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is not open for this", f.n.ino)
	}
	return nil
}

// WriteAt implements File.
func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.usable(OpenWrite); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "offset %d is negative", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	done := 0
	for done < len(p) {
		n, err := f.writePart(ctx, p[done:min(len(p), done+writeStep)], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	f.fs.stats.written.Add(int64(done))
	if f.flags&(OpenSync|OpenDsync) != 0 {
		return done, f.Sync(ctx, f.flags&OpenSync == 0)
	}
	return done, nil
}

// writeStep bounds how much is admitted and copied at one time. An append must
// go in one step to be atomic, so it is as large as any door's write.
const writeStep = 16 << 20

func (f *file) writePart(ctx context.Context, p []byte, off int64) (int, error) {
	fs, n := f.fs, f.n
	if f.flags&OpenAppend == 0 && off > fsapi.MaxFileSize-int64(len(p)) {
		return 0, errTooBig(n.ino)
	}
	if err := fs.budget.admit(ctx, int64(len(p))); err != nil {
		return 0, err
	}
	if err := fs.afford(ctx, n, off, int64(len(p))); err != nil {
		return 0, err
	}
	if err := fs.dropPriv(&f.cred, n); err != nil {
		return 0, err
	}
	n.io.RLock()
	defer n.io.RUnlock()
	if err := fs.mutable(ctx, n); err != nil {
		return 0, err
	}
	n.mu.Lock()
	if f.flags&OpenAppend != 0 {
		off = n.in.Size
	}
	if off > fsapi.MaxFileSize-int64(len(p)) {
		n.mu.Unlock()
		return 0, errTooBig(n.ino)
	}
	stream := fs.writeLocked(n, p, off, f.cred.Door)
	n.mu.Unlock()
	if stream {
		fs.queue.pushStream(n)
	}
	fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: n.ino, Type: fsapi.TypeRegular, Off: off, Len: int64(len(p)), Door: f.cred.Door})
	return len(p), nil
}

func errTooBig(ino fsapi.Ino) error {
	return fsapi.Errorf(fsapi.FileTooBig, "inode %d would grow past %d bytes", ino, int64(fsapi.MaxFileSize))
}

// writeLocked puts p into dirty blocks; it says whether n should be streamed
// now. REQUIRES n.mu.
func (fs *Local) writeLocked(n *node, p []byte, off int64, door string) (stream bool) {
	if n.data == nil {
		n.data = newDirty()
	}
	n.data.write(&fs.pages, p, off)
	f := fMtime | fCtime
	if end := off + int64(len(p)); end > n.in.Size {
		n.in.Size = end
		f |= fSize
	}
	now := fs.now()
	n.in.Mtime, n.in.Ctime, n.wrote, n.door = now, now, now, door
	n.in.Change++
	n.pend |= f
	fs.queue.pushLocked(n, now)
	if n.stream || n.data.bytes < streamMin {
		return false
	}
	n.stream = true
	return true
}

// dropPriv takes setuid and setgid from a file whose content c changes.
func (fs *Local) dropPriv(c *fsapi.Cred, n *node) error {
	n.mu.RLock()
	mode, gid := n.in.Mode, n.in.Gid
	n.mu.RUnlock()
	if mode&(fsapi.ModeSetuid|fsapi.ModeSetgid) == 0 || c.Uid == 0 || killPriv(c, mode, gid) == mode {
		return nil
	}
	return fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		in.Mode = killPriv(c, in.Mode, in.Gid)
		in.Ctime = tx.Now()
		return nil
	})
}

// Truncate implements File.
func (f *file) Truncate(ctx context.Context, size int64) error {
	if err := f.usable(OpenWrite); err != nil {
		return err
	}
	return f.fs.truncate(ctx, &f.cred, f.n, size, true)
}

// truncate sets a file's size. Nothing is stored yet: readers see stored
// extents only below the cut. touch sets the times even where the size stays,
// as Linux does for ftruncate(2) and O_TRUNC but not for truncate(2).
func (fs *Local) truncate(ctx context.Context, c *fsapi.Cred, n *node, size int64, touch bool) error {
	if size < 0 {
		return fsapi.Errorf(fsapi.Invalid, "size %d is negative", size)
	}
	if size > fsapi.MaxFileSize {
		return fsapi.Errorf(fsapi.FileTooBig, "size %d is over %d", size, int64(fsapi.MaxFileSize))
	}
	if err := fs.dropPriv(c, n); err != nil {
		return err
	}
	n.io.RLock()
	defer n.io.RUnlock()
	if err := fs.mutable(ctx, n); err != nil {
		return err
	}
	n.mu.Lock()
	old := n.in.Size
	if old == size && !touch {
		n.mu.Unlock()
		return nil
	}
	if size < old || n.ssize > size || n.in.Used > 0 && size == 0 {
		if n.data == nil {
			n.data = newDirty()
		}
		n.data.truncate(&fs.pages, size)
		if n.ssize == 0 && n.in.Used == 0 && len(n.flights) == 0 {
			n.data.cut = noCut // nothing is stored
		}
	}
	now := fs.now()
	n.in.Size, n.in.Mtime, n.in.Ctime, n.door = size, now, now, c.Door
	n.in.Change++
	n.pend |= fSize | fMtime | fCtime
	fs.queue.pushLocked(n, now)
	n.mu.Unlock()
	fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: n.ino, Type: fsapi.TypeRegular, Off: min(old, size), Len: -1, Door: c.Door})
	return nil
}

// Flush implements File.
func (f *file) Flush(_ context.Context, owner LockOwner) error {
	if err := f.usable(0); err != nil {
		return err
	}
	f.fs.locks.drop(f.n, owner, false)
	return f.report()
}

// report returns a write-back error that this handle has not reported yet.
func (f *file) report() error {
	f.n.mu.RLock()
	fail := f.n.fail
	var seq uint64
	var err error
	if fail != nil {
		seq, err = fail.seq, fail.err
	}
	f.n.mu.RUnlock()
	if fail == nil || f.failed.Swap(seq) == seq {
		return nil
	}
	return err
}

// Sync implements File.
func (f *file) Sync(ctx context.Context, _ bool) error {
	if err := f.usable(0); err != nil {
		return err
	}
	if f.fs.o.ReadOnly {
		return nil
	}
	start := time.Now()
	err := f.fs.syncNode(ctx, f.n)
	f.fs.stats.syncs.Add(1)
	f.fs.stats.syncNanos.Add(int64(time.Since(start)))
	if late := f.report(); err == nil {
		err = late
	}
	return err
}

// syncNode makes everything of n durable, as its class says (D2).
func (fs *Local) syncNode(ctx context.Context, n *node) error {
	class, err := fs.effective(ctx, n)
	if err != nil {
		return err
	}
	if class.Ack == policy.AckAsync {
		return nil
	}
	if err := fs.syncHere(ctx, n); err != nil || class.Ack != policy.AckRemote {
		return err
	}
	return fs.syncRemote(ctx, class.Copies)
}

// syncHere makes everything of n durable on this machine.
func (fs *Local) syncHere(ctx context.Context, n *node) error {
	if done, err := fs.syncTogether(ctx, n); done {
		return err
	}
	if err := fs.flushNode(n); err != nil {
		return err
	}
	return fs.o.Meta.Sync(ctx)
}

// syncRemote waits until what is durable here is in a bucket too.
func (fs *Local) syncRemote(ctx context.Context, copies []policy.Copy) error {
	if fs.o.Remote == nil {
		return fsapi.Errorf(fsapi.NotSupported, "the acknowledgement class remote needs a bucket to wait for, and there is none")
	}
	return fs.o.Remote(ctx, copies)
}

// Close implements File.
func (f *file) Close() error {
	if f.closed.Swap(true) {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is closed", f.n.ino)
	}
	if f.flocked.Load() {
		f.fs.locks.dropVia(f)
	}
	f.fs.stats.handles.Add(-1)
	if f.flags&OpenWrite != 0 {
		f.n.mu.Lock()
		f.n.writers--
		f.n.mu.Unlock()
	}
	f.fs.closeNode(f.n)
	f.n.release()
	return nil
}

// closeNode gives up a handle; the last one of what has no name and is not in
// the trash ends it.
func (fs *Local) closeNode(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opens--
	if n.opens > 0 {
		return
	}
	n.extents.shrink()
	if n.gone || n.in.Nlink > 0 || n.in.Flags&meta.Trashed != 0 {
		return
	}
	orphan := n.in.Flags&meta.Orphan != 0
	fs.endLocked(n)
	if orphan && !fs.o.ReadOnly {
		fs.orphans.add(fs, n.ino)
	}
}

// endLocked makes n an inode that is no longer stored. REQUIRES n.mu.
func (fs *Local) endLocked(n *node) {
	n.gone = true
	n.in.Nlink = 0
	fs.discardLocked(n)
	fs.nodes.forget(n)
}
