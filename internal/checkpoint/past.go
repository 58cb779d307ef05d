package checkpoint

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/clock"
)

// holding is what is known of a blob of the past: one that a drive has and the
// log does not need any more.
type holding struct {
	stamp clock.Stamp // of its last batch; 0 before the first
	size  int64
	bad   bool // its header is damaged
}

// retention says which blobs of the past a drive keeps, so that the metadata can
// be restored as of any moment since from.
type retention struct {
	from  clock.Stamp // the largest: nothing is kept
	bytes int64       // bound of what is kept; 0: none
	base  *object     // the newest checkpoint
	stamp clock.Stamp // of base
	floor *object     // nothing before it is kept; nil: no such
}

// retention is what holds now. REQUIRES busy.
func (s *Shipper) retention() retention {
	r := retention{from: math.MaxUint64, bytes: s.o.KeepBytes, base: s.base, stamp: s.baseStamp, floor: s.floor}
	if s.o.Keep > 0 {
		r.from = stampAt(time.Now().Add(-s.o.Keep))
	}
	return r
}

// stampAt is the newest stamp of a moment's millisecond.
func stampAt(t time.Time) clock.Stamp { return clock.Stamp(max(0, t.UnixMilli()))<<16 | 0xffff }

// nothing reports whether no past is kept.
func (r *retention) nothing() bool { return r.from == math.MaxUint64 }

// order sorts objects by when what they hold ends.
func order(a, b object) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.last, b.last))
}

// ended reports whether what o holds is all in the checkpoint c, or of an epoch
// before it.
func ended(o, c object) bool {
	return o != c && (o.epoch < c.epoch || o.epoch == c.epoch && o.last <= c.last)
}

// surplus are the blobs of the past that are not kept. What is needed for a
// moment is the newest checkpoint before it, and the groups from there on; so
// what goes is all that ends at or before one checkpoint.
func (r *retention) surplus(held map[object]holding) []object {
	checkpoints := []object{*r.base}
	total := int64(0)
	for o, h := range held {
		if o.kind == kindCheckpoint && !h.bad && o.epoch <= r.base.epoch {
			checkpoints = append(checkpoints, o)
		}
		total += h.size
	}
	slices.SortFunc(checkpoints, order)
	first := 0
	for i, c := range checkpoints {
		old := c == *r.base && r.stamp <= r.from || held[c].stamp <= r.from && c != *r.base
		if old || r.floor != nil && ended(c, *r.floor) || r.floor != nil && c == *r.floor {
			first = i
		}
	}
	for {
		gone := r.before(held, checkpoints[first])
		left := total
		for _, o := range gone {
			left -= held[o].size
		}
		if r.bytes == 0 || left <= r.bytes || first == len(checkpoints)-1 {
			return gone
		}
		first++
	}
}

// before are the blobs that end at or before a checkpoint, and those that are of
// no use: what cannot be read, groups of the present that were merged into
// others, and what is of an epoch that never was.
func (r *retention) before(held map[object]holding, c object) (gone []object) {
	for o, h := range held {
		merged := o.epoch == r.base.epoch && o.last > r.base.last
		if merged || h.bad || o.epoch > r.base.epoch || ended(o, c) {
			gone = append(gone, o)
		}
	}
	return gone
}
