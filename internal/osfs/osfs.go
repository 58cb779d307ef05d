// Package osfs is the seam below everything that touches a local disk. OS is
// the machine's file system; Mem is one in memory that can be cloned as a power
// cut would leave it; Fault is a decorator that fails, tears and slows calls.
//
// It owns: FS, File and their implementations, atomic replacement of files. It
// must not know what is in the files.
package osfs

import (
	"io"
	"io/fs"
	"time"
)

// DirectAlign is what memory, offsets and lengths must be multiples of in calls
// on a file opened with DirectIO, in bytes. It satisfies every disk in use.
const DirectAlign = 4096

// FS is a file system. Names are slash-separated paths as the host takes them.
// Every method may be called concurrently. Errors are *fs.PathError or
// syscall.Errno, so errors.Is(err, fs.ErrNotExist) and
// errors.Is(err, syscall.ENOSPC) hold as they do for package os.
type FS interface {
	// OpenFile is os.OpenFile: flag takes os.O_RDONLY, O_WRONLY, O_RDWR,
	// O_CREATE, O_EXCL, O_TRUNC, O_APPEND. A created name is durable only
	// after SyncDir of its directory.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Remove is os.Remove; durable after SyncDir.
	Remove(name string) error
	// RemoveAll is os.RemoveAll.
	RemoveAll(name string) error
	// Rename is os.Rename; durable after SyncDir of both directories.
	Rename(from, to string) error
	// Link is os.Link.
	Link(from, to string) error
	// MkdirAll is os.MkdirAll; durable after SyncDir of each parent.
	MkdirAll(name string, perm fs.FileMode) error
	// Stat is os.Stat.
	Stat(name string) (fs.FileInfo, error)
	// ReadDir is the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	// SyncDir makes the names in a directory durable: fsync(2) on it.
	SyncDir(name string) error
	// Lock takes an exclusive lock that ends with the process or with Close.
	// A lock held elsewhere is syscall.EWOULDBLOCK, at once.
	Lock(name string) (io.Closer, error)
	// StatFS is the capacity of the file system that holds name.
	StatFS(name string) (Capacity, error)
}

// Capacity is the size of a file system in bytes; Avail is what an ordinary
// user may still write.
type Capacity struct{ Total, Free, Avail int64 }

// File is an open file. ReadAt, WriteAt and Sync may be called concurrently;
// Read and Write move one shared position.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync is fsync(2): contents and size are durable. After an error what
	// was written since the last good Sync may be lost, and a second Sync
	// must not be trusted (fsyncgate).
	Sync() error
	// SyncData is fdatasync(2).
	SyncData() error
	// SyncRange starts write-out of a range without waiting for it and
	// promises nothing: sync_file_range(2) with SYNC_FILE_RANGE_WRITE.
	SyncRange(off, n int64) error
	// Preallocate reserves a range without changing the size: fallocate(2)
	// with FALLOC_FL_KEEP_SIZE. Best effort.
	Preallocate(off, n int64) error
	// DropCache asks the host to forget cached pages of a range:
	// posix_fadvise(2) POSIX_FADV_DONTNEED. Best effort.
	DropCache(off, n int64) error
	// Fd is the host's descriptor, or ^uintptr(0) where there is none.
	Fd() uintptr
}

// Op names a call for Fault's rules.
type Op string

// A Rule of Fault decides what happens to a call before it reaches the file
// system below. It may be called concurrently.
type Rule func(Call) Outcome

// Call is one call on its way down. Off and Len are zero where they do not
// apply.
type Call struct {
	Op   Op
	Name string
	Off  int64
	Len  int
}

// Outcome is what Fault does to a call. The zero Outcome lets it pass.
type Outcome struct {
	// Err is returned instead of calling down, after Short bytes of a write
	// have been passed on (a torn write).
	Err   error
	Short int
	// Delay is waited before anything else.
	Delay time.Duration
	// FlipBit, where 1 or more, inverts bit FlipBit-1 of the bytes read.
	FlipBit int
	// Forget, with an Err of a sync, has every later sync through the same
	// open file do nothing and succeed, as kernels do that drop what they
	// could not write (fsyncgate).
	Forget bool
}
