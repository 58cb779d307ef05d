package vfs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// errEnough ends a transaction that is not to be committed.
var errEnough = errors.New("enough")

const (
	streamMin = 8 << 20  // dirty bytes of one file at which it is streamed
	groupFile = 1 << 20  // dirty bytes up to which a file is gathered with others
	groupSum  = 32 << 20 // dirty bytes of one gathered flight

	firstBackoff = 500 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// failure is what is known of a node's failed write-back (errseq_t in Linux).
type failure struct {
	seq     uint64 // counts errors
	err     error  // the newest
	retry   time.Time
	backoff time.Duration
}

// flusher is one goroutine of write-back.
func (fs *Local) flusher() {
	for {
		w, ok := fs.queue.next()
		switch {
		case !ok:
			return
		case w.stream != nil:
			fs.stream(w.stream)
			w.stream.release()
		default:
			fs.flushGroup(w.group)
			fs.queue.finish(w)
			releaseAll(w.group)
		}
	}
}

// ticker wakes the flushers in time for what becomes due.
func (fs *Local) ticker() {
	for {
		select {
		case <-fs.o.Clock.After(max(fs.o.FlushAge/5, 10*time.Millisecond)):
			fs.queue.tick()
		case <-fs.stop:
			return
		}
	}
}

// stream moves what a big writer has written into its open flight.
func (fs *Local) stream(n *node) {
	n.fl.Lock()
	n.mu.Lock()
	n.stream = false
	n.mu.Unlock()
	_ = fs.fill(n, false) // settle has recorded the error
	n.fl.Unlock()
	fs.requeue(n)
}

// fill moves dirty data of n into flights: all of it, or, unless all is true,
// while there is much, leaving a flight open. A full flight is made durable
// while the next is being filled. REQUIRES n.fl.
func (fs *Local) fill(n *node, all bool) error {
	class, err := fs.effective(fs.ctx, n)
	if err != nil {
		return fs.failed(n, err)
	}
	least := min(max(slabSize/4, 2*int64(max(class.Chunking.Max, class.Chunking.Fixed))), maxPage)
	slab := max(slabSize, least)
	for {
		f, l := fs.openFlight(n, class)
		n.mu.Lock()
		staged, res := l.stageLocked(&fs.pages, max(min(slab, fits(f.batch)), least))
		size := n.in.Size
		idle := n.data == nil || n.data.bytes < streamMin/2
		n.mu.Unlock()
		took, err := fs.add(f, l, staged, func(p *piece) bool {
			return res == stagedPart || !all && p.end() >= size
		}, all && len(l.pieces) == len(staged) && res == stagedAll)
		if err != nil {
			fs.abort(n, f, err)
			return err
		}
		switch {
		case res == stagedFull, f.bytes >= fs.o.Segment:
			if err := fs.launch(n, f); err != nil {
				return err
			}
		case res == stagedAll && all:
			return nil
		case f.batch.Size() > fs.o.Segment/2 && fits(f.batch) < least: // more would begin another segment, of a few bytes
			if err := fs.launch(n, f); err != nil {
				return err
			}
		case !all && (idle || took == 0):
			return nil
		}
	}
}

// fits is about how much data surely fits into the segment that a batch fills, the
// frames of its chunks included.
func fits(b BlobBatch) int64 { return b.Room() * 15 / 16 }

// openFlight is n's flight that takes data.
func (fs *Local) openFlight(n *node, class *effective) (*flight, *leg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.open; f != nil {
		return f, f.legs[0]
	}
	f := fs.newFlight(class)
	f.prev = n.last
	l := f.boardLocked(n)
	n.open = f
	return f, l
}

// add gives staged pieces to blob. hold says of the last piece whether bytes at
// its end may be left out; they become dirty again. whole says that the pieces
// are all there is to the flight, which may be a whole small file.
func (fs *Local) add(f *flight, l *leg, staged []piece, hold func(*piece) bool, whole bool) (took int64, err error) {
	for i := range staged {
		p := &staged[i]
		if whole && len(staged) == 1 && fs.inlineable(l, p) {
			err = f.batch.AddInline(fs.ctx, l.n.ino, p.data)
			f.bytes += int64(len(p.data))
			return took + int64(len(p.data)), err
		}
		last := i == len(staged)-1
		n, err := f.batch.Add(fs.ctx, l.n.ino, p.off, p.data, last && hold(p))
		if err != nil {
			return took, err
		}
		took += int64(n)
		f.bytes += int64(n)
		if n < len(p.data) {
			l.giveBack(&fs.pages, n)
		}
	}
	return took, nil
}

// inlineable reports whether p is the whole content of a small file.
func (fs *Local) inlineable(l *leg, p *piece) bool {
	if p.off != 0 || len(p.data) > fs.o.InlineMax {
		return false
	}
	l.n.mu.RLock()
	defer l.n.mu.RUnlock()
	return int64(len(p.data)) == l.n.in.Size && (l.cut == 0 || l.n.ssize <= l.n.in.Size)
}

// seal fixes what the flight stores and lets the next one begin. REQUIRES fl
// of its nodes.
func (fs *Local) seal(f *flight) {
	for _, l := range f.legs {
		l.n.mu.Lock()
		l.sealLocked()
		if l.n.open == f {
			l.n.open = nil
		}
		l.n.mu.Unlock()
	}
}

// launch seals a full flight and lets it run while the next is filled, after
// all but the one before it have landed: of a place that is slow to make things
// durable one may do so while another is written.
func (fs *Local) launch(n *node, f *flight) error {
	if b := n.before; b != nil {
		<-b.done
		if b.err != nil {
			fs.abort(n, f, b.err)
			return f.err
		}
	}
	fs.seal(f)
	n.before, n.last = n.last, f
	fs.tasks.Go(func() { f.run(blob.Segment) })
	return nil
}

// abort gives up a flight that could not be filled.
func (fs *Local) abort(n *node, f *flight, err error) {
	fs.seal(f)
	f.batch.Abort()
	if f.prev != nil {
		<-f.prev.done
	}
	f.err = err
	n.before, n.last = nil, nil
	for _, l := range f.legs {
		fs.settle(l, 0, err)
	}
	close(f.done)
}

// flushNode stores everything that is dirty in n when it is called, without
// making the log durable.
func (fs *Local) flushNode(n *node) error {
	n.fl.Lock()
	defer n.fl.Unlock()
	return fs.flushNodeLocked(n)
}

// flushNodeLocked is flushNode. REQUIRES n.fl.
func (fs *Local) flushNodeLocked(n *node) error {
	if !fs.needsFlush(n) {
		fs.abandon(n)
		return fs.landed(n)
	}
	if err := fs.fill(n, true); err != nil {
		return err
	}
	f := n.open
	if f == nil { // the inode has gone
		return fs.landed(n)
	}
	fs.seal(f)
	if f.empty() {
		fs.unbegin(f)
		return fs.landed(n)
	}
	n.before, n.last = nil, nil
	f.run(blob.Auto)
	return f.err
}

// abandon drops the open flight of an inode that has gone, which nobody will
// fill any more, with the memory it holds. REQUIRES n.fl.
func (fs *Local) abandon(n *node) {
	n.mu.RLock()
	f, gone := n.open, n.gone
	n.mu.RUnlock()
	if f != nil && gone {
		fs.abort(n, f, errGone(n.ino))
	}
}

// unbegin drops a flight with nothing in it.
func (fs *Local) unbegin(f *flight) {
	f.batch.Abort()
	for _, l := range f.legs {
		l.n.mu.Lock()
		l.leaveLocked()
		l.n.mu.Unlock()
	}
	close(f.done)
}

// landed waits for the flights of n that were launched.
func (fs *Local) landed(n *node) error {
	f := n.last
	if f == nil {
		return nil
	}
	<-f.done
	n.before, n.last = nil, nil
	return f.err
}

// dirtyBytes is how much of n is to be stored.
func (n *node) dirtyBytes() int64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.data == nil {
		return 0
	}
	return n.data.bytes
}

