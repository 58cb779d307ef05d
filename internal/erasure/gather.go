package erasure

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// gather fills a strip with wanted shards' blocks.
type gather struct {
	r      *Reader
	s      *strip
	want   []int
	asked  []bool // by shard
	lo, hi int    // the rows that lack wanted blocks lie in [lo, hi)

	mu     sync.Mutex
	failed []int // shards whose read failed, for more than one block; guarded by mu
	last   error // of a read; guarded by mu
}

// fill gets every block of the wanted shards into s: read where it can be, else
// reconstructed from any K others. With table, the checksums of all rows are got
// too, and every block is compared with them.
func (r *Reader) fill(ctx context.Context, s *strip, want []int, table bool) error {
	g := &gather{r: r, s: s, want: want, asked: make([]bool, r.l.Shards()), hi: s.rows}

	// 1. The wanted shards themselves: mostly all there is to do.
	g.load(ctx, slices.DeleteFunc(slices.Clone(want), func(i int) bool { return !slices.Contains(r.have, i) }))
	if !g.lacking() && !table {
		return ended(ctx)
	}

	// 2. The checksums, and of other shards as many as the worst row needs.
	if err := g.more(ctx); err != nil {
		return err
	}

	// 3. What is still missing is computed, and verified by the checksums.
	if !g.lacking() {
		return nil
	}
	s.zeros = make([]byte, r.l.BlockSize)
	for _, i := range want {
		s.part(i)
	}
	return s.c.compute(s.rows, g.reconstruct)
}

// more loads the table, and shards until every row that lacks a wanted block can
// be reconstructed.
func (g *gather) more(ctx context.Context) error {
	first := g.next()
	steps := []func() error{func() error { return g.loadTable(ctx) }, func() error { g.load(ctx, first); return nil }}
	if err := each(len(steps), func(i int) error { return steps[i]() }); err != nil {
		return err
	}
	for {
		g.compare()
		if err := ended(ctx); err != nil || !g.lacking() || g.short() == 0 {
			return err
		}
		next := g.next()
		if len(next) == 0 && !g.retry(ctx) {
			return g.lost()
		}
		g.load(ctx, next)
	}
}

// load reads shards' blocks in rows [lo, hi) at once and verifies them.
func (g *gather) load(ctx context.Context, shards []int) {
	for _, i := range shards {
		g.asked[i] = true
	}
	if len(shards) == 1 {
		g.loadShard(ctx, shards[0], g.lo, g.hi)
		return
	}
	var wg sync.WaitGroup
	for _, i := range shards {
		wg.Go(func() { g.loadShard(ctx, i, g.lo, g.hi) })
	}
	wg.Wait()
}

