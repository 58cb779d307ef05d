package fuse

import (
	"errors"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// openFlags are those that vfs opens with. O_APPEND is not among them: see
// fileHandle.appender.
func (r *raw) openFlags(f uint32) vfs.OpenFlags {
	var o vfs.OpenFlags
	switch f & syscall.O_ACCMODE {
	case syscall.O_RDONLY:
		o = vfs.OpenRead
	case syscall.O_WRONLY:
		o = vfs.OpenWrite
		if r.o.Writeback { // the kernel completes pages that it writes in part
			o |= vfs.OpenRead
		}
	default:
		o = vfs.OpenRead | vfs.OpenWrite
	}
	for _, m := range [...]struct {
		bits uint32
		flag vfs.OpenFlags
	}{
		{syscall.O_TRUNC, vfs.OpenTrunc},
		{syscall.O_EXCL, vfs.OpenExcl},
		{unix.O_SYNC &^ unix.O_DSYNC, vfs.OpenSync},
		{unix.O_DSYNC, vfs.OpenDsync},
		{unix.O_DIRECT, vfs.OpenDirect},
		{unix.O_NOATIME, vfs.OpenNoTime},
	} {
		if f&m.bits != 0 {
			o |= m.flag
		}
	}
	return o
}

// Open implements fuse.RawFileSystem.
func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	h := &in.InHeader
	c := r.creds.of(h)
	flags := r.openFlags(in.Flags) &^ vfs.OpenExcl
	f, err := r.fs.Open(r.patient(), c, ino(h), flags)
	if err == nil && in.Mode&fuse.OPEN_KILL_SUIDGID != 0 && c.Uid == 0 {
		err = r.killPrivileges(h, c) // root without CAP_FSETID
	}
	if err == nil {
		err = r.opened(&fileHandle{file: f, ino: ino(h), cred: c, flags: flags}, out)
	}
	if err != nil && f != nil {
		_ = f.Close()
	}
	return r.status("open", h, err)
}

// Create implements fuse.RawFileSystem: open(2) with O_CREAT of a name that the
// kernel does not know to exist.
func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r.inval.begin()
	defer r.inval.end()
	h := &in.InHeader
	c := r.creds.of(h)
	flags := r.openFlags(in.Flags)
	a, f, err := r.fs.Create(r.patient(), c, ino(h), name, vfs.NewNode{
		Type: fsapi.TypeRegular, Mode: in.Mode & fsapi.ModeMask, Umask: in.Umask,
	}, flags)
	if err != nil {
		return r.status("create", h, err)
	}
	if err := r.opened(&fileHandle{file: f, ino: a.Ino, cred: c, flags: flags}, &out.OpenOut); err != nil {
		_ = f.Close()
		return r.status("create", h, err)
	}
	r.fillEntry(&out.EntryOut, &a)
	return fuse.OK
}

// Tmpfile implements fuse.RawFileSystem: open(2) with O_TMPFILE is not
// supported, which programs provide for.
func (r *raw) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

// opened gives a handle its number and says how the kernel may cache it.
func (r *raw) opened(f *fileHandle, out *fuse.OpenOut) (err error) {
	if out.Fh, err = r.files.put(f); err != nil {
		return err
	}
	switch {
	case !cached(f.ino):
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	case f.flags&vfs.OpenDirect != 0 && r.directMmap:
		out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES | fuse.FOPEN_KEEP_CACHE
	case r.keep(f):
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return nil
}

// keep reports whether the kernel may use pages it has of the file (K2, K3).
func (r *raw) keep(f *fileHandle) bool {
	if !r.inval.settled(f.ino) {
		return false
	}
	if !r.inval.lost.Load() {
		return true
	}
	a, err := f.file.Attr(r.patient())
	return err == nil && r.inval.trusted(a.Ctime)
}

// Read implements fuse.RawFileSystem.
func (r *raw) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f := r.files.get(in.Fh)
	if f == nil {
		return nil, fuse.EBADF
	}
	n, err := f.file.ReadAt(once(cancel), buf, int64(in.Offset))
	if retry(err, in.Pid) {
		n, err = f.file.ReadAt(r.patient(), buf, int64(in.Offset))
	}
	if err != nil {
		return nil, r.status("read", &in.InHeader, err)
	}
	return readResult(buf[:n]), fuse.OK
}

// result is bytes in the request's own buffer. It is pooled, as go-fuse says
// when it is done with one.
type result struct{ b []byte }

var results = sync.Pool{New: func() any { return new(result) }}

var _ fuse.ReadResult = (*result)(nil)

func readResult(b []byte) *result {
	res := results.Get().(*result)
	res.b = b
	return res
}

// Bytes implements fuse.ReadResult.
func (res *result) Bytes([]byte) ([]byte, fuse.Status) { return res.b, fuse.OK }

// Size implements fuse.ReadResult.
func (res *result) Size() int { return len(res.b) }

// Done implements fuse.ReadResult.
func (res *result) Done() {
	res.b = nil
	results.Put(res)
}

