package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
)

// Local is a directory of this machine.
type Local struct {
	root string
	own  bool // owners can be given away
}

var _ Tree = (*Local)(nil)

// NewLocal is the tree below a directory. Owners are kept where the process is
// root's.
func NewLocal(root string) *Local { return &Local{root, os.Geteuid() == 0} }

// String implements Tree.
func (l *Local) String() string { return l.root }

// Owns reports whether owners can be set.
func (l *Local) Owns() bool { return l.own }

func (l *Local) at(p string) string { return path.Join(l.root, p) }

// localKinds are errnos whose kind matters.
var localKinds = map[unix.Errno]fsapi.Kind{
	unix.ENOENT: fsapi.NotExist, unix.EEXIST: fsapi.Exist, unix.ENOTDIR: fsapi.NotDir, unix.EISDIR: fsapi.IsDir, unix.ENOTEMPTY: fsapi.NotEmpty,
	unix.EACCES: fsapi.Access, unix.EPERM: fsapi.NotPermitted, unix.ENOSPC: fsapi.NoSpace, unix.EDQUOT: fsapi.Quota,
	unix.EOPNOTSUPP: fsapi.NotSupported, unix.ENODATA: fsapi.NoAttr, unix.ELOOP: fsapi.Loop, unix.EROFS: fsapi.ReadOnly,
}

func (l *Local) wrap(err error, what, p string) error {
	if err == nil {
		return nil
	}
	kind := fsapi.IO
	var no unix.Errno
	if errors.As(err, &no) {
		if k, ok := localKinds[no]; ok {
			kind = k
		}
	}
	return fsapi.Wrap(kind, err, what+" "+l.at(p))
}

// List implements Tree.
func (l *Local) List(_ context.Context, dir string) ([]Entry, error) {
	d, err := os.Open(l.at(dir))
	if err != nil {
		return nil, l.wrap(err, "list", dir)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, l.wrap(err, "list", dir)
	}
	slices.Sort(names)
	list := make([]Entry, 0, len(names))
	for _, name := range names {
		e, err := l.stat(path.Join(dir, name))
		if errors.Is(err, fsapi.NotExist) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// Stat implements Tree.
func (l *Local) Stat(_ context.Context, p string) (Entry, error) { return l.stat(p) }

func (l *Local) stat(p string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(l.at(p), &st); err != nil {
		return Entry{}, l.wrap(err, "stat", p)
	}
	e := entryOf(p, &st)
	var err error
	if e.Type == fsapi.TypeSymlink {
		if e.Target, err = os.Readlink(l.at(p)); err != nil {
			return e, l.wrap(err, "readlink", p)
		}
	}
	e.Xattrs, err = l.xattrs(p)
	return e, err
}

// Above implements Tree. A mount is asked anew, whatever the kernel remembers
// of it.
func (l *Local) Above(context.Context) (list []Place, err error) {
	at, err := filepath.EvalSymlinks(l.root)
	for err == nil {
		var st unix.Statx_t
		if err = unix.Statx(unix.AT_FDCWD, at, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
			break
		}
		nano := func(t unix.StatxTimestamp) int64 { return time.Unix(t.Sec, int64(t.Nsec)).UnixNano() }
		list = append(list, Place{st.Ino, nano(st.Mtime), nano(st.Ctime)})
		if at == filepath.Dir(at) {
			return list, nil
		}
		at = filepath.Dir(at)
	}
	return nil, l.wrap(err, "stat", "")
}

var localTypes = map[uint32]fsapi.FileType{
	unix.S_IFREG: fsapi.TypeRegular, unix.S_IFDIR: fsapi.TypeDirectory, unix.S_IFLNK: fsapi.TypeSymlink, unix.S_IFCHR: fsapi.TypeCharDev,
	unix.S_IFBLK: fsapi.TypeBlockDev, unix.S_IFIFO: fsapi.TypeFIFO, unix.S_IFSOCK: fsapi.TypeSocket,
}

func entryOf(p string, st *unix.Stat_t) Entry {
	e := Entry{
		Path: p, Type: localTypes[st.Mode&unix.S_IFMT], Mode: st.Mode & 0o7777, Uid: st.Uid, Gid: st.Gid, Nlink: uint32(st.Nlink),
		Atime: time.Unix(st.Atim.Unix()), Mtime: time.Unix(st.Mtim.Unix()), Ctime: time.Unix(st.Ctim.Unix()),
		ID: fmt.Sprintf("%d:%d", st.Dev, st.Ino),
	}
	switch e.Type {
	case fsapi.TypeRegular:
		e.Size = st.Size
	case fsapi.TypeCharDev, fsapi.TypeBlockDev:
		e.Rdev = uint32(st.Rdev)
	}
	return e
}

// xattrs reads all that can be read: who may not see a name space does not
// copy it.
func (l *Local) xattrs(p string) (map[string][]byte, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(l.at(p), b) })
	if errors.Is(err, unix.EOPNOTSUPP) || len(names) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, l.wrap(err, "list extended attributes of", p)
	}
	var all map[string][]byte
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !copied(name) {
			continue
		}
		v, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(l.at(p), name, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return nil, l.wrap(err, "read "+name+" of", p)
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[name] = v
	}
	return all, nil
}