// loadShard reads a shard's blocks in rows [lo, hi).
func (g *gather) loadShard(ctx context.Context, shard, lo, hi int) {
	s := g.s
	span := s.l.span(shard, s.first+lo, hi-lo)
	if span.Blocks == 0 {
		return
	}
	p := s.part(shard)[lo*(s.l.BlockSize+sumSize):][:span.Len]
	err := g.r.read(ctx, shard, span.Off, p)
	if err == nil {
		s.accept(shard, lo, lo+span.Blocks)
		return
	}
	part := PartBlob
	if span.Blocks == 1 {
		part = PartBlock
	}
	s.fault(shard, part, span.First, fsapi.KindOf(err), err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = err
	if span.Blocks > 1 && fsapi.KindOf(err) != fsapi.NotExist {
		g.failed = append(g.failed, shard)
	}
}

// retry reads block by block what failed as a whole: of a drive with a bad
// sector, the other blocks may be just what is needed. It reports whether there
// was any.
func (g *gather) retry(ctx context.Context) bool {
	failed := g.failed
	g.failed = nil
	for _, shard := range failed {
		for row := g.lo; row < g.hi && ctx.Err() == nil; row++ {
			if !g.s.has(shard, row) {
				g.loadShard(ctx, shard, row, row+1)
			}
		}
	}
	return len(failed) > 0
}

// lacks reports whether a row lacks a wanted block.
func (g *gather) lacks(row int) bool {
	return slices.ContainsFunc(g.want, func(i int) bool { return !g.s.has(i, row) })
}

// lacking narrows [lo, hi) to the rows that lack wanted blocks and reports
// whether there are any.
func (g *gather) lacking() bool {
	lo, hi := g.s.rows, 0
	for row := range g.s.rows {
		if g.lacks(row) {
			lo, hi = min(lo, row), row+1
		}
	}
	g.lo, g.hi = lo, hi
	return lo < hi
}

// short is how many more blocks the worst row needs to be reconstructed.
func (g *gather) short() (n int) {
	for row := g.lo; row < g.hi; row++ {
		if !g.lacks(row) {
			continue
		}
		need := g.s.l.K
		for i := range g.s.l.Shards() {
			if g.s.has(i, row) {
				need--
			}
		}
		n = max(n, need)
	}
	return n
}

// next are the shards to ask now, in the Reader's order.
func (g *gather) next() (shards []int) {
	need := g.short()
	for _, i := range g.r.have {
		if len(shards) < need && !g.asked[i] && g.s.l.span(i, g.s.first+g.lo, g.hi-g.lo).Blocks > 0 {
			shards = append(shards, i)
		}
	}
	return shards
}

// loadTable gets the checksums of all rows, of the first shards that have them.
func (g *gather) loadTable(ctx context.Context) error {
	s, order := g.s, slices.Clone(g.r.have)
	slices.SortStableFunc(order, func(a, b int) int { return g.trouble(a) - g.trouble(b) })
	b := make([]byte, s.rows*s.l.tableRow())
	for _, shard := range order {
		if err := ended(ctx); err != nil {
			return err
		}
		off := s.l.tableOffset(shard) + int64(s.first)*int64(s.l.tableRow())
		if err := g.r.read(ctx, shard, off, b); err != nil {
			s.fault(shard, PartTable, s.first, fsapi.KindOf(err), err)
			g.mu.Lock()
			g.last = err
			g.mu.Unlock()
			continue
		}
		for _, row := range s.table.parse(b, s.seeds[shard], s.first) {
			s.fault(shard, PartTable, row, fsapi.Corrupt, "wrong checksum")
		}
		if !slices.Contains(s.table.known, false) {
			return nil
		}
	}
	return g.lost()
}

// trouble is 1 for a shard that was read in vain.
func (g *gather) trouble(shard int) int {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if slices.ContainsFunc(g.s.faults, func(f Fault) bool { return f.Shard == shard }) {
		return 1
	}
	return 0
}

// compare drops blocks that are not those of the table.
func (g *gather) compare() {
	s := g.s
	for shard := range s.l.Shards() {
		for row := range s.rows {
			if i := shard*s.rows + row; s.good[i] && s.sums[i] != *s.table.at(row, shard) {
				s.good[i] = false
				s.fault(shard, PartBlock, s.first+row, fsapi.Corrupt, "not the block its segment was encoded with")
			}
		}
	}
}

// reconstruct computes a row's wanted blocks that are not there.
func (g *gather) reconstruct(row int) error {
	if !g.lacks(row) {
		return nil
	}
	s := g.s
	blocks, required := s.row(row), make([]bool, s.l.Shards())
	for _, i := range g.want {
		if blocks[i] == nil {
			blocks[i], required[i] = s.slot(i, row)[:0], true
		}
	}
	if err := s.rs.ReconstructSome(blocks, required); err != nil {
		return fsapi.Errorf(fsapi.Corrupt, "reconstruct row %d of segment %s: %w", s.first+row, s.id, err)
	}
	for i, is := range required {
		if !is {
			continue
		}
		if s.sum(i, row) != *s.table.at(row, i) {
			return fsapi.Errorf(fsapi.Corrupt, "%s: block %d came out of reconstruction with a wrong checksum: its shards do not belong together", name(s.id, s.l, i), s.first+row)
		}
		s.set(i, row, *s.table.at(row, i))
	}
	return nil
}

// lost says that too little can be read, and of what was met the most telling.
func (g *gather) lost() error {
	g.mu.Lock()
	why := g.last
	g.mu.Unlock()
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if i := slices.IndexFunc(g.s.faults, func(f Fault) bool { return fsapi.KindOf(f.Err) == fsapi.Corrupt }); i >= 0 {
		why = g.s.faults[i].Err
	}
	l := g.s.l
	msg := fmt.Sprintf("segment %s: fewer than %d of its %d+%d shards can be read in rows %d to %d: bring drives back, or repair from another copy",
		g.s.id, l.K, l.K, l.M, g.s.first, g.s.first+g.s.rows-1)
	if why == nil {
		return fsapi.Errorf(fsapi.IO, "%s", msg)
	}
	return fsapi.Errorf(fsapi.KindOf(why), "%s: %w", msg, why)
}
