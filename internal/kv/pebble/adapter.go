package pebble

import (
	"io"
	"os"
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/osfs"
)

// adapter is Pebble's file seam over ours.
type adapter struct{ fs osfs.FS }

var _ vfs.FS = adapter{}

func (a adapter) open(name string, flag int) (vfs.File, error) {
	f, err := a.fs.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if isLog(name) && flag != os.O_RDONLY {
		return &logFile{file: file{f}}, nil
	}
	return file{f}, nil
}

// Create implements vfs.FS: always a new inode.
func (a adapter) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if err := a.beforeMarker(name); err != nil {
		return nil, err
	}
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := a.open(name, flags)
	if os.IsExist(err) {
		if err := a.fs.Remove(name); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		return a.open(name, flags)
	}
	return f, err
}

// Link implements vfs.FS.
func (a adapter) Link(from, to string) error { return a.fs.Link(from, to) }

// Open implements vfs.FS.
func (a adapter) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := a.open(name, os.O_RDONLY)
	if err == nil {
		for _, o := range opts {
			o.Apply(f)
		}
	}
	return f, err
}

// OpenReadWrite implements vfs.FS.
func (a adapter) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return a.open(name, os.O_RDWR|os.O_CREATE)
}

// OpenDir implements vfs.FS.
func (a adapter) OpenDir(name string) (vfs.File, error) { return dir{fs: a.fs, name: name}, nil }

// Remove implements vfs.FS.
func (a adapter) Remove(name string) error {
	if err := a.beforeMarker(name); err != nil {
		return err
	}
	return a.fs.Remove(name)
}

// beforeMarker makes durable what happened in the directory before a marker is
// made or removed. Pebble moves a marker by making the file it points to, making
// the new marker, removing the old one, and then syncing the directory. Where a
// file system does not keep that order a power cut leaves a marker that points
// to nothing, or none at all, and Pebble would take the directory for a new one.
func (a adapter) beforeMarker(name string) error {
	if !strings.HasPrefix(path.Base(name), markerPrefix) {
		return nil
	}
	return a.fs.SyncDir(path.Dir(name))
}

// RemoveAll implements vfs.FS.
func (a adapter) RemoveAll(name string) error { return a.fs.RemoveAll(name) }

// Rename implements vfs.FS.
func (a adapter) Rename(from, to string) error { return a.fs.Rename(from, to) }

// ReuseForWrite implements vfs.FS.
func (a adapter) ReuseForWrite(from, to string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if err := a.fs.Rename(from, to); err != nil {
		return nil, err
	}
	return a.open(to, os.O_RDWR)
}

// MkdirAll implements vfs.FS.
func (a adapter) MkdirAll(name string, perm os.FileMode) error { return a.fs.MkdirAll(name, perm) }

// Lock implements vfs.FS.
func (a adapter) Lock(name string) (io.Closer, error) { return a.fs.Lock(name) }

// List implements vfs.FS.
func (a adapter) List(name string) ([]string, error) { return a.fs.ReadDir(name) }

// Stat implements vfs.FS.
func (a adapter) Stat(name string) (vfs.FileInfo, error) { return info(a.fs.Stat(name)) }

// PathBase implements vfs.FS.
func (a adapter) PathBase(p string) string { return path.Base(p) }

// PathJoin implements vfs.FS.
func (a adapter) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements vfs.FS.
func (a adapter) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage implements vfs.FS.
func (a adapter) GetDiskUsage(name string) (vfs.DiskUsage, error) {
	c, err := a.fs.StatFS(name)
	return vfs.DiskUsage{AvailBytes: uint64(c.Avail), TotalBytes: uint64(c.Total), UsedBytes: uint64(c.Total - c.Free)}, err
}

// Unwrap implements vfs.FS.
func (a adapter) Unwrap() vfs.FS { return nil }

// file is one of our files as Pebble wants it.
type file struct{ osfs.File }

var _ vfs.File = file{}

// Stat implements vfs.File.
func (f file) Stat() (vfs.FileInfo, error) { return info(f.File.Stat()) }

// SyncTo implements vfs.File: it starts write-out and promises nothing.
func (f file) SyncTo(n int64) (bool, error) { return false, f.SyncRange(0, n) }

// Prefetch implements vfs.File; the host's own read-ahead does it.
func (f file) Prefetch(int64, int64) error { return nil }

// dir is a directory opened to be synced.
type dir struct {
	vfs.File // nil: a directory is neither read nor written
	fs       osfs.FS
	name     string
}

func (d dir) Sync() error                  { return d.fs.SyncDir(d.name) }
func (d dir) SyncData() error              { return d.Sync() }
func (d dir) SyncTo(int64) (bool, error)   { return false, nil }
func (d dir) Close() error                 { return nil }
func (d dir) Stat() (vfs.FileInfo, error)  { return info(d.fs.Stat(d.name)) }
func (d dir) Fd() uintptr                  { return vfs.InvalidFd }
func (d dir) Prefetch(int64, int64) error  { return nil }
func (d dir) Preallocate(_, _ int64) error { return nil }

// fileInfo adds what Pebble wants to know only of the root file system.
type fileInfo struct{ os.FileInfo }

func (fileInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func info(fi os.FileInfo, err error) (vfs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	return fileInfo{fi}, nil
}
