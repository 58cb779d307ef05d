package model

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// Options of New. Zero fields take the defaults named.
type Options struct {
	Clock    clock.Clock    // clock.Real
	Volume   fsapi.VolumeID // 1; comes back in Change.Volume
	Capacity int64          // bytes that Statfs reports and writes are bounded by; 1 TiB
	Inodes   int64          // inodes there may be; 1 << 30
	Atime    policy.Atime   // policy.Relatime
	RootMode uint32         // 0o755
}

// FS is a volume in memory. It implements vfs.FS. Safe for concurrent use.
type FS struct {
	o Options

	mu       sync.Mutex
	nodes    map[fsapi.Ino]*node
	lastIno  fsapi.Ino
	used     int64              // sum of node.content.used()
	watchers []*watcher         // in order of Watch
	pending  []fsapi.Change     // of the batch that runs, delivered when it succeeds
	inBatch  bool               // changes wait in pending
	unlocked chan struct{}      // closed and replaced when a lock is released
	waits    map[*wait]struct{} // POSIX lock requests that wait
}

var _ vfs.FS = (*FS)(nil)

// node is an inode. Everything is guarded by FS.mu.
type node struct {
	attr    fsapi.Attr // Size and Used of regular files are computed by stat
	parent  *node      // directories: where .. leads
	entries map[string]*entry
	cookie  uint64 // of the newest entry
	target  string // symlinks
	data    content
	xattrs  map[string][]byte
	access  acl // nil where the mode says it all
	deflt   acl // directories; nil where there is none
	handles int
	locks   []vfs.Lock
	flocks  []flock
}

// entry is a name in a directory.
type entry struct {
	node   *node
	cookie uint64
}

// New makes an empty volume: a root directory that belongs to root.
func New(o Options) *FS {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Volume == 0 {
		o.Volume = 1
	}
	if o.Capacity == 0 {
		o.Capacity = 1 << 40
	}
	if o.Inodes == 0 {
		o.Inodes = 1 << 30
	}
	if o.Atime == "" {
		o.Atime = policy.Relatime
	}
	if o.RootMode == 0 {
		o.RootMode = 0o755
	}
	f := &FS{o: o, nodes: map[fsapi.Ino]*node{}, unlocked: make(chan struct{}), waits: map[*wait]struct{}{}}
	root := f.newNode(fsapi.TypeDirectory, o.RootMode, 0, 0)
	root.parent = root
	root.attr.Nlink = 2
	return f
}

// newNode makes an inode without a name.
func (f *FS) newNode(t fsapi.FileType, mode, uid, gid uint32) *node {
	f.lastIno++
	now := f.o.Clock.Now()
	n := &node{attr: fsapi.Attr{
		Ino: f.lastIno, Type: t, Mode: mode, Uid: uid, Gid: gid,
		Atime: now, Mtime: now, Ctime: now, Btime: now, Change: 1,
	}}
	if t == fsapi.TypeDirectory {
		n.entries = map[string]*entry{}
		n.cookie = 2 // 1 and 2 are "." and ".."
	}
	f.nodes[n.attr.Ino] = n
	return n
}

// node finds an inode.
func (f *FS) node(ino fsapi.Ino) (*node, error) {
	if n := f.nodes[ino]; n != nil {
		return n, nil
	}
	return nil, fsapi.Errorf(fsapi.Stale, "inode %d is gone", ino)
}

// directory finds an inode that must be a directory.
func (f *FS) directory(ino fsapi.Ino) (*node, error) {
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	if n.attr.Type != fsapi.TypeDirectory {
		return nil, fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", ino)
	}
	return n, nil
}

// stat is what stat(2) says of n.
func (n *node) stat() fsapi.Attr {
	a := n.attr
	switch a.Type {
	case fsapi.TypeRegular:
		a.Size, a.Used = n.data.size, n.data.used()
	case fsapi.TypeSymlink:
		a.Size = int64(len(n.target))
	}
	return a
}

