package osfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	m      *Mem
	node   *node
	name   string
	flag   int
	closed atomic.Bool

	mu  sync.Mutex
	pos int64 // guarded by mu
}

// check refuses calls on a closed handle, on a directory, or against the mode
// it was opened with.
func (f *memFile) check(op string, write bool) error {
	mode := f.flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	var err error
	switch {
	case f.closed.Load():
		err = fs.ErrClosed
	case write && mode == os.O_RDONLY, !write && mode == os.O_WRONLY:
		err = syscall.EBADF
	case f.node.dir != nil:
		err = syscall.EISDIR
	}
	return pathError(op, f.name, err)
}

// checkDirect is stricter than open(2) about what DirectIO takes, but for the
// place in memory, which it does not look at.
func (f *memFile) checkDirect(op string, n int, off int64) error {
	if f.flag&DirectIO != 0 && (off%DirectAlign != 0 || n%DirectAlign != 0) {
		return pathError(op, f.name, syscall.EINVAL)
	}
	return nil
}

// Name is the name given to OpenFile.
func (f *memFile) Name() string { return f.name }

// Fd is no descriptor.
func (f *memFile) Fd() uintptr { return ^uintptr(0) }

// Read reads from the shared position.
func (f *memFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt is os.File.ReadAt.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("readat", f.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := f.checkDirect("read", len(p), off); err != nil {
		return 0, err
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.node.mu.RLock()
	defer f.node.mu.RUnlock()
	c := &f.node.data
	n := min(int64(len(p)), max(c.size-off, 0))
	c.live.read(p[:n], off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Write writes at the shared position, or at the end with O_APPEND.
func (f *memFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	if f.flag&os.O_APPEND != 0 {
		f.pos = f.node.data.size
	}
	n, err := f.writeLocked(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt is os.File.WriteAt.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.check("write", true)
	switch {
	case err != nil:
		return 0, err
	case off < 0:
		return 0, pathError("writeat", f.name, syscall.EINVAL)
	case f.flag&os.O_APPEND != 0:
		return 0, errors.New("osfs: WriteAt on a file opened with O_APPEND")
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	return f.writeLocked(p, off)
}

// writeLocked writes as much as there is space for. Requires Mem.mu and
// node.mu.
func (f *memFile) writeLocked(p []byte, off int64) (int, error) {
	if err := f.checkDirect("write", len(p), off); err != nil {
		return 0, err
	}
	c := &f.node.data
	want := c.need(off, int64(len(p)))
	got := f.m.reserve(want)
	var err error
	if got < want {
		p, err = c.fits(p, off, got), pathError("write", f.name, errNoSpace)
		f.m.used.Add(c.need(off, int64(len(p))) - got)
	}
	c.write(p, off)
	f.node.mtime = f.m.opts.Now()
	return len(p), err
}

// fits is how much of p can be written at off with so many new blocks.
func (c *content) fits(p []byte, off, blocks int64) []byte {
	end := off
	for i := off / blockSize; end < off+int64(len(p)); i++ {
		if c.live.get(i) == nil {
			if blocks == 0 {
				break
			}
			blocks--
		}
		end = (i + 1) * blockSize
	}
	return p[:min(int64(len(p)), end-off)]
}

// Truncate sets the size; growing leaves a hole.
func (f *memFile) Truncate(size int64) error {
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.m.truncate(f.node, size)
	return nil
}

// truncate requires Mem.mu, for reading at least.
func (m *Mem) truncate(n *node, size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.data.live.alloc
	n.data.truncate(size)
	m.used.Add(n.data.live.alloc - before)
	n.mtime = m.opts.Now()
}

// Sync makes contents and size durable, not the name. On a directory it is
// SyncDir.
func (f *memFile) Sync() error {
	if f.closed.Load() {
		return pathError("sync", f.name, fs.ErrClosed)
	}
	if f.node.dir != nil {
		f.m.mu.Lock()
		defer f.m.mu.Unlock()
		f.m.syncDirLocked(f.node)
		return nil
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	f.node.data.sync()
	return nil
}

// SyncData is Sync.
func (f *memFile) SyncData() error { return f.Sync() }

// SyncRange does nothing: it promises nothing.
func (f *memFile) SyncRange(_, _ int64) error { return f.checkOpen("sync_file_range") }

// Preallocate says ENOSPC where the range cannot fit, and reserves nothing.
func (f *memFile) Preallocate(off, n int64) error {
	if err := f.check("fallocate", true); err != nil {
		return err
	}
	if f.m.opts.Capacity == 0 {
		return nil
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	f.node.mu.RLock()
	defer f.node.mu.RUnlock()
	if f.m.used.Load()+f.node.data.need(off, n) > f.m.opts.Capacity/blockSize {
		return pathError("fallocate", f.name, errNoSpace)
	}
	return nil
}

// DropCache does nothing.
func (f *memFile) DropCache(_, _ int64) error { return f.checkOpen("fadvise") }

func (f *memFile) checkOpen(op string) error {
	if f.closed.Load() {
		return pathError(op, f.name, fs.ErrClosed)
	}
	return nil
}

// Stat describes the file.
func (f *memFile) Stat() (fs.FileInfo, error) {
	if err := f.checkOpen("stat"); err != nil {
		return nil, err
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return f.node.info(path.Base(clean(f.name))), nil
}

// Close ends the handle. Nothing is synced by it.
func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.node.opens--
	f.m.release(f.node)
	return nil
}

// memInfo is a fs.FileInfo; Sys is nil.
type memInfo struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

// info requires Mem.mu, for reading at least.
func (n *node) info(name string) fs.FileInfo {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return memInfo{name: name, size: n.data.size, mode: n.mode, mtime: n.mtime}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.mtime }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }
