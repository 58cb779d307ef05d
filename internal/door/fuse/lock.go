package fuse

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// GetLk implements fuse.RawFileSystem.
func (r *raw) GetLk(_ <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	l, err := r.lock(in)
	if err == nil {
		l, err = f.file.GetLock(r.patient(), l)
	}
	if err != nil {
		return r.status("getlk", &in.InHeader, err)
	}
	out.Lk = fuse.FileLock{Typ: lockTypes[l.Type]}
	if l.Type != vfs.LockNone {
		out.Lk.Start, out.Lk.End, out.Lk.Pid = uint64(l.Start), uint64(l.End), l.Pid
	}
	return fuse.OK
}

// SetLk implements fuse.RawFileSystem.
func (r *raw) SetLk(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return r.setLock(r.patient(), in, false)
}

// SetLkw implements fuse.RawFileSystem. A signal ends the waiting, as
// fcntl(2) and flock(2) say.
func (r *raw) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return r.setLock(once(cancel), in, true)
}

func (r *raw) setLock(ctx requestCtx, in *fuse.LkIn, wait bool) fuse.Status {
	f := r.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	l, err := r.lock(in)
	if err == nil {
		err = f.file.SetLock(ctx, l, wait)
	}
	return r.status("setlk", &in.InHeader, err)
}

// lockTypes are the types of fcntl(2).
var lockTypes = [...]uint32{
	vfs.LockNone:  syscall.F_UNLCK,
	vfs.LockRead:  syscall.F_RDLCK,
	vfs.LockWrite: syscall.F_WRLCK,
}

// lock is the lock a request speaks of.
func (r *raw) lock(in *fuse.LkIn) (vfs.Lock, error) {
	l := vfs.Lock{
		Owner: r.owner(in.Owner), Flock: in.LkFlags&fuse.LK_FLOCK != 0,
		Start: int64(in.Lk.Start), End: int64(in.Lk.End), Pid: in.Lk.Pid,
	}
	for t, typ := range lockTypes {
		if typ == in.Lk.Typ {
			l.Type = vfs.LockType(t)
			return l, nil
		}
	}
	return l, fsapi.Errorf(fsapi.Invalid, "%d is not a type of lock", in.Lk.Typ)
}

func (r *raw) owner(o uint64) vfs.LockOwner { return vfs.LockOwner{Door: r.o.Door, Owner: o} }
