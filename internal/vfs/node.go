package vfs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// node is an inode in memory. There is at most one for an inode, and while an
// operation changes the inode it holds (refs) its node, so that the node is
// never older than what is stored.
type node struct {
	ino  fsapi.Ino
	typ  fsapi.FileType
	refs atomic.Int32 // operations, handles, the dirty queue; at 0 the table may drop it
	used atomic.Bool  // since the table last looked

	// ns is held exclusively while names below a directory change, and while
	// the last name of a file goes; shared while either must not.
	ns sync.RWMutex
	// io is held shared by reads and writes of a file and exclusively by what
	// moves its bytes about.
	io sync.RWMutex
	// fl is held by who moves dirty data into flights.
	fl turn

	mu      sync.RWMutex
	in      meta.Inode           // as callers see it: stored, with newer fields over it
	seq     kv.Seq               // of the batch that in was stored by; orders install
	ssize   int64                // size as stored
	pend    fields               // of in newer than stored and in no flight
	opens   int32                // handles
	writers int32                // of these, for writing
	gone    bool                 // no longer stored: unlinked, not kept
	door    string               // that wrote last
	queued  bool                 // on the dirty queue, or taken off it by a flusher that has not looked at the node yet
	since   time.Time            // when it was put there
	wrote   time.Time            // when it was last written
	fail    *failure             // write-back errors; nil: none yet
	data    *dirty               // nil where nothing is dirty; regular files only
	flights []*leg               // begun and not settled, oldest first
	open    *flight              // the newest, where it still takes data; changed with fl held too
	last    *flight              // launched before open; guarded by fl alone
	before  *flight              // launched before last; guarded by fl alone
	stream  bool                 // on the queue of streams
	extents windows              // stored extents
	acl     *aclPair             // nil: not loaded
	pol     *effective           // nil or of an older generation: not known
	quota   *quotaRoot           // as pol
	names   map[string]fsapi.Ino // some of a directory's names

	nameCount atomic.Int32 // len(names), for when the node is dropped

	next *node // in the dirty queue; guarded by its mutex
}

// attr is what stat(2) says.
func (n *node) attr() fsapi.Attr {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.attrLocked()
}

func (n *node) attrLocked() fsapi.Attr {
	a := n.in.Attr
	if n.data != nil {
		a.Used = n.usedLocked()
	}
	return a
}

// usedLocked is an estimate while there is dirty data: all of it counts as if
// it did not replace anything, up to the size.
func (n *node) usedLocked() int64 {
	stored := min(n.in.Used, n.mask())
	return max(stored, min(stored+n.data.held, n.in.Size))
}

// inTx reads the node's inode in a transaction that will change it. Its change
// number is brought up to that of unsaved changes, so that it goes on from
// there.
func (n *node) inTx(tx *meta.Tx) (*meta.Inode, error) {
	in, err := tx.Inode(n.ino)
	if err != nil {
		return nil, err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	in.Change = max(in.Change, n.in.Change)
	return in, nil
}

// install takes over what a committed transaction stored, unless a later one
// was installed already.
func (n *node) install(in *meta.Inode, seq kv.Seq) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.installLocked(in, seq)
}

func (n *node) installLocked(in *meta.Inode, seq kv.Seq) {
	if seq <= n.seq {
		return
	}
	newer := n.in.Attr
	n.in, n.seq, n.ssize = *in, seq, in.Size
	overlay(&n.in.Attr, &newer, n.newer())
	n.in.Change = max(n.in.Change, newer.Change)
}

// newer is the fields in memory that are newer than the stored ones.
func (n *node) newer() fields {
	f := n.pend
	for _, l := range n.flights {
		f |= l.set
	}
	return f
}

// mask is the offset from which stored extents are gone for readers. REQUIRES
// n.mu.
func (n *node) mask() int64 {
	m := int64(noCut)
	if n.data != nil {
		m = n.data.cut
	}
	for _, l := range n.flights {
		m = min(m, l.cut)
	}
	return m
}

