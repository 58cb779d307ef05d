package osfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Mem is a file system in memory that knows what has been synced: CrashClone
// is what a power cut would leave of it. It is stricter than any real file
// system: only SyncDir makes a name durable (or thousands of later changes of
// names, or hundreds of MiB in files removed later), only Sync what is in a file.
//
// Locks, outermost first: Mem.mu (writing: names, links, CrashClone; reading:
// everything else), memFile.mu before it, node.mu after it.
type Mem struct {
	opts MemOptions
	used atomic.Int64 // blocks

	mu       sync.RWMutex
	root     *node
	nextID   uint64
	pending  []*dirOp // not durable, in the order they happened
	removed  int64    // blocks of files without a name that these may bring back, at most
	lastMove *dirOp   // of a directory
}

// MemOptions are the bounds of a Mem.
type MemOptions struct {
	// Capacity in bytes, in units of 4 KiB; 0: none. Names cost nothing.
	Capacity int64
	// Now is the clock of modification times; nil: time.Now.
	Now func() time.Time
}

var (
	_ FS   = (*Mem)(nil)
	_ File = (*memFile)(nil)
)

// NewMem makes a file system with an empty root directory, durable. Names may
// begin with a slash or not: all start at the root.
func NewMem(o MemOptions) *Mem {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Mem{opts: o}
	m.root = m.newNode(fs.ModeDir | 0o755)
	return m
}

// newNode makes an inode without a name. Requires mu, or m not yet shared.
func (m *Mem) newNode(mode fs.FileMode) *node {
	m.nextID++
	n := &node{id: m.nextID, mode: mode, mtime: m.opts.Now()}
	if mode.IsDir() {
		n.dir = newDir()
	} else {
		n.data = newContent()
	}
	return n
}

// walk finds a node. Requires mu.
func (m *Mem) walk(name string) (*node, error) {
	n := m.root
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		if part == "" {
			continue
		}
		if n.dir == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.dir.entries[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

func clean(name string) string { return path.Clean("/" + name) }

// parent finds the directory a name is in, and its last part. Requires mu.
func (m *Mem) parent(name string) (*node, string, error) {
	dirName, base := path.Split(clean(name))
	d, err := m.walk(dirName)
	switch {
	case err != nil:
		return nil, "", err
	case d.dir == nil:
		return nil, "", syscall.ENOTDIR
	case len(base) > 255:
		return nil, "", syscall.ENAMETOOLONG
	}
	return d, base, nil
}

// release frees the space of a file that has neither name nor handle left.
// Requires mu.
func (m *Mem) release(n *node) {
	if n.dir == nil && n.opens == 0 && len(n.links) == 0 {
		m.used.Add(-n.data.live.alloc)
		m.removed += n.data.live.alloc
	}
}

// OpenFile opens or creates a file; a directory may be opened for Sync and
// Stat.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.open(name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	n.opens++
	return &memFile{m: m, node: n, name: name, flag: flag}, nil
}

func (m *Mem) open(name string, flag int, perm fs.FileMode) (*node, error) {
	if clean(name) == "/" {
		return m.root, dirFlags(flag)
	}
	d, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	n := d.dir.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = m.newNode(perm.Perm())
		m.record(&dirOp{sets: []nameSet{{d, base, n}}}, n)
		return n, nil
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n.dir != nil:
		return n, dirFlags(flag)
	case flag&os.O_TRUNC != 0:
		m.truncate(n, 0)
	}
	return n, nil
}

// dirFlags refuses to open a directory for anything but reading.
func dirFlags(flag int) error {
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC) != 0 {
		return syscall.EISDIR
	}
	return nil
}

// Remove removes a file or an empty directory.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	return pathError("remove", name, m.remove(d, base))
}

func (m *Mem) remove(d *node, base string) error {
	n := d.dir.entries[base]
	switch {
	case n == nil && base == "":
		return syscall.EBUSY
	case n == nil:
		return syscall.ENOENT
	case n.dir != nil && len(n.dir.entries) > 0:
		return syscall.ENOTEMPTY
	}
	op := &dirOp{sets: []nameSet{{d, base, nil}}}
	m.dependOnRest(op, n)
	m.record(op, n)
	return nil
}

// dependOnRest makes op, in which n loses a name, wait for what keeps n, or
// what was in it, reachable elsewhere.
func (m *Mem) dependOnRest(op *dirOp, n *node) {
	switch {
	case n.dir != nil:
		op.depend(n.dir.ops...)
		op.depend(n.pendingOps()...)
	case len(n.links) > 1:
		op.depend(n.anchor()...)
	default:
		op.depend(n.pendingOps()...)
	}
}

// RemoveAll removes a tree.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parent(name)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return pathError("removeall", name, err)
	}
	if d.dir.entries[base] == nil {
		return nil
	}
	return pathError("removeall", name, m.removeTree(d, base))
}

func (m *Mem) removeTree(d *node, base string) error {
	if n := d.dir.entries[base]; n.dir != nil {
		for _, name := range slices.Sorted(maps.Keys(n.dir.entries)) {
			if err := m.removeTree(n, name); err != nil {
				return err
			}
		}
	}
	return m.remove(d, base)
}

