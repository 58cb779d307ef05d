package osfs

import "math/rand/v2"

// CrashMode says what a power cut does to what was not synced.
type CrashMode int

// The modes. In all of them what Sync and SyncDir covered is kept.
const (
	// CrashRandom loses, keeps or tears each unsynced write on its own, in
	// units of sectors, so that a later write may survive an earlier one; the
	// size may have grown without its bytes, which are zeros then; each
	// unsynced change of names happens or not, except that a file never loses
	// all its names to a rename or a link that did not happen.
	CrashRandom CrashMode = iota
	// CrashPrefix keeps a prefix of the changes of names and of each file's
	// writes, the last of them torn: a journaling file system.
	CrashPrefix
	// CrashLose loses everything that was not synced.
	CrashLose
	// CrashKeep loses nothing: the kill of a process.
	CrashKeep
)

// AnyCrash picks a mode, the random ones more often.
func AnyCrash(r *rand.Rand) CrashMode {
	return [...]CrashMode{CrashRandom, CrashRandom, CrashRandom, CrashPrefix, CrashPrefix, CrashLose, CrashKeep}[r.IntN(7)]
}

// CrashClone is what a power cut at this instant would leave, as a file system
// of its own in which everything is durable and nothing is open or locked. m
// goes on unharmed; other goroutines may be using it. The same history, r and
// mode give the same clone. It costs time in proportion to the number of files
// and to what is not synced, not to what they hold. r is used by one goroutine.
func (m *Mem) CrashClone(r *rand.Rand, mode CrashMode) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &crash{
		mode: mode, seed: r.Uint64(), nodes: map[*node]*node{},
		to: &Mem{opts: m.opts, nextID: m.nextID},
	}
	c.keepOps(m.pending)
	c.to.root = c.clone(m.root)
	return c.to
}

// crash is one clone in the making.
type crash struct {
	mode  CrashMode
	seed  uint64
	kept  []bool // by dirOp.index
	nodes map[*node]*node
	to    *Mem
}

// random is a source that depends on the seed and on one node's number only,
// so that the order of map iteration does not matter.
func (c *crash) random(id uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, id)) }

// keepOps decides which changes of names happened.
func (c *crash) keepOps(pending []*dirOp) {
	r := c.random(0)
	c.kept = make([]bool, len(pending))
	prefix := r.IntN(len(pending) + 1)
	odds := oddsOf(r)
	for i, op := range pending {
		op.index = i
		switch c.mode {
		case CrashRandom:
			c.kept[i] = r.Float64() < odds && c.depsKept(op)
		case CrashPrefix:
			c.kept[i] = i < prefix
		case CrashKeep:
			c.kept[i] = true
		}
	}
}

func (c *crash) depsKept(op *dirOp) bool {
	for _, d := range op.deps {
		if !d.done && !c.kept[d.index] {
			return false
		}
	}
	return true
}

// oddsOf is how likely one thing survives: extremes are as interesting as the
// middle.
func oddsOf(r *rand.Rand) float64 { return [...]float64{0.03, 0.3, 0.5, 0.7, 0.97}[r.IntN(5)] }

func (c *crash) clone(n *node) *node {
	if to := c.nodes[n]; to != nil {
		return to
	}
	to := &node{id: n.id, mode: n.mode, mtime: n.mtime}
	c.nodes[n] = to
	if n.dir == nil {
		to.data = c.cloneData(n)
		c.to.used.Add(to.data.live.alloc)
		return to
	}
	to.dir = &dir{entries: make(map[string]*node, len(n.dir.entries)), unsynced: map[string]*unsyncedName{}}
	put := func(name string, child *node) {
		child = c.clone(child)
		child.links = append(child.links, to)
		to.dir.entries[name] = child
	}
	for name, child := range n.dir.entries {
		if n.dir.unsynced[name] == nil {
			put(name, child)
		}
	}
	for name, child := range c.settle(n) {
		if child != nil {
			put(name, child)
		}
	}
	return to
}

// settle is what the unsynced names of a directory come to.
func (c *crash) settle(n *node) map[string]*node {
	if len(n.dir.unsynced) == 0 {
		return nil
	}
	names := make(map[string]*node, len(n.dir.unsynced))
	for name, u := range n.dir.unsynced {
		names[name] = u.was
	}
	for _, op := range n.dir.ops {
		if op.done || !c.kept[op.index] {
			continue
		}
		for _, s := range op.sets {
			if s.dir == n {
				names[s.name] = s.node
			}
		}
	}
	return names
}