// storedSize is the size without what is in memory.
func (n *node) storedSize() int64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.ssize
}

// dirtyLocked reports whether a flush would find something to do. REQUIRES
// n.mu.
func (n *node) dirtyLocked() bool {
	return n.pend != 0 || n.open != nil || n.data != nil && (n.data.bytes > 0 || n.data.cut != noCut)
}

// table holds the nodes, a bounded number of clean ones among them.
type table struct {
	fs     *Local
	perBin int
	// evicted counts nodes dropped, so that what was read before is not taken
	// for new.
	evicted atomic.Uint64
	bins    [tableBins]tableBin
}

const tableBins = 32

type tableBin struct {
	mu    sync.RWMutex
	nodes map[fsapi.Ino]*node
	loads map[fsapi.Ino]*load
}

// load is the reading of an inode that several callers wait for.
type load struct {
	done chan struct{}
	n    *node
	err  error
}

func newTable(fs *Local, limit int) *table {
	t := &table{fs: fs, perBin: max(limit/tableBins, 8)}
	for i := range t.bins {
		t.bins[i].nodes = map[fsapi.Ino]*node{}
		t.bins[i].loads = map[fsapi.Ino]*load{}
	}
	return t
}

func (t *table) bin(ino fsapi.Ino) *tableBin {
	return &t.bins[(uint64(ino)*0x9E3779B97F4A7C15)>>59]
}

// peek finds a node in memory, held for the caller, or nil.
func (t *table) peek(ino fsapi.Ino) *node {
	b := t.bin(ino)
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := b.nodes[ino]
	if n != nil {
		n.hold()
	}
	return n
}

func (n *node) hold() {
	n.refs.Add(1)
	if !n.used.Load() {
		n.used.Store(true)
	}
}

func (n *node) release() { n.refs.Add(-1) }

// get finds or reads an inode, held for the caller.
func (t *table) get(ctx context.Context, ino fsapi.Ino) (*node, error) {
	if n := t.peek(ino); n != nil {
		return n, nil
	}
	b := t.bin(ino)
	b.mu.Lock()
	if n := b.nodes[ino]; n != nil {
		n.hold()
		b.mu.Unlock()
		return n, nil
	}
	if l := b.loads[ino]; l != nil {
		b.mu.Unlock()
		return t.join(ctx, ino, l)
	}
	l := &load{done: make(chan struct{})}
	b.loads[ino] = l
	b.mu.Unlock()
	t.read(ctx, b, ino, l)
	return l.n, l.err
}

// read reads an inode for get. A node that came and went meanwhile may have
// changed the inode after it was read: then it is read again.
func (t *table) read(ctx context.Context, b *tableBin, ino fsapi.Ino, l *load) {
	for {
		epoch := t.evicted.Load()
		var in *meta.Inode
		l.err = t.fs.view(ctx, func(tx *meta.Tx) (err error) {
			in, err = tx.Inode(ino)
			return err
		})
		if l.err == nil && in.Flags&meta.Orphan != 0 {
			l.err = errGone(ino) // one with a handle has a node
		}
		b.mu.Lock()
		if l.err == nil {
			if l.n = b.nodes[ino]; l.n != nil {
				l.n.hold()
			} else if t.evicted.Load() != epoch {
				b.mu.Unlock()
				continue
			} else {
				l.n = t.addLocked(b, in)
			}
		}
		delete(b.loads, ino)
		close(l.done)
		b.mu.Unlock()
		return
	}
}

// join waits for another caller's load, and tries again where only the other's
// context ended.
func (t *table) join(ctx context.Context, ino fsapi.Ino, l *load) (*node, error) {
	select {
	case <-l.done:
	case <-ctx.Done():
		return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "read inode")
	}
	if l.err != nil {
		if k := fsapi.KindOf(l.err); k != fsapi.Interrupted && k != fsapi.TimedOut {
			return nil, l.err
		}
	}
	return t.get(ctx, ino)
}

