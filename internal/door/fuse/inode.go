package fuse

import (
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Lookup implements fuse.RawFileSystem. That a name does not exist is an answer
// that the kernel caches too.
func (r *raw) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r.inval.begin()
	defer r.inval.end()
	c := r.creds.of(h)
	a, err := r.fs.Lookup(once(cancel), c, ino(h), name)
	if retry(err, h.Pid) {
		a, err = r.fs.Lookup(r.patient(), c, ino(h), name)
	}
	if err != nil {
		if fsapi.KindOf(err) == fsapi.NotExist && cached(ino(h)) {
			out.NodeId = 0
			out.SetEntryTimeout(r.o.NegativeTimeout)
			return fuse.OK
		}
		return r.status("lookup", h, err)
	}
	r.fillEntry(out, &a)
	return fuse.OK
}

// GetAttr implements fuse.RawFileSystem.
func (r *raw) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	fh := uint64(0)
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		fh = in.Fh()
	}
	a, err := r.attr(cancel, &in.InHeader, fh)
	if err != nil {
		return r.status("getattr", &in.InHeader, err)
	}
	r.fillAttrOut(out, &a)
	return fuse.OK
}

// Statx implements fuse.RawFileSystem: the kernel asks where a program wants
// the time of creation.
func (r *raw) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	fh := uint64(0)
	if in.GetattrFlags&fuse.FUSE_GETATTR_FH != 0 {
		fh = in.Fh
	}
	a, err := r.attr(cancel, &in.InHeader, fh)
	if err != nil {
		return r.status("statx", &in.InHeader, err)
	}
	fillStatx(&out.Statx, &a)
	if cached(a.Ino) {
		out.SetTimeout(r.o.AttrTimeout)
	}
	return fuse.OK
}

// attr asks the open file where the kernel names one, else the inode.
func (r *raw) attr(cancel <-chan struct{}, h *fuse.InHeader, fh uint64) (fsapi.Attr, error) {
	if f := r.files.get(fh); f != nil && f.ino == ino(h) {
		a, err := f.file.Attr(once(cancel))
		if retry(err, h.Pid) {
			a, err = f.file.Attr(r.patient())
		}
		return a, err
	}
	a, err := r.fs.Getattr(once(cancel), ino(h))
	if retry(err, h.Pid) {
		a, err = r.fs.Getattr(r.patient(), ino(h))
	}
	return a, err
}

// SetAttr implements fuse.RawFileSystem. The kernel leaves clearing setuid and
// setgid to vfs (FUSE_HANDLE_KILLPRIV_V2), which does so by the caller's ids.
func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	s, err := setAttr(in)
	if err != nil {
		return r.status("setattr", &in.InHeader, err)
	}
	a, err := r.fs.Setattr(r.patient(), r.creds.of(&in.InHeader), ino(&in.InHeader), s)
	if err != nil {
		if in.Valid&^fuse.FATTR_FH == flushTimes && fsapi.KindOf(err) == fsapi.Stale {
			return fuse.OK
		}
		return r.status("setattr", &in.InHeader, err)
	}
	r.fillAttrOut(out, &a)
	return fuse.OK
}

// flushTimes is what the kernel sends for an inode whose times it kept while
// holding writes back (fuse_flush_times). It does so too where the inode has
// lost its last name meanwhile, and takes an error as one of syncfs(2).
const flushTimes = fuse.FATTR_MTIME | fuse.FATTR_CTIME

// setAttr is the change of attributes that a request asks for.
func setAttr(in *fuse.SetAttrIn) (vfs.SetAttr, error) {
	var s vfs.SetAttr
	if m, ok := in.GetMode(); ok {
		s.Mode = &m
	}
	if u, ok := in.GetUID(); ok {
		s.Uid = &u
	}
	if g, ok := in.GetGID(); ok {
		s.Gid = &g
	}
	if z, ok := in.GetSize(); ok {
		if z > math.MaxInt64 {
			return s, fsapi.Errorf(fsapi.FileTooBig, "a size of %d bytes", z)
		}
		size := int64(z)
		s.Size = &size
	}
	s.TouchAtime = in.Valid&fuse.FATTR_ATIME_NOW != 0
	s.TouchMtime = in.Valid&fuse.FATTR_MTIME_NOW != 0
	if in.Valid&fuse.FATTR_ATIME != 0 && !s.TouchAtime {
		s.Atime = stamp(in.Atime, in.Atimensec)
	}
	if in.Valid&fuse.FATTR_MTIME != 0 && !s.TouchMtime {
		s.Mtime = stamp(in.Mtime, in.Mtimensec)
	}
	if in.Valid&fuse.FATTR_CTIME != 0 {
		s.Ctime = stamp(in.Ctime, in.Ctimensec)
	}
	return s, nil
}

func stamp(sec uint64, nsec uint32) *time.Time {
	t := time.Unix(int64(sec), int64(nsec))
	return &t
}

// Access implements fuse.RawFileSystem. With default_permissions the kernel
// does not ask.
func (r *raw) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	return r.status("access", &in.InHeader,
		r.fs.Access(r.patient(), r.creds.of(&in.InHeader), ino(&in.InHeader), in.Mask&7))
}

// Readlink implements fuse.RawFileSystem.
func (r *raw) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := r.fs.Readlink(once(cancel), ino(h))
	if retry(err, h.Pid) {
		target, err = r.fs.Readlink(r.patient(), ino(h))
	}
	return []byte(target), r.status("readlink", h, err)
}

// StatFs implements fuse.RawFileSystem.
func (r *raw) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := r.fs.Statfs(once(cancel), ino(h))
	if retry(err, h.Pid) {
		s, err = r.fs.Statfs(r.patient(), ino(h))
	}
	if err != nil {
		return r.status("statfs", h, err)
	}
	*out = fuse.StatfsOut{
		Blocks: blocks(s.Total), Bfree: blocks(s.Free), Bavail: blocks(s.Avail),
		Files: uint64(max(s.Inodes+s.InodesFree, 0)), Ffree: uint64(max(s.InodesFree, 0)),
		Bsize: ioSize, Frsize: ioSize, NameLen: fsapi.MaxName,
	}
	return fuse.OK
}

func blocks(n int64) uint64 { return uint64(max(n, 0)) / ioSize }

// Ioctl implements fuse.RawFileSystem: there are none.
func (r *raw) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