// cloneData decides what is left of a file.
func (c *crash) cloneData(n *node) content {
	d := &n.data
	switch {
	case len(d.log) == 0 || c.mode == CrashKeep:
		return newDurable(d.live.share(), d.size)
	case c.mode == CrashLose:
		return newDurable(d.durable.share(), d.synced)
	}
	d.durable.share()
	t := tear{from: d, r: c.random(n.id), last: map[int64]int{}}
	if c.mode == CrashPrefix {
		t.prefix()
	} else {
		t.scatter()
	}
	return newDurable(t.replay().share(), t.size)
}

// newDurable is a file of which everything is synced. t must be shared.
func newDurable(t *table, size int64) content {
	return content{live: t, durable: t, size: size, synced: size}
}

// tear decides which sectors of a file have which of their versions, as a page
// cache written back in any order would: a sector holds all the changes up to
// some point in time.
type tear struct {
	from *content
	r    *rand.Rand
	// last is the last change in the log that a sector shows, plus one.
	last map[int64]int
	// size of the file, and how many changes are in it.
	size  int64
	sized int
}

// prefix keeps changes up to one, which is torn.
func (t *tear) prefix() {
	t.sized = t.r.IntN(len(t.from.log) + 1)
	for i := range t.sized {
		t.show(i, func(int64) bool { return true })
	}
	t.size = t.sizeAt(t.sized)
	if t.sized < len(t.from.log) && t.from.log[t.sized].data != nil {
		ch := t.from.log[t.sized]
		cut := ch.off + t.r.Int64N(ch.end-ch.off+1)
		t.show(t.sized, func(s int64) bool { return (s+1)*sectorSize <= cut })
		t.size = max(t.size, min(ch.size, cut/sectorSize*sectorSize))
	}
}

// scatter treats every change on its own.
func (t *tear) scatter() {
	odds, sectorOdds := oddsOf(t.r), oddsOf(t.r)
	for i := range t.from.log {
		switch f := t.r.Float64(); {
		case f < odds/2:
			t.show(i, func(int64) bool { return true })
		case f < odds && t.from.log[i].data != nil:
			t.show(i, func(int64) bool { return t.r.Float64() < sectorOdds })
		}
	}
	t.sized = t.r.IntN(len(t.from.log) + 1)
	t.size = t.sizeAt(t.sized)
	t.showCuts()
	if t.sized < len(t.from.log) {
		if next := t.from.log[t.sized].size; next > t.size && t.r.IntN(2) == 0 {
			t.size += t.r.Int64N(next-t.size) / sectorSize * sectorSize
		}
	}
}

// sizeAt is the size after the first n changes.
func (t *tear) sizeAt(n int) int64 {
	if n == 0 {
		return t.from.synced
	}
	return t.from.log[n-1].size
}

// show makes the sectors of change i that keep approves show it.
func (t *tear) show(i int, keep func(sector int64) bool) {
	ch := &t.from.log[i]
	if ch.data == nil {
		return // a truncation shows with the size, or below a later write
	}
	for s := ch.off / sectorSize; s*sectorSize < ch.end; s++ {
		if keep(s) {
			t.last[s] = i + 1
		}
	}
}

// showCuts makes the sector in which the file was cut show the cut, as a
// journaling file system writes the cleared rest of it before the new size.
func (t *tear) showCuts() {
	for i := range t.sized {
		ch := &t.from.log[i]
		if s := ch.off / sectorSize; ch.data == nil && ch.off < ch.end && ch.off%sectorSize != 0 {
			t.last[s] = max(t.last[s], i+1)
		}
	}
}

// replay builds the surviving bytes from the durable ones.
func (t *tear) replay() *table {
	out := t.from.durable.owned()
	for i := range t.from.log {
		ch := &t.from.log[i]
		if ch.data == nil {
			t.replayCut(out, i, ch)
			continue
		}
		for s := ch.off / sectorSize; s*sectorSize < ch.end; s++ {
			if t.last[s] > i {
				from, to := max(ch.off, s*sectorSize), min(ch.end, (s+1)*sectorSize)
				out.write(ch.data[from-ch.off:to-ch.off], from)
			}
		}
	}
	out.cut(t.size)
	return out
}

// replayCut clears what a truncation cut off, where it shows.
func (t *tear) replayCut(out *table, i int, ch *change) {
	if i < t.sized {
		out.zero(ch.off, ch.end)
		return
	}
	end := min(ch.end, int64(len(out.blocks))*blockSize)
	for s := ch.off / sectorSize; s*sectorSize < end; s++ {
		if t.last[s] > i {
			out.zero(max(ch.off, s*sectorSize), min(end, (s+1)*sectorSize))
		}
	}
}