func (t *table) addLocked(b *tableBin, in *meta.Inode) *node {
	n := &node{ino: in.Ino, typ: in.Type, in: *in, ssize: in.Size}
	n.hold()
	b.nodes[in.Ino] = n
	if len(b.nodes) > t.perBin {
		t.trimLocked(b)
	}
	return n
}

// trimLocked drops a few nodes that nobody holds and nobody used of late: the
// clock algorithm, with a map's random order for the hand.
func (t *table) trimLocked(b *tableBin) {
	looks := 0
	for ino, n := range b.nodes {
		if n.refs.Load() == 0 {
			if !n.used.Load() {
				delete(b.nodes, ino)
				t.dropped(n)
				if len(b.nodes) <= t.perBin {
					return
				}
			}
			n.used.Store(false)
		}
		if looks++; looks >= 16 {
			return
		}
	}
}

// dropped accounts for a node taken out of a bin.
func (t *table) dropped(n *node) {
	t.evicted.Add(1)
	t.fs.nameCount.Add(-int64(n.nameCount.Swap(0)))
}

// put makes a node of an inode that a transaction of the caller stored, held;
// where there is a node, it takes over what was stored.
func (t *table) put(in *meta.Inode, seq kv.Seq) *node {
	b := t.bin(in.Ino)
	b.mu.Lock()
	n := b.nodes[in.Ino]
	if n == nil {
		n = t.addLocked(b, in)
		n.seq = seq
		b.mu.Unlock()
		return n
	}
	n.hold()
	b.mu.Unlock()
	n.install(in, seq)
	return n
}

// putRead makes a node of an inode that the caller read after it took evicted for epoch,
// held, unless there is one. nil: read it again.
func (t *table) putRead(in *meta.Inode, epoch uint64) *node {
	b := t.bin(in.Ino)
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[in.Ino]
	if n != nil {
		n.hold()
		return n
	}
	if t.evicted.Load() != epoch || b.loads[in.Ino] != nil {
		return nil
	}
	return t.addLocked(b, in)
}

// forget drops the node of an inode that is no longer stored; who holds it
// keeps it.
func (t *table) forget(n *node) {
	b := t.bin(n.ino)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes[n.ino] == n {
		delete(b.nodes, n.ino)
		t.dropped(n)
	}
}

// dropClean forgets every node that nobody holds.
func (t *table) dropClean() {
	for i := range t.bins {
		b := &t.bins[i]
		b.mu.Lock()
		for ino, n := range b.nodes {
			if n.refs.Load() == 0 {
				delete(b.nodes, ino)
				t.dropped(n)
			}
		}
		b.mu.Unlock()
	}
}

// count is how many nodes are in memory.
func (t *table) count() int {
	total := 0
	for i := range t.bins {
		t.bins[i].mu.RLock()
		total += len(t.bins[i].nodes)
		t.bins[i].mu.RUnlock()
	}
	return total
}

// getattr copies an inode's attributes without holding its node.
func (t *table) getattr(ino fsapi.Ino) (a fsapi.Attr, ok bool) {
	b := t.bin(ino)
	b.mu.RLock()
	n := b.nodes[ino]
	b.mu.RUnlock()
	if n == nil {
		return a, false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.gone {
		return a, false
	}
	if !n.used.Load() {
		n.used.Store(true)
	}
	return n.attrLocked(), true
}

// each calls fn for every node, which is held meanwhile.
func (t *table) each(fn func(*node)) {
	for i := range t.bins {
		b := &t.bins[i]
		b.mu.RLock()
		ns := make([]*node, 0, len(b.nodes))
		for _, n := range b.nodes {
			n.refs.Add(1)
			ns = append(ns, n)
		}
		b.mu.RUnlock()
		for _, n := range ns {
			fn(n)
			n.release()
		}
	}
}
