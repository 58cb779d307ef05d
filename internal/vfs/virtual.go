package vfs

import (
	"context"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// VirtualName is the name of the virtual directory in the root. It is found by
// name and not listed.
const VirtualName = ".strake"

// VirtualFile is a read-only file of the virtual directory. Exactly one of
// Content and Stream is set.
type VirtualFile struct {
	Name string
	Mode uint32 // permission bits; 0: 0444
	// Content makes the file's bytes: at each open, and to tell the size.
	Content func(ctx context.Context) ([]byte, error)
	// Stream begins a stream at each open, read from its start whatever the
	// offset; its Read may block until there is something.
	Stream func(ctx context.Context) (io.ReadCloser, error)
}

// The inodes of the virtual tree. Files follow, in the order of their names in
// virtual.files; from fsapi.SnapshotIno up are those of snapshots (past.go).
const (
	virtualDir   = fsapi.VirtualIno
	virtualTrash = fsapi.VirtualIno + 1
	virtualSnaps = fsapi.VirtualIno + 2
	virtualFile  = fsapi.VirtualIno + 3
)

const (
	trashName = "trash"
	snapsName = "snapshots"
)

// virtual is the tree below .strake: trash, snapshots, stats, and what the
// daemon adds. An entry of trash is the deleted inode itself, under its number
// and last name; one of snapshots is the root as it was.
type virtual struct {
	fs    *Local
	born  time.Time
	files []VirtualFile
}

func newVirtual(fs *Local, more []VirtualFile) *virtual {
	v := &virtual{fs: fs, born: fs.now()}
	v.files = append([]VirtualFile{{Name: "stats", Content: fs.statsText}}, more...)
	return v
}

func errVirtual(ino fsapi.Ino) error {
	if ino >= fsapi.SnapshotIno {
		return errSnapshot(ino)
	}
	return fsapi.Errorf(fsapi.NotPermitted, "inode %d is part of %s and cannot be changed", uint64(ino), VirtualName)
}

func (v *virtual) file(ino fsapi.Ino) (*VirtualFile, error) {
	if i := ino - virtualFile; ino >= virtualFile && i < fsapi.Ino(len(v.files)) {
		return &v.files[i], nil
	}
	return nil, fsapi.Errorf(fsapi.Stale, "%s has no inode %d", VirtualName, uint64(ino))
}

func (v *virtual) getattr(ctx context.Context, ino fsapi.Ino) (fsapi.Attr, error) {
	now := v.fs.now()
	a := fsapi.Attr{
		Ino: ino, Type: fsapi.TypeDirectory, Mode: 0o555, Nlink: 2,
		Atime: now, Mtime: now, Ctime: now, Btime: v.born, Change: uint64(now.UnixNano()),
	}
	switch ino {
	case virtualDir:
		a.Nlink = 4
		return a, nil
	case virtualTrash, virtualSnaps:
		return a, nil
	}
	f, err := v.file(ino)
	if err != nil {
		return a, err
	}
	a.Type, a.Nlink, a.Mode = fsapi.TypeRegular, 1, f.Mode
	if a.Mode == 0 {
		a.Mode = 0o444
	}
	if f.Content != nil {
		b, err := f.Content(ctx)
		if err != nil {
			return a, err
		}
		a.Size = int64(len(b))
	}
	return a, nil
}

func (v *virtual) lookup(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	switch {
	case dir == fsapi.RootIno:
		return v.getattr(ctx, virtualDir)
	case dir != virtualDir && dir != virtualTrash && dir != virtualSnaps:
		return fsapi.Attr{}, fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", uint64(dir))
	case name == ".":
		return v.getattr(ctx, dir)
	case name == ".." && dir != virtualDir:
		return v.getattr(ctx, virtualDir)
	case name == trashName && dir == virtualDir:
		return v.getattr(ctx, virtualTrash)
	case name == snapsName && dir == virtualDir:
		return v.getattr(ctx, virtualSnaps)
	case name == "..":
		return v.fs.Getattr(ctx, fsapi.RootIno)
	case dir == virtualTrash:
		return v.lookupTrash(ctx, c, name)
	case dir == virtualSnaps:
		s, err := v.fs.Snapshot(ctx, name)
		if err != nil {
			return fsapi.Attr{}, err
		}
		return v.fs.Getattr(ctx, snapIno(s.ID, fsapi.RootIno))
	}
	for i := range v.files {
		if v.files[i].Name == name {
			return v.getattr(ctx, virtualFile+fsapi.Ino(i))
		}
	}
	return fsapi.Attr{}, fsapi.Errorf(fsapi.NotExist, "%s has no %q", VirtualName, name)
}

// entryName is the name of an entry of the trash: its number, and the last name
// it had.
func entryName(e *TrashEntry) string {
	name := strconv.FormatUint(uint64(e.Ino), 10) + "-" + path.Base(e.Path)
	return name[:min(len(name), fsapi.MaxName)]
}

// sees reports whether c may know of an entry: its owner and the superuser.
func sees(c *fsapi.Cred, a *fsapi.Attr) bool { return c.Uid == 0 || c.Uid == a.Uid }

func (v *virtual) lookupTrash(ctx context.Context, c *fsapi.Cred, name string) (fsapi.Attr, error) {
	num, _, _ := strings.Cut(name, "-")
	ino, err := strconv.ParseUint(num, 10, 63)
	missing := fsapi.Errorf(fsapi.NotExist, "the trash has no %q", name)
	if err != nil || ino == 0 {
		return fsapi.Attr{}, missing
	}
	n, err := v.fs.node(ctx, fsapi.Ino(ino))
	if kindOf(err) == fsapi.Stale {
		return fsapi.Attr{}, missing
	}
	if err != nil {
		return fsapi.Attr{}, err
	}
	defer n.release()
	a := n.attr()
	if n.flags()&meta.Trashed == 0 || !sees(c, &a) {
		return fsapi.Attr{}, missing
	}
	return a, nil
}

func (v *virtual) access(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error {
	a, err := v.getattr(ctx, ino)
	if err != nil || c.Checked {
		return err
	}
	if want&mayWrite != 0 {
		return errVirtual(ino)
	}
	p := permInode{typ: a.Type, mode: a.Mode}
	if !p.allows(c, nil, want) {
		return fsapi.Errorf(fsapi.Access, "uid %d may not do this to %s", c.Uid, VirtualName)
	}
	return nil
}

func (v *virtual) parent(ino fsapi.Ino) (fsapi.Ino, string, error) {
	switch ino {
	case virtualDir:
		return fsapi.RootIno, VirtualName, nil
	case virtualTrash:
		return virtualDir, trashName, nil
	case virtualSnaps:
		return virtualDir, snapsName, nil
	}
	f, err := v.file(ino)
	if err != nil {
		return 0, "", err
	}
	return virtualDir, f.Name, nil
}

func (v *virtual) open(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, flags OpenFlags) (File, error) {
	if ino == virtualDir || ino == virtualTrash || ino == virtualSnaps {
		return nil, fsapi.Errorf(fsapi.IsDir, "inode %d is a directory", uint64(ino))
	}
	f, err := v.file(ino)
	if err != nil {
		return nil, err
	}
	if flags&(OpenWrite|OpenTrunc) != 0 {
		return nil, errVirtual(ino)
	}
	if err := v.access(ctx, c, ino, mayRead); err != nil {
		return nil, err
	}
	o := &openVirtual{v: v, ino: ino}
	if f.Stream != nil {
		// The stream outlives the request that opens it.
		o.stream, err = f.Stream(v.fs.ctx)
	} else {
		o.content, err = f.Content(ctx)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// openVirtual is an open virtual file.
type openVirtual struct {
	v       *virtual
	ino     fsapi.Ino
	content []byte // as of when it was opened

	mu     sync.Mutex // one reader of stream at a time
	stream io.ReadCloser
}

var _ File = (*openVirtual)(nil)

func (o *openVirtual) Ino() fsapi.Ino { return o.ino }

func (o *openVirtual) Attr(ctx context.Context) (fsapi.Attr, error) {
	a, err := o.v.getattr(ctx, o.ino)
	a.Size = int64(len(o.content))
	return a, err
}

func (o *openVirtual) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if o.stream == nil {
		return copy(p, o.content[min(max(off, 0), int64(len(o.content))):]), nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.stream.Read(p)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (o *openVirtual) WriteAt(context.Context, []byte, int64) (int, error) {
	return 0, errVirtual(o.ino)
}
func (o *openVirtual) Truncate(context.Context, int64) error     { return errVirtual(o.ino) }
func (o *openVirtual) Flush(context.Context, LockOwner) error    { return nil }
func (o *openVirtual) Sync(context.Context, bool) error          { return nil }
func (o *openVirtual) SetLock(context.Context, Lock, bool) error { return errVirtual(o.ino) }

func (o *openVirtual) Allocate(context.Context, AllocMode, int64, int64) error {
	return errVirtual(o.ino)
}

func (o *openVirtual) Seek(_ context.Context, off int64, hole bool) (int64, error) {
	size := int64(len(o.content))
	switch {
	case off < 0 || off >= size:
		return 0, fsapi.Errorf(fsapi.NoDevice, "offset %d is not within %d bytes", off, size)
	case hole:
		return size, nil
	}
	return off, nil
}

func (o *openVirtual) CopyRange(context.Context, int64, File, int64, int64) (int64, error) {
	return 0, fsapi.Errorf(fsapi.CrossDevice, "virtual files cannot be shared")
}

func (o *openVirtual) GetLock(_ context.Context, l Lock) (Lock, error) {
	l.Type = LockNone
	return l, nil
}

// Close ends a stream, which must let a blocked Read return.
func (o *openVirtual) Close() error {
	if o.stream == nil {
		return nil
	}
	return o.stream.Close()
}

// virtualHandle is an open virtual directory: its entries as of then.
type virtualHandle struct{ entries []fsapi.Dirent }

var _ Dir = (*virtualHandle)(nil)

func (v *virtual) openDir(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (Dir, error) {
	h := &virtualHandle{}
	switch ino {
	case virtualDir:
		h.add(".", virtualDir, fsapi.TypeDirectory)
		h.add("..", fsapi.RootIno, fsapi.TypeDirectory)
		h.add(trashName, virtualTrash, fsapi.TypeDirectory)
		h.add(snapsName, virtualSnaps, fsapi.TypeDirectory)
		for i, f := range v.files {
			h.add(f.Name, virtualFile+fsapi.Ino(i), fsapi.TypeRegular)
		}
	case virtualTrash:
		h.add(".", virtualTrash, fsapi.TypeDirectory)
		h.add("..", virtualDir, fsapi.TypeDirectory)
		es, _, err := v.fs.Trash(ctx, 0)
		if err != nil {
			return nil, err
		}
		for i := range es {
			if e := &es[i]; sees(c, &e.Attr) {
				h.add(entryName(e), e.Ino, e.Attr.Type)
			}
		}
	case virtualSnaps:
		h.add(".", virtualSnaps, fsapi.TypeDirectory)
		h.add("..", virtualDir, fsapi.TypeDirectory)
		list, err := v.fs.Snapshots(ctx)
		if err != nil {
			return nil, err
		}
		for i := range list {
			if s := &list[i]; !s.Deleting {
				h.add(s.Name, snapIno(s.ID, fsapi.RootIno), fsapi.TypeDirectory)
			}
		}
	default:
		return nil, fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", uint64(ino))
	}
	return h, h.stat(ctx, v.fs)
}

func (h *virtualHandle) add(name string, ino fsapi.Ino, t fsapi.FileType) {
	h.entries = append(h.entries, fsapi.Dirent{Name: name, Ino: ino, Type: t, Cookie: uint64(len(h.entries) + 1)})
}

// stat fills in attributes. What has gone meanwhile keeps empty ones.
func (h *virtualHandle) stat(ctx context.Context, fs *Local) error {
	for i := range h.entries {
		e := &h.entries[i]
		a, err := fs.Getattr(ctx, e.Ino)
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return err
		}
		e.Attr = a
	}
	return nil
}

func (h *virtualHandle) Read(_ context.Context, cookie uint64, _ bool, fn func(fsapi.Dirent) bool) error {
	for _, e := range h.entries[min(cookie, uint64(len(h.entries))):] {
		if !fn(e) {
			return nil
		}
	}
	return nil
}

func (h *virtualHandle) Sync(context.Context) error { return nil }
func (h *virtualHandle) Close() error               { return nil }
