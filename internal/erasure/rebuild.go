package erasure

import (
	"context"
	"io"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// Rebuild writes whole blobs of the shards that have a writer in out, from any K
// others; they are byte for byte what Encode wrote. A shard that is rebuilt may
// itself be in Open's have: its good blocks are then copied, and only rows of bad
// ones need others. Writers are called as Encode calls them. The faults met are
// returned also where the blobs are right.
//
// Errors: as ReadAt's and Encode's. After an error what was written is no shard.
func (r *Reader) Rebuild(ctx context.Context, out []io.Writer) (faults []Fault, err error) {
	if err := putHeaders(r.id, r.l, out); err != nil {
		return nil, err
	}
	var targets []int
	for i, w := range out {
		if w != nil {
			targets = append(targets, i)
		}
	}
	s := r.c.newStrip(r.rs, r.id, r.l, r.seeds)
	defer s.free()
	whole, from := newTable(r.l, r.l.Rows()), *r
	for first, step := 0, r.c.stripRows(r.l); first < r.l.Rows(); first += step {
		s.move(first, min(step, r.l.Rows()-first))
		if err := from.rebuild(ctx, s, targets, out); err != nil {
			return s.faults, err
		}
		copy(whole.sums[first*r.l.Shards():], s.table.sums)
		from.avoid(s.faults)
	}
	return s.faults, putTails(r.id, &whole, out)
}

// rebuild gets and writes one strip.
func (r *Reader) rebuild(ctx context.Context, s *strip, targets []int, out []io.Writer) error {
	if err := r.fill(ctx, s, targets, true); err != nil {
		return err
	}
	for _, i := range targets {
		for row := range s.l.span(i, s.first, s.rows).Blocks {
			s.seal(i, row, *s.table.at(row, i))
		}
	}
	return s.write(out)
}

// avoid asks shards that could not be read last from now on, and those that are
// not there never again.
func (r *Reader) avoid(faults []Fault) {
	cost := map[int]int{}
	for _, f := range faults {
		switch kind := fsapi.KindOf(f.Err); {
		case kind == fsapi.NotExist:
			cost[f.Shard] = 2
		case kind != fsapi.Corrupt:
			cost[f.Shard] = max(cost[f.Shard], 1)
		}
	}
	r.have = slices.DeleteFunc(slices.Clone(r.have), func(i int) bool { return cost[i] == 2 })
	slices.SortStableFunc(r.have, func(a, b int) int { return cost[a] - cost[b] })
}