// flying reports whether a flight was launched and has not landed.
func flying(f *flight) bool {
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

func (fs *Local) needsFlush(n *node) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.gone {
		return false
	}
	return n.dirtyLocked()
}

// flushGroup writes back nodes taken from the queue: small ones together, then
// big ones each alone. It does not wait for a node's fl while it holds those of
// the gathered ones.
func (fs *Local) flushGroup(group []*node) {
	g := gatherer{fs: fs, max: groupSum, failed: fs.retryEach}
	var big []*node
	for _, n := range group {
		n.mu.Lock()
		n.queued = false
		gone := n.gone
		small := len(n.flights) == 0 && (n.data == nil || n.data.bytes <= groupFile)
		n.mu.Unlock()
		switch {
		case !gone && small:
			g.take(n)
		default:
			big = append(big, n)
		}
	}
	g.flush()
	for _, n := range big {
		if fs.flushAged(n) {
			fs.rest(n)
		}
	}
	for _, n := range group {
		fs.requeue(n)
	}
}

func releaseAll(nodes []*node) {
	for _, n := range nodes {
		n.release()
	}
}

// flushAged stores a big node; where it is still being written from one end to
// the other, its last bytes stay for the chunk that they will be part of. Not
// where a writer waits for the room that they take, and nothing of the node is
// on its way that would make some: the writer may be the node's own. left says
// that the node has nothing more to be done about until its writer goes on.
func (fs *Local) flushAged(n *node) (left bool) {
	n.fl.Lock()
	defer n.fl.Unlock()
	n.mu.RLock()
	busy := !n.gone && fs.now().Sub(n.wrote) < fs.o.FlushAge/5
	n.mu.RUnlock()
	if !busy || fs.o.Budget.short() && !flying(n.last) {
		_ = fs.flushNodeLocked(n)
		return false
	}
	if fs.fill(n, false) != nil {
		return false
	}
	if f := n.open; f != nil && fs.now().Sub(f.begun) >= fs.o.FlushAge {
		_ = fs.launch(n, f)
		return false
	}
	if fs.o.Budget.short() && n.last != nil {
		<-n.last.done // what is on its way makes the room that a writer waits for
		return false
	}
	return true
}

