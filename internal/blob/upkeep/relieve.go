package upkeep

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxVictims bounds the segments that are planned to go from one drive at a
// time, of about 64 bytes each.
const maxVictims = 1 << 14

// relief is which segments go from a drive: a heap with the highest score on top,
// so that the lowest scores that free what is needed stay, whatever the number
// of segments.
type relief struct {
	d       drive.Drive
	marks   Watermarks
	need    int64 // bytes
	planned int64 // bytes of victims
	victims []victim
}

type victim struct {
	seg   fsapi.SegmentID
	size  int64 // bytes on the drive
	score float64
}

// Len, Less, Swap, Push and Pop are heap.Interface.
func (p *relief) Len() int           { return len(p.victims) }
func (p *relief) Less(i, j int) bool { return p.victims[i].score > p.victims[j].score }
func (p *relief) Swap(i, j int)      { p.victims[i], p.victims[j] = p.victims[j], p.victims[i] }

// Push is heap.Interface's.
func (p *relief) Push(x any) { p.victims = append(p.victims, x.(victim)) }

// Pop is heap.Interface's.
func (p *relief) Pop() any {
	last := p.victims[len(p.victims)-1]
	p.victims = p.victims[:len(p.victims)-1]
	return last
}

// offer takes a victim in, and lets those go that others make needless.
func (p *relief) offer(v victim) {
	if p.planned >= p.need && len(p.victims) > 0 && v.score >= p.victims[0].score {
		return
	}
	heap.Push(p, v)
	p.planned += v.size
	for len(p.victims) > maxVictims || p.planned-p.victims[0].size >= p.need {
		p.planned -= heap.Pop(p).(victim).size
	}
}

// above is how many bytes a drive's content is above a part of its capacity.
func above(c drive.Capacity, part float64) int64 {
	return c.Total - c.Avail - int64(part*float64(c.Total))
}

// overfull are the drives that must give something up, those left out that gave
// nothing a short time ago.
func (u *Upkeep) overfull(ctx context.Context) []*relief {
	asked := u.tier.wanted()
	var list []*relief
	for _, d := range u.o.Drives.All() {
		i := d.Info()
		if !u.o.Drives.State(i.ID).Readable() || u.resting(i.ID) {
			continue
		}
		c, err := u.o.Drives.Capacity(ctx, i.ID)
		if err != nil || c.Total <= 0 {
			continue // away: nothing can go from it now
		}
		m := u.o.Tiering.marks(i.Tier)
		need := above(c, m.Low)
		if need > 0 && (above(c, m.High) > 0 || asked[i.Tier]) {
			list = append(list, &relief{d: d, marks: m, need: need})
		}
	}
	return list
}

// resting reports whether a drive was looked after in vain and nothing has
// changed since.
func (u *Upkeep) resting(id fsapi.DriveID) bool {
	r := u.tier.rest[id]
	if r == nil {
		return false
	}
	until := r.until
	if r.copied != u.count.partsCopied.Load() && r.pause > restFirst {
		until = until.Add(restFirst - r.pause)
	}
	return u.o.Clock.Now().Before(until)
}

// propose offers a copy to the plans of its drives.
func (u *Upkeep) propose(full []*relief, s *fsapi.Segment, c *fsapi.CopyPlace, now time.Time) {
	for _, p := range full {
		n := slices.Index(c.Drives, p.d.Info().ID)
		if n < 0 {
			continue
		}
		h, _ := u.o.Tiering.Heat.Of(s.ID)
		p.offer(victim{seg: s.ID, size: blob.PartSize(s.Size, c, n), score: u.o.Tiering.Weights.Score(h, s.Created, now)})
	}
}

// relieve evicts what is planned, the lowest score first, until the drive is
// down at its low watermark by a new measurement: others may share its space.
func (u *Upkeep) relieve(ctx context.Context, p *relief, r *TierReport) error {
	i := p.d.Info()
	slices.SortFunc(p.victims, func(a, b victim) int { return cmp.Compare(a.score, b.score) })
	low := false
	for _, v := range p.victims {
		if low = u.isLow(ctx, p); low {
			break
		}
		s, err := u.o.Meta.Segment(ctx, v.seg)
		if err != nil {
			continue // deleted meanwhile
		}
		u.evict(ctx, &s, i.Tier, r, new(int))
		if err := ctx.Err(); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "evict from drive "+i.Name)
		}
	}
	if low || u.isLow(ctx, p) {
		delete(u.tier.rest, i.ID)
		return nil
	}
	if len(p.victims) < maxVictims {
		r.Full = append(r.Full, i.Name)
		u.restOf(i.ID)
	}
	return nil
}

func (u *Upkeep) isLow(ctx context.Context, p *relief) bool {
	c, err := u.o.Drives.Capacity(ctx, p.d.Info().ID)
	return err == nil && above(c, p.marks.Low) <= 0
}

// restOf leaves a drive alone for a while, longer each time.
func (u *Upkeep) restOf(id fsapi.DriveID) {
	r := u.tier.rest[id]
	if r == nil {
		r = &rest{pause: restFirst / 2}
		u.tier.rest[id] = r
	}
	r.pause = min(2*r.pause, restMost)
	r.until = u.o.Clock.Now().Add(r.pause)
	r.copied = u.count.partsCopied.Load()
}
