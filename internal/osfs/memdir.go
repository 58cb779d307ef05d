package osfs

import (
	"io/fs"
	"slices"
	"sync"
	"time"
)

// node is an inode of a Mem. What is not marked otherwise is guarded by Mem.mu.
type node struct {
	id     uint64
	mode   fs.FileMode
	locked bool
	opens  int     // handles
	links  []*node // the directory of each name, as the program sees it
	ops    []*dirOp

	// dir is nil for a file.
	dir *dir

	mu    sync.RWMutex // taken with Mem.mu held, for reading at least
	data  content      // guarded by mu
	mtime time.Time    // guarded by mu
}

// dir is the names in a directory.
type dir struct {
	entries map[string]*node
	// unsynced has the names for which a power cut may leave something other
	// than what is in entries.
	unsynced map[string]*unsyncedName
	ops      []*dirOp // on this directory, in order; some may be done
}

type unsyncedName struct {
	was     *node // durable value; nil: no such name
	pending int   // operations not done
	last    *dirOp
}

func newDir() *dir {
	return &dir{entries: map[string]*node{}, unsynced: map[string]*unsyncedName{}}
}

// dirOp is a change of names which happens whole or not at all.
type dirOp struct {
	sets []nameSet
	// deps happen before this one if it happens, so that no crash loses both
	// the old and the new name of a file, or makes a cycle of directories.
	deps []*dirOp
	done bool // durable
	// index is the place among the operations of a crash clone.
	index int
}

// nameSet gives a name in a directory to a node, or to none.
type nameSet struct {
	dir  *node
	name string
	node *node
}

// record enters an operation which has not been applied yet, and applies it.
// nodes are those that gain or lose a name in it.
func (m *Mem) record(op *dirOp, nodes ...*node) {
	for _, s := range op.sets {
		d := s.dir.dir
		u := d.unsynced[s.name]
		if u == nil {
			u = &unsyncedName{was: d.entries[s.name]}
			d.unsynced[s.name] = u
		} else {
			op.depend(u.last)
		}
		u.last = op
		u.pending++
		d.ops = append(d.ops, op)
		s.apply()
	}
	for _, n := range nodes {
		n.ops = append(n.pendingOps(), op)
		m.release(n)
	}
	if m.pending = append(m.pending, op); len(m.pending) > maxPending || m.removed > maxRemoved {
		m.writeBack()
	}
}

// The bounds of what a crash may undo: maxPending changes of names, and maxRemoved
// blocks of files without a name, kept for that. The journal of a real file system is
// written out now and then without being asked, too.
const (
	maxPending = 8192
	maxRemoved = 256 << 20 / blockSize
)

// writeBack makes the older half of the pending changes durable.
func (m *Mem) writeBack() {
	m.removed /= 2
	dirs := map[*dir]bool{}
	for _, op := range m.pending[:len(m.pending)/2] {
		m.commit(op)
		for _, s := range op.sets {
			dirs[s.dir.dir] = true
		}
	}
	isDone := func(op *dirOp) bool { return op.done }
	for d := range dirs {
		d.ops = slices.DeleteFunc(d.ops, isDone)
	}
	m.pending = slices.DeleteFunc(m.pending, isDone)
}

// apply makes a set visible.
func (s nameSet) apply() {
	d := s.dir.dir
	if old := d.entries[s.name]; old != nil {
		i := slices.Index(old.links, s.dir)
		old.links = slices.Delete(old.links, i, i+1)
	}
	if s.node == nil {
		delete(d.entries, s.name)
		return
	}
	d.entries[s.name] = s.node
	s.node.links = append(s.node.links, s.dir)
}

func (op *dirOp) depend(on ...*dirOp) {
	for _, d := range on {
		if d != op && !d.done {
			op.deps = append(op.deps, d)
		}
	}
}

// pendingOps forgets those which are done.
func (n *node) pendingOps() []*dirOp {
	n.ops = slices.DeleteFunc(n.ops, func(op *dirOp) bool { return op.done })
	return n.ops
}

// anchor is what must be durable for n to be reachable by the names it has:
// its own operations and those of the directories above it.
func (n *node) anchor() []*dirOp {
	ops := slices.Clone(n.pendingOps())
	for _, parent := range n.links {
		ops = append(ops, parent.anchor()...)
	}
	return ops
}

// commit makes op durable, with all it depends on.
func (m *Mem) commit(op *dirOp) {
	if op.done {
		return
	}
	for _, d := range op.deps {
		m.commit(d)
	}
	op.done, op.deps = true, nil
	for _, s := range op.sets {
		d := s.dir.dir
		u := d.unsynced[s.name]
		u.was = s.node
		if u.pending--; u.pending == 0 {
			delete(d.unsynced, s.name)
		}
	}
}

// syncDirLocked makes the names in a directory durable. Requires mu.
func (m *Mem) syncDirLocked(n *node) {
	if len(n.dir.ops) == 0 {
		return
	}
	for _, op := range n.dir.ops {
		m.commit(op)
	}
	n.dir.ops = nil
	m.pending = slices.DeleteFunc(m.pending, func(op *dirOp) bool { return op.done })
}
