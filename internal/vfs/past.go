package vfs

import (
	"context"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// An inode of a snapshot's tree has the number fsapi.SnapshotIno, plus the
// snapshot's number times 2^41, plus the inode's own. meta sees to it that both
// fit.
const snapShift = 41

func snapIno(id fsapi.SnapshotID, ino fsapi.Ino) fsapi.Ino {
	return fsapi.SnapshotIno | fsapi.Ino(id)<<snapShift | ino
}

func splitIno(ino fsapi.Ino) (fsapi.SnapshotID, fsapi.Ino) {
	return fsapi.SnapshotID(ino &^ fsapi.SnapshotIno >> snapShift), ino & meta.MaxSnapIno
}

func errSnapshot(ino fsapi.Ino) error {
	id, of := splitIno(ino)
	return fsapi.Errorf(fsapi.ReadOnly, "inode %d is of snapshot %d, which does not change", of, id)
}

// pasts is the trees of snapshots. Nothing of them is kept in memory but what
// open files and directories have.
type pasts struct{ fs *Local }

func (fs *Local) pasts() pasts { return pasts{fs} }

// view runs fn on an inode of a snapshot.
func (p pasts) view(ctx context.Context, ino fsapi.Ino, fn func(tx *meta.Tx, in *meta.Inode) error) error {
	if p.fs.closed.Load() {
		return p.fs.errClosed()
	}
	id, of := splitIno(ino)
	err := p.fs.o.Meta.ViewAt(ctx, p.fs.vol, id, func(tx *meta.Tx) error {
		in, err := tx.Inode(of)
		if err != nil {
			return err
		}
		if in.Nlink == 0 {
			return errGone(of) // it had no name then
		}
		return fn(tx, in)
	})
	if err != nil && fsapi.KindOf(err) == fsapi.NotExist {
		if _, gone := p.fs.o.Meta.SnapshotByID(ctx, p.fs.vol, id); gone != nil {
			return fsapi.Errorf(fsapi.Stale, "snapshot %d was deleted", id)
		}
	}
	return err
}

// shown is an inode's attributes under its number in the snapshot's tree.
func shown(id fsapi.SnapshotID, a fsapi.Attr) fsapi.Attr {
	a.Ino = snapIno(id, a.Ino)
	return a
}

func (p pasts) getattr(ctx context.Context, ino fsapi.Ino) (a fsapi.Attr, err error) {
	id, _ := splitIno(ino)
	err = p.view(ctx, ino, func(_ *meta.Tx, in *meta.Inode) error {
		a = shown(id, in.Attr)
		return nil
	})
	return a, err
}

// permit is Local.permit by what held when the snapshot was taken.
func (p pasts) permit(tx *meta.Tx, c *fsapi.Cred, in *meta.Inode, want uint32) error {
	switch {
	case want&mayWrite != 0:
		return fsapi.Errorf(fsapi.ReadOnly, "inode %d is of a snapshot, which does not change", in.Ino)
	case c.Checked || want == 0:
		return nil
	}
	var acl ACL
	if in.Flags&meta.HasACL != 0 && c.Uid != 0 {
		acls, err := readACLs(tx, in.Ino)
		if err != nil {
			return err
		}
		acl = acls.access
	}
	i := permInode{in.Type, in.Mode, in.Uid, in.Gid, in.Flags}
	if !i.allows(c, acl, want) {
		return fsapi.Errorf(fsapi.Access, "uid %d may not %s inode %d of a snapshot", c.Uid, wantText(want), in.Ino)
	}
	return nil
}

func (p pasts) access(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error {
	return p.view(ctx, ino, func(tx *meta.Tx, in *meta.Inode) error { return p.permit(tx, c, in, want) })
}

// lookup finds a name. ".." of a snapshot's root is the directory of snapshots.
func (p pasts) lookup(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (a fsapi.Attr, err error) {
	id, of := splitIno(dir)
	if of == fsapi.RootIno && name == ".." {
		return p.fs.virt.getattr(ctx, virtualSnaps)
	}
	err = p.view(ctx, dir, func(tx *meta.Tx, d *meta.Inode) error {
		if d.Type != fsapi.TypeDirectory {
			return fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", of)
		}
		if err := p.permit(tx, c, d, mayExec); err != nil {
			return err
		}
		in := d
		switch name {
		case ".":
		case "..":
			in, err = tx.Inode(d.Parent)
		default:
			if err := checkName(name); err != nil {
				return err
			}
			in, err = tx.Lookup(of, name)
		}
		if err == nil {
			a = shown(id, in.Attr)
		}
		return err
	})
	return a, err
}

func (p pasts) readlink(ctx context.Context, ino fsapi.Ino) (target string, err error) {
	err = p.view(ctx, ino, func(_ *meta.Tx, in *meta.Inode) error {
		if in.Type != fsapi.TypeSymlink {
			return fsapi.Errorf(fsapi.Invalid, "inode %d is not a symlink", in.Ino)
		}
		target = in.Target
		return nil
	})
	return target, err
}

func (p pasts) parent(ctx context.Context, ino fsapi.Ino) (dir fsapi.Ino, name string, err error) {
	id, of := splitIno(ino)
	if of == fsapi.RootIno {
		s, err := p.fs.o.Meta.SnapshotByID(ctx, p.fs.vol, id)
		return virtualSnaps, s.Name, err
	}
	err = p.view(ctx, ino, func(_ *meta.Tx, in *meta.Inode) error {
		dir, name = snapIno(id, in.Parent), in.Name
		return nil
	})
	return dir, name, err
}

// mayReadXattr is Local.mayXattr for reading.
func (p pasts) mayReadXattr(tx *meta.Tx, c *fsapi.Cred, in *meta.Inode, name string) error {
	space, err := xattrSpace(name)
	switch {
	case err != nil:
		return err
	case space == trustedSpace && c.Uid != 0:
		return errNoAttr(in.Ino, name)
	case space == userSpace:
		if in.Type != fsapi.TypeRegular && in.Type != fsapi.TypeDirectory {
			return errNoAttr(in.Ino, name)
		}
		return p.permit(tx, c, in, mayRead)
	}
	return nil
}

func (p pasts) getxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) (value []byte, err error) {
	err = p.view(ctx, ino, func(tx *meta.Tx, in *meta.Inode) error {
		if err := p.mayReadXattr(tx, c, in, name); err != nil {
			return err
		}
		if name == PolicyXattr {
			if in.Flags&meta.HasPolicy == 0 {
				return errNoAttr(in.Ino, name)
			}
			own, err := tx.Policy(in.Ino)
			value = []byte(own.String())
			return err
		}
		value, err = tx.Xattr(in.Ino, name)
		return err
	})
	return value, err
}

func (p pasts) listxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (names []string, err error) {
	err = p.view(ctx, ino, func(tx *meta.Tx, in *meta.Inode) error {
		if names, err = tx.Xattrs(in.Ino); err != nil {
			return err
		}
		names = listed(c, names, in.Flags)
		return nil
	})
	return names, err
}

func (p pasts) open(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, flags OpenFlags) (File, error) {
	id, of := splitIno(ino)
	f := &pastFile{fs: p.fs, id: id, of: of, flags: flags}
	err := p.view(ctx, ino, func(tx *meta.Tx, in *meta.Inode) error {
		f.attr = shown(id, in.Attr)
		switch {
		case in.Type == fsapi.TypeDirectory:
			return fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", of)
		case in.Type == fsapi.TypeSymlink:
			return fsapi.Errorf(fsapi.Loop, "inode %d is a symlink", of)
		case flags&(OpenWrite|OpenTrunc|OpenAppend) != 0:
			return errSnapshot(ino)
		case in.Type != fsapi.TypeRegular:
			return fsapi.Errorf(fsapi.NoDevice, "inode %d is not a regular file", of)
		}
		var want uint32
		if flags&OpenRead != 0 {
			want |= mayRead
		}
		if flags&OpenExec != 0 {
			want |= mayExec
		}
		return p.permit(tx, c, in, want)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// pastFile is an open file of a snapshot.
type pastFile struct {
	fs     *Local
	id     fsapi.SnapshotID
	of     fsapi.Ino
	flags  OpenFlags
	attr   fsapi.Attr
	closed atomic.Bool

	mu      sync.Mutex
	extents windows
	next    int64 // where a reader from one end to the other would go on
}

var _ File = (*pastFile)(nil)

func (f *pastFile) Ino() fsapi.Ino { return f.attr.Ino }

func (f *pastFile) usable(need OpenFlags) error {
	switch {
	case f.closed.Load():
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is closed", f.of)
	case f.fs.closed.Load():
		return f.fs.errClosed()
	case need != 0 && f.flags&need == 0:
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is not open for this", f.of)
	}
	return nil
}

func (f *pastFile) Attr(context.Context) (fsapi.Attr, error) { return f.attr, f.usable(0) }

// ReadAt implements File.
func (f *pastFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.usable(OpenRead | OpenExec); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "offset %d is negative", off)
	}
	if off >= f.attr.Size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), f.attr.Size-off)]
	f.mu.Lock()
	seq := off == f.next && off > 0
	f.next = off + int64(len(p))
	f.mu.Unlock()
	for rest, at := p, off; len(rest) > 0; {
		exts, end, err := f.extentsAt(ctx, at, at+int64(len(rest)), seq)
		if err != nil {
			return 0, err
		}
		part := rest[:min(end-at, int64(len(rest)))]
		if err := f.readExtents(ctx, exts, part, at); err != nil {
			return 0, err
		}
		rest, at = rest[len(part):], at+int64(len(part))
	}
	f.fs.stats.read.Add(int64(len(p)))
	return len(p), nil
}

