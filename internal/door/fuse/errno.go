package fuse

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

// errnos is what each kind of error is to the kernel (errno(3)).
var errnos = [fsapi.KindCount]syscall.Errno{
	fsapi.Other:        syscall.EIO,
	fsapi.NotExist:     syscall.ENOENT,
	fsapi.Exist:        syscall.EEXIST,
	fsapi.NotEmpty:     syscall.ENOTEMPTY,
	fsapi.NotDir:       syscall.ENOTDIR,
	fsapi.IsDir:        syscall.EISDIR,
	fsapi.Access:       syscall.EACCES,
	fsapi.NotPermitted: syscall.EPERM,
	fsapi.Stale:        syscall.ESTALE,
	fsapi.NoSpace:      syscall.ENOSPC,
	fsapi.Quota:        syscall.EDQUOT,
	fsapi.Corrupt:      syscall.EIO,
	fsapi.IO:           syscall.EIO,
	fsapi.Fenced:       syscall.EIO,
	fsapi.Busy:         syscall.EBUSY,
	fsapi.Invalid:      syscall.EINVAL,
	fsapi.NameTooLong:  syscall.ENAMETOOLONG,
	fsapi.Loop:         syscall.ELOOP,
	fsapi.TooManyLinks: syscall.EMLINK,
	fsapi.CrossDevice:  syscall.EXDEV,
	fsapi.NotSupported: syscall.EOPNOTSUPP,
	fsapi.NoAttr:       syscall.ENODATA,
	fsapi.Range:        syscall.ERANGE,
	fsapi.FileTooBig:   syscall.EFBIG,
	fsapi.WouldBlock:   syscall.EAGAIN,
	fsapi.Deadlock:     syscall.EDEADLK,
	fsapi.Interrupted:  syscall.EINTR,
	fsapi.BadHandle:    syscall.EBADF,
	fsapi.ReadOnly:     syscall.EROFS,
	fsapi.TimedOut:     syscall.ETIMEDOUT,
	fsapi.NoDevice:     syscall.ENXIO,
	fsapi.Conflict:     syscall.EAGAIN,
	fsapi.Lost:         syscall.EIO,
	fsapi.Immutable:    syscall.EPERM,
	fsapi.TooBig:       syscall.E2BIG,
	fsapi.Closed:       syscall.EIO,
	fsapi.Unauthorized: syscall.EACCES,
	fsapi.Precondition: syscall.EAGAIN,
}

// errno is the answer to the kernel for err; OK for nil. A kind newer than the
// table is EIO.
func errno(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	k := fsapi.KindOf(err)
	if int(k) >= len(errnos) {
		return fuse.EIO
	}
	return fuse.Status(errnos[k])
}