// modified marks mtime and ctime for update; changed marks ctime.
func (f *FS) modified(n *node) {
	n.attr.Mtime = f.o.Clock.Now()
	f.changed(n)
}

func (f *FS) changed(n *node) {
	n.attr.Ctime = f.o.Clock.Now()
	n.attr.Change++
}

// accessed marks atime for update as the mount option says (mount(8)).
func (f *FS) accessed(n *node) {
	now := f.o.Clock.Now()
	a := &n.attr
	switch f.o.Atime {
	case policy.NoAtime:
		return
	case policy.Relatime:
		if a.Atime.After(a.Mtime) && a.Atime.After(a.Ctime) && now.Sub(a.Atime) < 24*time.Hour {
			return
		}
	}
	a.Atime = now
}

// release frees an inode that has neither name nor handle.
func (f *FS) release(n *node) {
	if n.attr.Nlink == 0 && n.handles == 0 {
		f.used -= n.data.used()
		delete(f.nodes, n.attr.Ino)
	}
}

// checkName is the rule for names of vfs.FS.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fsapi.Errorf(fsapi.Invalid, "%q is not a file name", name)
	case len(name) > fsapi.MaxName:
		return fsapi.Errorf(fsapi.NameTooLong, "a name of %d bytes is over %d", len(name), fsapi.MaxName)
	}
	return nil
}

// Lookup implements vfs.FS.
func (f *FS) Lookup(_ context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (fsapi.Attr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.directory(dir)
	if err != nil {
		return fsapi.Attr{}, err
	}
	if err := f.may(c, d, execute); err != nil {
		return fsapi.Attr{}, err
	}
	switch name {
	case ".":
		return d.stat(), nil
	case "..":
		return d.parent.stat(), nil
	}
	if err := checkName(name); err != nil {
		return fsapi.Attr{}, err
	}
	e := d.entries[name]
	if e == nil {
		return fsapi.Attr{}, notExist(name)
	}
	return e.node.stat(), nil
}

func notExist(name string) error {
	return fsapi.Errorf(fsapi.NotExist, "%q does not exist", name)
}

// Getattr implements vfs.FS.
func (f *FS) Getattr(_ context.Context, ino fsapi.Ino) (fsapi.Attr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return fsapi.Attr{}, err
	}
	return n.stat(), nil
}

// Readlink implements vfs.FS.
func (f *FS) Readlink(_ context.Context, ino fsapi.Ino) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return "", err
	}
	if n.attr.Type != fsapi.TypeSymlink {
		return "", fsapi.Errorf(fsapi.Invalid, "inode %d is not a symlink", ino)
	}
	f.accessed(n)
	return n.target, nil
}

// Statfs implements vfs.FS. The model has no quotas.
func (f *FS) Statfs(_ context.Context, ino fsapi.Ino) (fsapi.StatFS, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.node(ino); err != nil {
		return fsapi.StatFS{}, err
	}
	free, inodes := f.o.Capacity-f.used, int64(len(f.nodes))
	return fsapi.StatFS{
		Total: f.o.Capacity, Used: f.used, Free: free, Avail: free,
		Inodes: inodes, InodesFree: f.o.Inodes - inodes,
	}, nil
}

// Syncfs implements vfs.FS: there is nothing to wait for.
func (f *FS) Syncfs(context.Context) error { return nil }

// Parent implements vfs.FS: the first name that a walk in order of inode and
// name meets.
func (f *FS) Parent(_ context.Context, ino fsapi.Ino) (fsapi.Ino, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return 0, "", err
	}
	if ino == fsapi.RootIno {
		return 0, "", nil
	}
	var dir fsapi.Ino
	var best string
	for _, d := range f.nodes {
		for name, e := range d.entries {
			if e.node == n && (dir == 0 || d.attr.Ino < dir || d.attr.Ino == dir && name < best) {
				dir, best = d.attr.Ino, name
			}
		}
	}
	if dir == 0 {
		return 0, "", fsapi.Errorf(fsapi.NotExist, "inode %d has no name", ino)
	}
	return dir, best, nil
}