// grow calls fn with a buffer that is large enough.
func grow(fn func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := fn(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = fn(b)
		if !errors.Is(err, unix.ERANGE) { // it grew meanwhile
			return b[:max(n, 0)], err
		}
	}
}

// localReader is an open file.
type localReader struct {
	l  *Local
	p  string
	f  *os.File
	st unix.Stat_t
}

// Open implements Tree. What is no regular file is not opened, as a FIFO would
// wait.
func (l *Local) Open(_ context.Context, p string) (Reader, error) {
	f, err := os.OpenFile(l.at(p), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, l.wrap(err, "open", p)
	}
	r := &localReader{l: l, p: p, f: f}
	if err := unix.Fstat(int(f.Fd()), &r.st); err != nil || r.st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		if err == nil {
			err = unix.EINVAL
		}
		return nil, l.wrap(err, "open", p)
	}
	return r, nil
}

func (r *localReader) Size() int64 { return r.st.Size }
func (r *localReader) Close()      { r.f.Close() }

// Ranges is lseek(2) with SEEK_DATA and SEEK_HOLE.
func (r *localReader) Ranges(_ context.Context, fn func(off, n int64) error) error {
	for at := int64(0); at < r.st.Size; {
		off, err := unix.Seek(int(r.f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return r.l.wrap(err, "find data of", r.p)
		}
		if at, err = unix.Seek(int(r.f.Fd()), off, unix.SEEK_HOLE); err != nil {
			return r.l.wrap(err, "find holes of", r.p)
		}
		at = min(at, r.st.Size)
		if off >= at {
			return nil // it grew meanwhile, which Changed says
		}
		if err := fn(off, at-off); err != nil {
			return err
		}
	}
	return nil
}

func (r *localReader) Section(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(r.f, off, n)), nil
}

func (r *localReader) Changed(context.Context) (bool, error) {
	var now unix.Stat_t
	if err := unix.Fstat(int(r.f.Fd()), &now); err != nil {
		return false, r.l.wrap(err, "stat", r.p)
	}
	return now.Size != r.st.Size || now.Mtim != r.st.Mtim, nil
}

// Apply implements Tree.
func (l *Local) Apply(_ context.Context, ops []Op) []error {
	errs := make([]error, len(ops))
	for i := range ops {
		errs[i] = l.apply(&ops[i])
	}
	return errs
}