// rest puts back a node that is left for its writer.
func (fs *Local) rest(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.gone && n.dirtyLocked() {
		fs.queue.restLocked(n, fs.now())
	}
}

// requeue puts back a node that is dirty still or again. It must not be called
// with a node's fl held.
func (fs *Local) requeue(n *node) {
	n.mu.Lock()
	abandoned := n.gone && n.open != nil
	if !n.gone && !n.queued && n.dirtyLocked() {
		fs.queue.pushLocked(n, fs.now())
	}
	n.mu.Unlock()
	if abandoned {
		_ = fs.flushNode(n) // nothing is stored
	}
}

// gatherer puts many small nodes into one flight.
type gatherer struct {
	fs *Local
	// max bounds the dirty bytes of several nodes in one flight.
	max int64
	// failed deals with the error of a flight of many nodes, or of any where
	// alone is set: it is not recorded, and fl of the nodes is free.
	failed func(*flight)
	alone  bool
	f      *flight
	in     []*node // in f, their fl held
}

// take adds n, unless somebody else is flushing it.
func (g *gatherer) take(n *node) {
	fs := g.fs
	if !n.fl.TryLock() {
		return
	}
	if n.last != nil || n.open != nil {
		_ = fs.flushNodeLocked(n)
		n.fl.Unlock()
		return
	}
	class, err := fs.effective(fs.ctx, n)
	if err != nil {
		_ = fs.failed(n, err)
		n.fl.Unlock()
		return
	}
	g.add(n, class)
}

// board is take for a barrier: it adds n if it is dirty, or reports that it
// cannot.
func (g *gatherer) board(n *node) bool {
	if !n.fl.TryLock() {
		return false
	}
	n.mu.RLock()
	gone, dirty := n.gone, n.dirtyLocked()
	small := len(n.flights) == 0 && (n.data == nil || n.data.bytes <= groupFile)
	n.mu.RUnlock()
	if gone || !small || n.last != nil || n.open != nil {
		n.fl.Unlock()
		return false
	}
	if !dirty {
		n.fl.Unlock()
		return true
	}
	class, err := g.fs.effective(g.fs.ctx, n)
	if err != nil {
		n.fl.Unlock()
		return false
	}
	g.add(n, class)
	return true
}

