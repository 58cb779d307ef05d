package upkeep

import (
	"context"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// fillSpread is how far the fill levels of a tier's drives may lie from their
// mean, as a part of their size, before they are worth moving anything.
const fillSpread = 0.02

func checkTier(args []string) ([]string, error) {
	if len(args) > 1 || len(args) == 1 && !policy.ValidTier(args[0]) {
		return nil, fsapi.Errorf(fsapi.Invalid, "give hot, warm or cold, or nothing for all tiers")
	}
	return args, nil
}

// fill is a drive in a plan: how many bytes it has more than it should, negative
// where it has less. What is left of it only shrinks, so that a plan ends and
// nothing moves back.
type fill struct {
	info   drive.Info
	excess int64
}

// plan is what a rebalance does. Safe for concurrent use.
type plan struct {
	mu     sync.Mutex
	drives map[fsapi.DriveID]*fill // guarded by mu
}

// runRebalance moves parts from the fullest drives of a tier to the emptiest,
// each only to where it shares no more of its failure domains than before, in one
// pass over the segments. A restart plans anew and goes on from the cursor.
func (u *Upkeep) runRebalance(ctx context.Context, t *job.Task) error {
	p, err := u.plan(ctx, t.Args())
	if err != nil {
		return err
	}
	if len(t.Cursor()) == 0 {
		t.Total(0, p.left())
	}
	_, after := cursorSegment(t.Cursor(), 0)
	m := mover{u: u, paced: true}
	for p.left() > 0 {
		page, err := u.page(ctx, after)
		if err != nil || len(page) == 0 {
			return m.verdict(err, "segments could not be moved")
		}
		var moved int64
		var mu sync.Mutex
		items, _, err := m.move(ctx, page, func(s *meta.SegmentUse) (bool, error) {
			n, err := u.balance(ctx, p, &s.Segment)
			mu.Lock()
			moved += n
			mu.Unlock()
			return n > 0, err
		})
		if err != nil {
			return err
		}
		after = page[len(page)-1].ID
		if err := t.Step(ctx, slices.Clone(after[:]), items, moved); err != nil {
			return err
		}
	}
	return m.verdict(nil, "segments could not be moved")
}

// plan says what each drive has too much or too little, tier by tier.
func (u *Upkeep) plan(ctx context.Context, tiers []string) (*plan, error) {
	p := &plan{drives: make(map[fsapi.DriveID]*fill)}
	byTier := make(map[string][]measured)
	for _, d := range u.o.Drives.All() {
		i := d.Info()
		if u.o.Drives.State(i.ID) != drive.Online || len(tiers) > 0 && !slices.Contains(tiers, i.Tier) {
			continue
		}
		c, err := d.Capacity(ctx)
		if err != nil {
			return nil, err
		}
		if c.Total > 0 && c.Used+c.Avail > 0 {
			byTier[i.Tier] = append(byTier[i.Tier], measured{i, c})
		}
	}
	for _, list := range byTier {
		p.level(list)
	}
	return p, nil
}

type measured struct {
	info drive.Info
	drive.Capacity
}

// room is the part of the drive that Strake has or may have.
func (m measured) room() int64 { return max(m.Total-m.Avail, m.Used) + m.Avail }

// level finds what the drives of a tier have beyond the mean fill level. Nothing
// is planned where all are near it.
func (p *plan) level(list []measured) {
	var used, room float64
	for _, m := range list {
		used += float64(m.room() - m.Avail)
		room += float64(m.room())
	}
	mean := used / room
	far := slices.ContainsFunc(list, func(m measured) bool {
		d := 1 - float64(m.Avail)/float64(m.room()) - mean
		return d > fillSpread || d < -fillSpread
	})
	if !far {
		return
	}
	for _, m := range list {
		p.drives[m.info.ID] = &fill{info: m.info, excess: m.room() - m.Avail - int64(mean*float64(m.room()))}
	}
}

// left is how many bytes the plan still moves.
func (p *plan) left() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lack int64
	for _, f := range p.drives {
		n += max(0, f.excess)
		lack += max(0, -f.excess)
	}
	return min(n, lack)
}

// balance moves what the plan asks for of one segment and says how many bytes
// that was.
func (u *Upkeep) balance(ctx context.Context, p *plan, seg *fsapi.Segment) (moved int64, err error) {
	if !seg.Condemned.IsZero() || len(seg.Owed()) > 0 {
		return 0, nil // the queue has it
	}
	for i := range seg.Copies {
		c := &seg.Copies[i]
		for n, from := range c.Drives {
			size := blob.PartSize(seg.Size, c, n)
			to := p.reserve(u.infos(c, n), from, size)
			if to == 0 {
				continue
			}
			if err := u.Leave(ctx, seg.ID, from, to); err != nil {
				p.giveBack(from, to, size)
				return moved, err
			}
			moved += size
			c.Drives[n] = to
		}
	}
	return moved, nil
}

// infos are the drives of a copy but the n-th.
func (u *Upkeep) infos(c *fsapi.CopyPlace, n int) []drive.Info {
	var list []drive.Info
	for i, id := range c.Drives {
		if i == n || id == 0 {
			continue
		}
		info := drive.Info{ID: id}
		if d, err := u.o.Drives.Drive(id); err == nil {
			info = d.Info()
		}
		list = append(list, info)
	}
	return list
}

// reserve picks the drive that takes a part from another, the one that lacks
// most; 0 where the plan has none, or only such as would worsen its spread.
func (p *plan) reserve(others []drive.Info, from fsapi.DriveID, size int64) fsapi.DriveID {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.drives[from]
	if f == nil || f.excess < size {
		return 0
	}
	var best *fill
	for _, to := range p.drives {
		if to.info.Tier != f.info.Tier || to.excess > -size || best != nil && to.excess >= best.excess ||
			slices.ContainsFunc(others, func(o drive.Info) bool { return o.ID == to.info.ID }) || blob.Crowds(others, f.info, to.info) {
			continue
		}
		best = to
	}
	if best == nil {
		return 0
	}
	f.excess -= size
	best.excess += size
	return best.info.ID
}

func (p *plan) giveBack(from, to fsapi.DriveID, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drives[from].excess += size
	p.drives[to].excess -= size
}