func (l *Local) apply(op *Op) error {
	e := op.Entry
	if op.Replace {
		if err := os.Remove(l.at(e.Path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return l.wrap(err, "replace", e.Path)
		}
	}
	switch {
	case op.Kind == OpLink:
		return l.wrap(unix.Link(l.at(op.First), l.at(e.Path)), "link", e.Path)
	case op.Kind == OpAttr:
	case e.Type == fsapi.TypeDirectory:
		// For its maker to write into; the rest of the mode comes at the end.
		return l.wrap(unix.Mkdir(l.at(e.Path), 0o700), "make directory", e.Path)
	case e.Type == fsapi.TypeRegular:
		return l.whole(e, op.Drop, func(f *os.File) error {
			_, err := f.Write(op.Data)
			return err
		})
	default:
		if err := l.mknod(e); err != nil {
			return l.wrap(err, "make", e.Path)
		}
	}
	return l.attrs(e, e.Path, op.Drop)
}

func (l *Local) mknod(e *Entry) error {
	switch e.Type {
	case fsapi.TypeSymlink:
		return unix.Symlink(e.Target, l.at(e.Path))
	case fsapi.TypeFIFO:
		return unix.Mknod(l.at(e.Path), unix.S_IFIFO|0o600, 0)
	case fsapi.TypeSocket:
		return unix.Mknod(l.at(e.Path), unix.S_IFSOCK|0o600, 0)
	case fsapi.TypeCharDev:
		return unix.Mknod(l.at(e.Path), unix.S_IFCHR|0o600, int(e.Rdev))
	case fsapi.TypeBlockDev:
		return unix.Mknod(l.at(e.Path), unix.S_IFBLK|0o600, int(e.Rdev))
	}
	return unix.EINVAL
}

// attrs sets owner, mode, extended attributes and times, in this order: chown
// takes set-id bits and capabilities away, and an ACL goes with the mode.
func (l *Local) attrs(e *Entry, at string, drop []string) error {
	name := l.at(at)
	if l.own {
		if err := unix.Lchown(name, int(e.Uid), int(e.Gid)); err != nil {
			return l.wrap(err, "set the owner of", e.Path)
		}
	}
	if e.Type != fsapi.TypeSymlink {
		if err := unix.Chmod(name, e.Mode); err != nil {
			return l.wrap(err, "set the mode of", e.Path)
		}
	}
	for _, x := range drop {
		if err := unix.Lremovexattr(name, x); err != nil && !errors.Is(err, unix.ENODATA) {
			return l.wrap(err, "remove "+x+" of", e.Path)
		}
	}
	for x, v := range e.Xattrs {
		if err := unix.Lsetxattr(name, x, v, 0); err != nil {
			return l.wrap(err, "set "+x+" of", e.Path)
		}
	}
	times := []unix.Timespec{unix.NsecToTimespec(e.Atime.UnixNano()), unix.NsecToTimespec(e.Mtime.UnixNano())}
	return l.wrap(unix.UtimesNanoAt(unix.AT_FDCWD, name, times, unix.AT_SYMLINK_NOFOLLOW), "set the times of", e.Path)
}

// tmpFor is where a file is written until it is whole.
func tmpFor(p string) string {
	h := sha256.Sum256([]byte(path.Base(p)))
	return path.Join(path.Dir(p), fmt.Sprintf("%s%x", tmpPrefix, h[:12]))
}

// whole writes a file beside its name and renames it.
func (l *Local) whole(e *Entry, drop []string, write func(f *os.File) error) error {
	tmp := tmpFor(e.Path)
	f, err := os.OpenFile(l.at(tmp), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return l.wrap(err, "write", e.Path)
	}
	err = l.wrap(write(f), "write", e.Path)
	if cerr := f.Close(); err == nil {
		err = l.wrap(cerr, "write", e.Path)
	}
	if err == nil {
		err = l.attrs(e, tmp, drop)
	}
	if err == nil {
		err = l.wrap(os.Rename(l.at(tmp), l.at(e.Path)), "rename", e.Path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(l.at(tmp)))
	}
	return nil
}

// Store implements Tree. Zeros in the source's data are written as they are;
// its holes stay holes.
func (l *Local) Store(ctx context.Context, e *Entry, drop []string, from Reader, tick func(int64)) error {
	return l.whole(e, drop, func(f *os.File) error {
		buf := make([]byte, 1<<20)
		err := from.Ranges(ctx, func(off, n int64) error {
			s, err := from.Section(ctx, off, n)
			if err != nil {
				return err
			}
			defer s.Close()
			w := &ticking{w: io.NewOffsetWriter(f, off), tick: tick}
			_, err = io.CopyBuffer(w, s, buf)
			return err
		})
		if err != nil {
			return err
		}
		if err := f.Truncate(e.Size); err != nil {
			return err
		}
		return f.Sync()
	})
}

// ticking counts what is written through it.
type ticking struct {
	w    io.Writer
	tick func(int64)
}

func (t *ticking) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.tick(int64(n))
	return n, err
}

// Remove implements Tree.
func (l *Local) Remove(_ context.Context, p string) error {
	return l.wrap(os.RemoveAll(l.at(p)), "remove", p)
}

// Sync implements Tree.
func (l *Local) Sync(context.Context) error {
	d, err := os.Open(l.root)
	if err != nil {
		return l.wrap(err, "sync", "")
	}
	defer d.Close()
	return l.wrap(unix.Syncfs(int(d.Fd())), "sync", "")
}