// Rename moves a file or a directory; it replaces a file but, as os.Rename, no
// directory.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (m *Mem) rename(from, to string) error {
	fd, fb, err := m.parent(from)
	if err != nil {
		return err
	}
	td, tb, err := m.parent(to)
	if err != nil {
		return err
	}
	n, target := fd.dir.entries[fb], td.dir.entries[tb]
	switch {
	case n == nil:
		return syscall.ENOENT
	case target == n:
		return nil
	case target != nil && target.dir != nil:
		return syscall.EEXIST
	case target != nil && n.dir != nil:
		return syscall.ENOTDIR
	case n.dir != nil && strings.HasPrefix(clean(to), clean(from)+"/"):
		return syscall.EINVAL
	}
	if fd != td && n.dir == nil {
		m.renameAcross(n, nameSet{fd, fb, nil}, nameSet{td, tb, n}, target)
		return nil
	}
	op := &dirOp{sets: []nameSet{{fd, fb, nil}, {td, tb, n}}}
	op.depend(n.pendingOps()...)
	nodes := []*node{n}
	if target != nil {
		m.dependOnRest(op, target)
		nodes = append(nodes, target)
	}
	if n.dir != nil {
		if m.lastMove != nil {
			op.depend(m.lastMove)
		}
		if fd != td {
			op.depend(td.anchor()...)
		}
		m.lastMove = op
	}
	m.record(op, nodes...)
	return nil
}

// renameAcross moves a file between directories as two operations, the new
// name first: until both directories are synced, a power cut may leave both
// names.
func (m *Mem) renameAcross(n *node, unset, set nameSet, target *node) {
	link := &dirOp{sets: []nameSet{set}}
	nodes := []*node{n}
	if target != nil {
		m.dependOnRest(link, target)
		nodes = append(nodes, target)
	}
	m.record(link, nodes...)
	unlink := &dirOp{sets: []nameSet{unset}}
	unlink.depend(n.anchor()...)
	m.record(unlink, n)
}

// Link gives a file a second name.
func (m *Mem) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.link(from, to); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
	}
	return nil
}

func (m *Mem) link(from, to string) error {
	n, err := m.walk(from)
	if err != nil {
		return err
	}
	d, base, err := m.parent(to)
	switch {
	case err != nil:
		return err
	case d.dir.entries[base] != nil || base == "":
		return syscall.EEXIST
	case n.dir != nil:
		return syscall.EPERM
	}
	m.record(&dirOp{sets: []nameSet{{d, base, n}}}, n)
	return nil
}

// MkdirAll makes a directory and those above it.
func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		switch {
		case part == "":
			continue
		case len(part) > 255:
			return pathError("mkdir", name, syscall.ENAMETOOLONG)
		}
		child := n.dir.entries[part]
		if child == nil {
			child = m.newNode(fs.ModeDir | perm.Perm())
			m.record(&dirOp{sets: []nameSet{{n, part, child}}}, child)
		}
		if child.dir == nil {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		n = child
	}
	return nil
}

// Stat describes a file or directory.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.walk(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(path.Base(clean(name))), nil
}

// ReadDir is the names in a directory, sorted.
func (m *Mem) ReadDir(name string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.walk(name)
	if err == nil && n.dir == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return slices.Sorted(maps.Keys(n.dir.entries)), nil
}

// SyncDir makes the names in a directory durable, and no others, unless losing
// those would lose a file.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.walk(name)
	if err == nil && n.dir == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	m.syncDirLocked(n)
	return nil
}

// Lock locks a file, which it makes where it is missing. A crash clone has no
// locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.open(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil && n.locked {
		err = syscall.EWOULDBLOCK
	}
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	n.locked = true
	n.opens++
	return &memLock{m: m, node: n}, nil
}

type memLock struct {
	m    *Mem
	node *node // nil once closed; guarded by m.mu
}

// Close gives the lock back.
func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.node == nil {
		return fs.ErrClosed
	}
	l.node.locked = false
	l.node.opens--
	l.m.release(l.node)
	l.node = nil
	return nil
}

// StatFS is the capacity; an unbounded Mem says 1 TiB more than it holds.
func (m *Mem) StatFS(name string) (Capacity, error) {
	if _, err := m.Stat(name); err != nil {
		return Capacity{}, err
	}
	used := m.used.Load() * blockSize
	total := m.opts.Capacity
	if total == 0 {
		total = used + 1<<40
	}
	return Capacity{Total: total, Free: max(total-used, 0), Avail: max(total-used, 0)}, nil
}

// reserve takes up to want blocks from the capacity and says how many it got.
func (m *Mem) reserve(want int64) int64 {
	if want == 0 {
		return 0
	}
	limit := int64(math.MaxInt64)
	if m.opts.Capacity > 0 {
		limit = m.opts.Capacity / blockSize
	}
	over := m.used.Add(want) - limit
	if over <= 0 {
		return want
	}
	give := min(over, want)
	m.used.Add(-give)
	return want - give
}