// readExtents fills p, whose range exts map wholly. Where that fails because
// the snapshot was deleted meanwhile, it says so.
func (f *pastFile) readExtents(ctx context.Context, exts []fsapi.Extent, p []byte, off int64) error {
	clear(p)
	if len(exts) > 1 {
		f.fs.o.Blob.Prefetch(f.fs.vol, exts[1:])
	}
	end := off + int64(len(p))
	for i := range exts {
		e := &exts[i]
		lo, hi := max(e.Off, off), min(e.End(), end)
		if lo >= hi || e.Kind == fsapi.ExtentUnwritten {
			continue
		}
		if err := f.readExtent(ctx, e, lo, p[lo-off:hi-off]); err != nil {
			if _, gone := f.fs.o.Meta.SnapshotByID(ctx, f.fs.vol, f.id); gone != nil && ctx.Err() == nil {
				return fsapi.Errorf(fsapi.Stale, "snapshot %d was deleted", f.id)
			}
			return fsapi.Wrap(fsapi.KindOf(err), err, "read inode "+itoa(uint64(f.of))+" of a snapshot")
		}
	}
	return nil
}

// readExtent reads from one extent, which is looked up again where it was sealed
// anew since.
func (f *pastFile) readExtent(ctx context.Context, e *fsapi.Extent, at int64, p []byte) error {
	err := f.fs.o.Blob.ReadExtent(ctx, f.fs.vol, e, at-e.Off, p)
	if err == nil || ctx.Err() != nil {
		return err
	}
	now, lookErr := f.look(ctx, at, 1)
	if lookErr != nil || len(now) == 0 || now[0].Off != e.Off || sameRecord(&now[0], e) {
		return err
	}
	f.mu.Lock()
	f.extents.clear()
	f.mu.Unlock()
	return f.fs.o.Blob.ReadExtent(ctx, f.fs.vol, &now[0], at-e.Off, p)
}

