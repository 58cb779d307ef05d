package osfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// OS is the file system of the machine.
type OS struct{}

var (
	_ FS   = OS{}
	_ File = (*osFile)(nil)
)

// OpenFile is os.OpenFile. flag may also take DirectIO.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, raw: raw}, nil
}

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll is os.RemoveAll.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Link is os.Link.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// MkdirAll is os.MkdirAll.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// Stat is os.Stat.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir is the sorted names in a directory, without a stat of each.
func (OS) ReadDir(name string) ([]string, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir is fsync(2) on a directory.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Lock creates name where it is missing and takes flock(2) on it. The lock
// belongs to this open file description, so that a second Lock is refused in
// the same process too; it ends with the process however that ends.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flockExclusive(f); err != nil {
		return nil, errors.Join(pathError("lock", name, err), f.Close())
	}
	return f, nil
}

// StatFS is statfs(2).
func (OS) StatFS(name string) (Capacity, error) {
	c, err := statFS(name)
	return c, pathError("statfs", name, err)
}

// osFile is an *os.File with the calls package os lacks.
type osFile struct {
	*os.File
	raw syscall.RawConn // keeps the descriptor from being reused during a call
}

// SyncRange is sync_file_range(2) with SYNC_FILE_RANGE_WRITE.
func (f *osFile) SyncRange(off, n int64) error {
	return f.control("sync_file_range", func(fd int) error { return syncRange(fd, off, n) })
}

// Preallocate is fallocate(2) with FALLOC_FL_KEEP_SIZE; a file system without
// it is not an error.
func (f *osFile) Preallocate(off, n int64) error {
	err := f.control("fallocate", func(fd int) error { return preallocate(fd, off, n) })
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// DropCache is posix_fadvise(2) with POSIX_FADV_DONTNEED.
func (f *osFile) DropCache(off, n int64) error {
	return f.control("fadvise", func(fd int) error { return dropCache(fd, off, n) })
}

// control runs call on the descriptor, again for as long as a signal
// interrupts it.
func (f *osFile) control(op string, call func(fd int) error) error {
	var callErr error
	err := f.raw.Control(func(fd uintptr) {
		for callErr = syscall.EINTR; errors.Is(callErr, syscall.EINTR); {
			callErr = call(int(fd))
		}
	})
	if err != nil {
		return pathError(op, f.Name(), fs.ErrClosed)
	}
	return pathError(op, f.Name(), callErr)
}

// pathError names the file in err. A nil err stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