// add stages n, whose fl the gatherer unlocks.
func (g *gatherer) add(n *node, class *effective) {
	fs := g.fs
	if g.f != nil && (g.f.class.key != class.key || g.f.bytes+n.dirtyBytes() > g.max) {
		g.flush()
	}
	if g.f == nil {
		g.f = fs.newFlight(class)
	}
	n.mu.Lock()
	l := g.f.boardLocked(n)
	staged, res := l.stageLocked(&fs.pages, slabSize)
	n.mu.Unlock()
	g.in = append(g.in, n)
	if _, err := fs.add(g.f, l, staged, func(*piece) bool { return false }, res == stagedAll); err != nil {
		g.abort(err)
	}
}

func (g *gatherer) flush() {
	f := g.f
	if f == nil {
		return
	}
	g.seal()
	f.run(blob.Auto)
	g.landed()
}

// abort gives up the flight that could not be filled.
func (g *gatherer) abort(err error) {
	f := g.f
	g.seal()
	f.batch.Abort()
	f.err = err
	for _, l := range f.legs {
		g.fs.settle(l, 0, err)
	}
	close(f.done)
	g.landed()
}

func (g *gatherer) seal() {
	g.fs.seal(g.f)
	g.f.quiet = g.alone || len(g.f.legs) > 1
}

// landed lets go of the nodes of a flight that has ended.
func (g *gatherer) landed() {
	f := g.f
	for _, n := range g.in {
		n.fl.Unlock()
	}
	g.f, g.in = nil, nil
	if f.err != nil && f.quiet {
		g.failed(f)
	}
}

// retryEach deals with the error of a flight of many nodes: one may have failed
// all, so each is tried, and reported, by itself where that can help.
func (fs *Local) retryEach(f *flight) {
	for _, l := range f.legs {
		switch fsapi.KindOf(f.err) {
		case fsapi.IO, fsapi.NoSpace, fsapi.Closed, fsapi.Interrupted, fsapi.Fenced:
			_ = fs.failed(l.n, f.err)
		default:
			_ = fs.flushNode(l.n)
		}
	}
}

// settle ends a leg: what it carried is stored, or dirty again.
func (fs *Local) settle(l *leg, seq kv.Seq, err error) {
	n := l.n
	n.mu.Lock()
	defer n.mu.Unlock()
	l.leaveLocked()
	for i := range l.pieces {
		fs.pages.put(l.pieces[i].pg)
	}
	switch {
	case err != nil && !n.gone:
		l.returnLocked()
		if !l.f.quiet {
			fs.failLocked(n, err)
		}
	case l.stored == nil: // the inode has gone
		fs.discardLocked(n)
	default:
		fs.landLocked(l, seq)
	}
	l.pieces, l.blocks = nil, nil
}

// leaveLocked takes the leg off its node. REQUIRES n.mu.
func (l *leg) leaveLocked() {
	if l.n.open == l.f {
		l.n.open = nil
	}
	l.n.flights = slices.DeleteFunc(l.n.flights, func(x *leg) bool { return x == l })
}

// landLocked makes n what was stored of it. REQUIRES n.mu.
func (fs *Local) landLocked(l *leg, seq kv.Seq) {
	n := l.n
	l.storedLocked(&fs.pages)
	n.installLocked(l.stored, seq)
	n.extents.clear()
	n.fail = n.fail.succeeded()
	if n.data != nil && n.data.clean() && len(n.flights) == 0 {
		n.data = nil
	}
}

// storedLocked drops the blocks that are stored. REQUIRES n.mu.
func (l *leg) storedLocked(ps *pages) {
	for _, b := range l.blocks {
		if b.leg != l || b.gone {
			continue
		}
		b.leg, b.lent = nil, 0
		if !b.dirty {
			l.n.data.drop(ps, b)
		}
	}
}

// succeeded keeps an error that a handle may yet have to report, without
// holding back the next attempt.
func (f *failure) succeeded() *failure {
	if f != nil {
		f.retry, f.backoff = time.Time{}, 0
	}
	return f
}