// extentsAt is as Local.extentsAt.
func (f *pastFile) extentsAt(ctx context.Context, off, limit int64, seq bool) ([]fsapi.Extent, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.extents.find(off)
	if w == nil {
		look := f.extents.cap
		if look == 0 || seq {
			look = windowLook
		}
		exts, err := f.look(ctx, off, look)
		if err != nil {
			return nil, 0, err
		}
		w = newWindow(off, exts, look)
		f.extents.cap = max(f.extents.cap, windowLook)
		f.extents.add(w)
	}
	end := min(w.end, limit)
	i := sort.Search(len(w.exts), func(i int) bool { return w.exts[i].End() > off })
	j := i + sort.Search(len(w.exts)-i, func(j int) bool { return w.exts[i+j].Off >= end })
	return w.exts[i:j], end, nil
}

func (f *pastFile) look(ctx context.Context, off int64, limit int) (exts []fsapi.Extent, err error) {
	err = f.fs.pasts().view(ctx, f.attr.Ino, func(tx *meta.Tx, _ *meta.Inode) error {
		exts, err = tx.Extents(f.of, off, fsapi.MaxFileSize, limit)
		return err
	})
	return exts, err
}

// Seek implements File.
func (f *pastFile) Seek(ctx context.Context, off int64, hole bool) (at int64, err error) {
	if err := f.usable(0); err != nil {
		return 0, err
	}
	size := f.attr.Size
	if off < 0 || off >= size {
		return 0, fsapi.Errorf(fsapi.NoDevice, "offset %d is not within the %d bytes of inode %d", off, size, f.of)
	}
	err = f.fs.pasts().view(ctx, f.attr.Ino, func(tx *meta.Tx, _ *meta.Inode) error {
		if hole {
			at, err = tx.NextHole(f.of, off, size)
			return err
		}
		at, err = tx.NextData(f.of, off, size)
		return err
	})
	if err == nil && !hole && at >= size {
		err = fsapi.Errorf(fsapi.NoDevice, "inode %d has no data from %d on", f.of, off)
	}
	return at, err
}

// CopyRange implements File: a file of a snapshot shares its chunks.
func (f *pastFile) CopyRange(ctx context.Context, off int64, dst File, dstOff, n int64) (int64, error) {
	if err := f.usable(OpenRead); err != nil {
		return 0, err
	}
	d, ok := dst.(*file)
	if !ok || d.fs != f.fs {
		return 0, fsapi.Errorf(fsapi.CrossDevice, "the files to copy between are of two volumes, or one cannot be written")
	}
	return d.takeRange(ctx, &source{id: f.id, ino: f.of, size: f.attr.Size}, off, dstOff, n)
}