// Write implements fuse.RawFileSystem.
func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	f := r.files.get(in.Fh)
	if f == nil {
		return 0, fuse.EBADF
	}
	file := f.file
	cached := in.WriteFlags&fuse.WRITE_CACHE != 0
	appending := in.Flags&syscall.O_APPEND != 0 && !cached
	if appending {
		var err error
		if file, err = r.appender(f); err != nil {
			return 0, r.status("write", &in.InHeader, err)
		}
	}
	n, err := file.WriteAt(r.patient(), data, int64(in.Offset))
	if err == nil && in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 && f.cred.Uid == 0 {
		err = r.killPrivileges(&in.InHeader, f.cred)
	}
	if err != nil && n == 0 {
		if cached && errors.Is(err, fsapi.Immutable) {
			// A mapping changed the kernel's pages, which must not be read as
			// what is under retention.
			r.inval.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: f.ino, Off: int64(in.Offset), Len: int64(len(data))})
		}
		return 0, r.status("write", &in.InHeader, err)
	}
	if appending {
		r.checkAppend(file, f.ino, int64(in.Offset)+int64(n))
	}
	return uint32(n), fuse.OK
}

// Writev implements fuse.RawFileSystem. Segments come from transports other
// than /dev/fuse, whose data is in one piece.
func (r *raw) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if len(data) != 1 {
		return 0, fuse.ENOSYS
	}
	return r.Write(cancel, in, data[0])
}

// appender is the handle that O_APPEND writes with: vfs finds the end of the
// file then and there, which another door may have moved. The flag is of each
// write, not of the handle: fcntl(2) changes it.
func (r *raw) appender(f *fileHandle) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.appender != nil {
		return f.appender, nil
	}
	flags := f.flags&^(vfs.OpenTrunc|vfs.OpenExcl) | vfs.OpenAppend
	a, err := r.fs.Open(r.patient(), f.cred, f.ino, flags)
	if err == nil {
		f.appender = a
	}
	return a, err
}

// checkAppend drops the pages the kernel wrote at what it took for the end of
// the file, where the end was elsewhere.
func (r *raw) checkAppend(file vfs.File, ino fsapi.Ino, end int64) {
	if a, err := file.Attr(r.patient()); err != nil || a.Size != end {
		r.inval.changed(fsapi.Change{Kind: fsapi.ChangeContent, Ino: ino, Len: -1})
	}
}

// killPrivileges clears setuid and setgid as write(2) does, where vfs cannot
// tell: the file was opened by root and the writer is another, or is root
// without CAP_FSETID (FUSE_HANDLE_KILLPRIV_V2).
func (r *raw) killPrivileges(h *fuse.InHeader, c *fsapi.Cred) error {
	a, err := r.fs.Getattr(r.patient(), ino(h))
	if err != nil {
		return err
	}
	mode := a.Mode &^ fsapi.ModeSetuid
	if mode&0o010 != 0 {
		mode &^= fsapi.ModeSetgid
	}
	if mode == a.Mode {
		return nil
	}
	_, err = r.fs.Setattr(r.patient(), c, ino(h), vfs.SetAttr{Mode: &mode})
	return err
}

// handles calls fn with each vfs.File of f until one fails.
func (f *fileHandle) handles(fn func(vfs.File) error) error {
	f.mu.Lock()
	a := f.appender
	f.mu.Unlock()
	err := fn(f.file)
	if a == nil {
		return err
	}
	if e := fn(a); err == nil {
		err = e
	}
	return err
}

// Flush implements fuse.RawFileSystem: close(2) of one descriptor.
func (r *raw) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	owner := r.owner(in.LockOwner)
	return r.status("flush", &in.InHeader, f.handles(func(v vfs.File) error {
		return v.Flush(r.patient(), owner)
	}))
}

// fsyncDataOnly is FUSE_FSYNC_FDATASYNC.
const fsyncDataOnly = 1

// Fsync implements fuse.RawFileSystem.
func (r *raw) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	dataOnly := in.FsyncFlags&fsyncDataOnly != 0
	return r.status("fsync", &in.InHeader, f.handles(func(v vfs.File) error {
		err := v.Sync(once(cancel), dataOnly)
		if retry(err, in.Pid) {
			err = v.Sync(r.patient(), dataOnly)
		}
		return err
	}))
}

// Release implements fuse.RawFileSystem.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { r.closeFile(in.Fh) }

func (r *raw) closeFile(fh uint64) {
	f := r.files.drop(fh)
	if f == nil {
		return
	}
	if err := f.handles(vfs.File.Close); err != nil {
		r.log.Warn("closing a file failed", "inode", f.ino, "err", err)
	}
}

// Fallocate implements fuse.RawFileSystem.
func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	return r.status("fallocate", &in.InHeader,
		f.file.Allocate(r.patient(), vfs.AllocMode(in.Mode), int64(in.Offset), int64(in.Length)))
}

// Lseek implements fuse.RawFileSystem: SEEK_DATA and SEEK_HOLE.
func (r *raw) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.EINVAL
	}
	hole := in.Whence == unix.SEEK_HOLE
	off, err := f.file.Seek(once(cancel), int64(in.Offset), hole)
	if retry(err, in.Pid) {
		off, err = f.file.Seek(r.patient(), int64(in.Offset), hole)
	}
	out.Offset = uint64(off)
	return r.status("lseek", &in.InHeader, err)
}

// maxCopy bounds what one request copies, so that its length fits the answer
// and a signal is not kept waiting for long.
const maxCopy = 1 << 30

// CopyFileRange implements fuse.RawFileSystem.
func (r *raw) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := r.files.get(in.FhIn), r.files.get(in.FhOut)
	if from == nil || to == nil {
		return 0, fuse.EBADF
	}
	if in.Flags != 0 {
		return 0, fuse.EINVAL
	}
	n, err := from.file.CopyRange(r.patient(), int64(in.OffIn), to.file, int64(in.OffOut), int64(min(in.Len, maxCopy)))
	if err != nil && n == 0 {
		return 0, r.status("copy_file_range", &in.InHeader, err)
	}
	return uint32(n), fuse.OK
}
