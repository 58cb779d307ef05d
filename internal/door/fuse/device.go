package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
)

// device is /dev/fuse, mounted. The door mounts by itself where it may, to keep
// a descriptor: go-fuse sends some notifications only.
type device struct {
	mu   sync.Mutex
	fd   int // -1 once closed; guarded by mu
	lent int // a duplicate, for go-fuse to own
}

// openDevice opens /dev/fuse and mounts it (mount(2), linux/fuse.h). The
// options are those of fuse_fs_parameters in fs/fuse/inode.c.
func openDevice(o *Options, m *fuse.MountOptions) (*device, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "opening /dev/fuse")
	}
	opts := append([]string{
		fmt.Sprintf("fd=%d", fd), "rootmode=40000", "user_id=0", "group_id=0",
		fmt.Sprintf("max_read=%d", m.MaxWrite),
	}, "default_permissions")
	if o.AllowOther {
		opts = append(opts, "allow_other")
	}
	if err := unix.Mount(o.Name, o.Dir, "fuse.strake", mountFlags(o), strings.Join(opts, ",")); err != nil {
		_ = unix.Close(fd)
		return nil, fsapi.Wrap(fsapi.IO, err, "mounting on "+o.Dir)
	}
	lent, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = unix.Unmount(o.Dir, unix.MNT_DETACH)
		_ = unix.Close(fd)
		return nil, fsapi.Wrap(fsapi.IO, err, "duplicating the descriptor of /dev/fuse")
	}
	return &device{fd: fd, lent: lent}, nil
}

func mountFlags(o *Options) uintptr {
	var flags uintptr
	if !o.Suid {
		flags |= unix.MS_NOSUID
	}
	if !o.Dev {
		flags |= unix.MS_NODEV
	}
	if o.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	return flags
}

// give is the duplicate, whose owner closes it.
func (d *device) give() int { return d.lent }

// close lets go of the device.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// notify sends a notification without a body: struct fuse_out_header.
func (d *device) notify(code uint32) syscall.Errno {
	var msg [16]byte
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[4:], code)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return unix.ENODEV
	}
	if _, err := unix.Write(d.fd, msg[:]); err != nil {
		var e syscall.Errno
		errors.As(err, &e)
		return e
	}
	return 0
}

// link is the way to the kernel. It is set up before the invalidator runs.
type link struct {
	fuse *fuse.Server
	dev  *device // nil where fusermount mounted
}

var _ kernel = (*link)(nil)

// InodeNotify implements kernel.
func (l *link) InodeNotify(node uint64, off, length int64) fuse.Status {
	return l.fuse.InodeNotify(node, off, length)
}

// EntryNotify implements kernel.
func (l *link) EntryNotify(parent uint64, name string) fuse.Status {
	return l.fuse.EntryNotify(parent, name)
}

// DeleteNotify implements kernel.
func (l *link) DeleteNotify(parent, child uint64, name string) fuse.Status {
	return l.fuse.DeleteNotify(parent, child, name)
}

// forgetNames implements kernel. A kernel before Linux 6.16 (protocol 7.44)
// cannot; there the timeouts bound how long it errs.
func (l *link) forgetNames() fuse.Status {
	if l.dev == nil {
		return fuse.ENOSYS
	}
	return fuse.Status(l.dev.notify(-fuse.NOTIFY_INC_EPOCH))
}

// fusermountLazy detaches dir with the helper that may.
func fusermountLazy(dir string) error {
	for _, bin := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(bin); err == nil {
			out, err := exec.Command(path, "-u", "-z", dir).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", bin, err, out)
			}
			return nil
		}
	}
	return os.ErrNotExist
}

// stack is where this goroutine is, for the log.
func stack() string { return string(debug.Stack()) }