func (f *pastFile) WriteAt(context.Context, []byte, int64) (int, error) {
	return 0, errSnapshot(f.attr.Ino)
}
func (f *pastFile) Truncate(context.Context, int64) error { return errSnapshot(f.attr.Ino) }
func (f *pastFile) Allocate(context.Context, AllocMode, int64, int64) error {
	return errSnapshot(f.attr.Ino)
}
func (f *pastFile) Flush(context.Context, LockOwner) error { return f.usable(0) }
func (f *pastFile) Sync(context.Context, bool) error       { return f.usable(0) }

// GetLock implements File: nobody can lock what does not change against others.
func (f *pastFile) GetLock(_ context.Context, l Lock) (Lock, error) {
	l.Type = LockNone
	return l, f.usable(0)
}

// SetLock implements File: a lock to read is always granted.
func (f *pastFile) SetLock(_ context.Context, l Lock, _ bool) error {
	if err := checkLock(&l); err != nil {
		return err
	}
	if l.Type == LockWrite {
		return errSnapshot(f.attr.Ino)
	}
	return f.usable(0)
}

func (f *pastFile) Close() error {
	if f.closed.Swap(true) {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of inode %d is closed", f.of)
	}
	return nil
}

func (p pasts) openDir(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (Dir, error) {
	d := &pastDir{p: p, ino: ino}
	err := p.view(ctx, ino, func(tx *meta.Tx, in *meta.Inode) error {
		if in.Type != fsapi.TypeDirectory {
			return fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", in.Ino)
		}
		return p.permit(tx, c, in, mayRead)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// pastDir is an open directory of a snapshot.
type pastDir struct {
	p      pasts
	ino    fsapi.Ino
	closed atomic.Bool

	mu  sync.Mutex
	buf []fsapi.Dirent // the page read last
}

var _ Dir = (*pastDir)(nil)

// Read implements Dir.
func (d *pastDir) Read(ctx context.Context, cookie uint64, _ bool, fn func(fsapi.Dirent) bool) error {
	if d.closed.Load() {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of a directory is closed")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if cookie < cookieDotDot {
		if more, err := d.dots(ctx, cookie, fn); err != nil || !more {
			return err
		}
		cookie = cookieDotDot
	}
	for {
		rest, err := d.after(ctx, cookie)
		if err != nil || len(rest) == 0 {
			return err
		}
		for _, e := range rest {
			cookie = e.Cookie
			if !fn(e) {
				return nil
			}
		}
	}
}

func (d *pastDir) dots(ctx context.Context, cookie uint64, fn func(fsapi.Dirent) bool) (more bool, err error) {
	for i, name := range []string{".", ".."} {
		at := uint64(i + 1)
		if cookie >= at {
			continue
		}
		a, err := d.p.lookup(ctx, fsapi.Root, d.ino, name)
		if err != nil {
			return false, err
		}
		if !fn(fsapi.Dirent{Name: name, Ino: a.Ino, Type: fsapi.TypeDirectory, Cookie: at, Attr: a}) {
			return false, nil
		}
	}
	return true, nil
}

// after is the entries after a cookie: of the page at hand, else of the next.
func (d *pastDir) after(ctx context.Context, cookie uint64) ([]fsapi.Dirent, error) {
	i := slices.IndexFunc(d.buf, func(e fsapi.Dirent) bool { return e.Cookie == cookie })
	if i >= 0 && i+1 < len(d.buf) {
		return d.buf[i+1:], nil
	}
	id, of := splitIno(d.ino)
	err := d.p.view(ctx, d.ino, func(tx *meta.Tx, _ *meta.Inode) (err error) {
		name := ""
		switch {
		case i >= 0:
			name = d.buf[i].Name
		case cookie > cookieDotDot:
			if name, err = tx.NameAt(of, cookie); err != nil {
				return err
			}
		}
		d.buf, err = tx.ReadDir(of, name, dirPage)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.buf = slices.DeleteFunc(d.buf, func(e fsapi.Dirent) bool { return of == fsapi.RootIno && e.Name == VirtualName })
	for i := range d.buf {
		e := &d.buf[i]
		e.Attr = shown(id, e.Attr)
		e.Ino = e.Attr.Ino
	}
	return d.buf, nil
}

func (d *pastDir) Sync(context.Context) error { return nil }

func (d *pastDir) Close() error {
	if d.closed.Swap(true) {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of a directory is closed")
	}
	return nil
}