// returnLocked makes dirty again what the leg carried. REQUIRES n.mu.
func (l *leg) returnLocked() {
	n, d := l.n, l.n.data
	n.pend |= l.set
	if d == nil {
		return
	}
	d.cut = min(d.cut, l.cut)
	for _, b := range l.blocks {
		if b.leg != l || b.gone {
			continue
		}
		b.leg, b.lent = nil, 0
		if b.dirty {
			d.bytes -= b.fresh()
		}
		b.done = 0
		d.soil(b)
		d.bytes += b.fresh()
	}
}

// failed records a write-back error of n, for its handles to report, and
// returns it. Of an inode that has gone nothing needs to be stored.
func (fs *Local) failed(n *node, err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if fsapi.KindOf(err) == fsapi.Stale {
		fs.discardLocked(n)
		return nil
	}
	fs.failLocked(n, err)
	return err
}

func (fs *Local) failLocked(n *node, err error) {
	f := n.fail
	if f == nil {
		f = &failure{}
		n.fail = f
	}
	f.seq++
	f.err = err
	f.backoff = min(max(2*f.backoff, firstBackoff), lastBackoff)
	f.retry = fs.now().Add(f.backoff)
	fs.budget.failed(err)
	switch {
	case !errors.Is(err, fsapi.Fenced):
		fs.o.Log.Warn("write-back failed; the data stays in memory and is tried again", "ino", n.ino, "retry", f.backoff, "err", err)
	case fs.fenced.CompareAndSwap(false, true):
		fs.o.Log.Error("nothing is written back any more: what was written and not stored is lost when this process ends", "err", err)
	}
	if !n.queued {
		fs.queue.pushLocked(n, fs.now())
	}
}

// discardLocked drops everything dirty of an inode that has gone. REQUIRES
// n.mu.
func (fs *Local) discardLocked(n *node) {
	n.pend = 0
	d := n.data
	if d == nil {
		return
	}
	for _, b := range d.blocks {
		d.drop(&fs.pages, b)
	}
	d.cut, d.fresh = noCut, nil
}

// barrier stores everything that is dirty in the volume when it is called, also
// what flushers and other barriers have taken from the queue and not stored yet.
func (fs *Local) barrier() error {
	w, busy := fs.queue.takeAll()
	err := fs.flushAll(w.group)
	fs.queue.finish(w)
	releaseAll(w.group)
	for _, n := range busy {
		err = cmpErr(err, fs.flushNode(n))
	}
	releaseAll(busy)
	return err
}

// flushAll stores all of nodes taken from the queue, in parallel.
func (fs *Local) flushAll(all []*node) (first error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan []*node)
	for range min(fs.o.Flushers, len(all)/groupMax+1) {
		wg.Go(func() {
			for group := range next {
				err := fs.flushGroupAll(group)
				mu.Lock()
				first = cmpErr(first, err)
				mu.Unlock()
			}
		})
	}
	for group := range slices.Chunk(all, groupMax) {
		next <- group
	}
	close(next)
	wg.Wait()
	return first
}

// flushGroupAll is flushGroup that leaves nothing, and tells what went wrong.
func (fs *Local) flushGroupAll(group []*node) (first error) {
	fs.flushGroup(group)
	for _, n := range group {
		first = cmpErr(first, fs.flushNode(n))
	}
	return first
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Settle stores what was written before the call: the metadata has it then, which
// Syncfs makes durable. It waits for no bucket that is not to have the first copy. The
// error is that of something which could not be stored. Safe for concurrent use.
func (fs *Local) Settle() error {
	if fs.o.ReadOnly {
		return nil
	}
	return fs.barrier()
}

// Syncfs implements FS.
func (fs *Local) Syncfs(ctx context.Context) error {
	if fs.o.ReadOnly {
		return nil
	}
	if err := fs.barrier(); err != nil {
		return err
	}
	if err := fs.o.Meta.Sync(ctx); err != nil {
		return err
	}
	_, class, err := fs.EffectivePolicy(ctx, fsapi.RootIno)
	if err != nil || class.Ack != policy.AckRemote {
		return err
	}
	return fs.syncRemote(ctx, class.Copies)
}
