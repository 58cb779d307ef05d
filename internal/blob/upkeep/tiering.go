package upkeep

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Watermarks are parts of a drive's capacity: from High on evictable copies go
// from the drive until Low is reached. 0 < Low < High ≤ 1.
type Watermarks struct{ High, Low float64 }

// Tiering says how tiers are kept. Zero fields take the defaults named.
type Tiering struct {
	Marks       Watermarks            // 0.9, 0.8
	Tiers       map[string]Watermarks // of tiers with their own
	Weights     heat.Weights          // of the score; 86400, 1: an access a day ago is worth one in 30 days
	MinAge      time.Duration         // below it segments are not evicted; 10 minutes
	PromoteRate int64                 // bytes per second; 32 MiB; negative: no limit
	Every       time.Duration         // between looks in Run; 10 seconds
	SaveEvery   time.Duration         // between keeping accesses in Run; 5 minutes
	Heat        *heat.Table           // nil: accesses are not counted, nothing is promoted
}

func (t *Tiering) defaults() {
	if t.Marks == (Watermarks{}) {
		t.Marks = Watermarks{High: 0.9, Low: 0.8}
	}
	if t.Weights == (heat.Weights{}) {
		t.Weights = heat.Weights{Recency: 86400, Frequency: 1}
	}
	if t.MinAge == 0 {
		t.MinAge = 10 * time.Minute
	}
	if t.PromoteRate == 0 {
		t.PromoteRate = 32 << 20
	}
	if t.Every == 0 {
		t.Every = 10 * time.Second
	}
	if t.SaveEvery == 0 {
		t.SaveEvery = 5 * time.Minute
	}
}

// marks are the watermarks of a tier.
func (t *Tiering) marks(tier string) Watermarks {
	if m, ok := t.Tiers[tier]; ok {
		return m
	}
	return t.Marks
}

const (
	ageMost  = 10 * time.Minute // between looks for segments that nobody reads any more
	ageLeast = time.Minute
	heatStep = 4096 // accesses kept in one transaction
	// promoteStep bounds the segments of one TierOnce, so that eviction has its
	// turn between them.
	promoteStep = 64
)

// TierReport is what TierOnce did.
type TierReport struct {
	Evicted       int   // copies
	EvictedBytes  int64 // of segments
	Aged          int   // of these, since nobody had read them for EvictAfter
	Promoted      int   // segments
	PromotedBytes int64
	Failed        int      // evictions and promotions that should have been
	Full          []string // drives above the high watermark on which too little can go
}

// tierState is what tiering remembers between two looks. Of its fields mu guards
// room only; the others belong to the tiering turn.
type tierState struct {
	kick chan struct{} // holds a token when room is wanted

	mu   sync.Mutex
	room map[string]bool // tiers on which a segment found none; guarded by mu

	rest    map[fsapi.DriveID]*rest
	nextAge time.Time
}

// rest keeps a drive from being looked after again and again to no avail.
type rest struct {
	pause  time.Duration
	until  time.Time
	copied uint64 // parts copied by then: more may make more evictable
}

const (
	restFirst = 10 * time.Second
	restMost  = 10 * time.Minute
)

// Room makes tiering evict from a tier now: a segment found no room there.
func (u *Upkeep) Room(tier string) {
	u.tier.mu.Lock()
	u.tier.room[tier] = true
	u.tier.mu.Unlock()
	select {
	case u.tier.kick <- struct{}{}:
	default:
	}
}

// wanted takes the tiers on which room was asked for.
func (t *tierState) wanted() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.room
	t.room = make(map[string]bool)
	return room
}

// runTiering looks after the tiers until ctx ends, and keeps the accesses.
func (u *Upkeep) runTiering(ctx context.Context) {
	if err := u.LoadHeat(ctx); err != nil && ctx.Err() == nil {
		u.o.Log.Error("what is known of accesses cannot be read; counting anew", "err", err)
	}
	saved := u.o.Clock.Now()
	for {
		select {
		case <-ctx.Done():
			if err := u.SaveHeat(context.WithoutCancel(ctx)); err != nil {
				u.o.Log.Warn("the newest accesses to segments are lost", "err", err)
			}
			return
		case <-u.tier.kick:
		case <-u.o.Clock.After(u.o.Tiering.Every):
		}
		if _, err := u.TierOnce(ctx); err != nil && ctx.Err() == nil {
			u.o.Log.Error("tiering failed; it is tried again when it is due", "err", err)
		}
		if now := u.o.Clock.Now(); now.Sub(saved) >= u.o.Tiering.SaveEvery {
			saved = now
			if err := u.SaveHeat(ctx); err != nil && ctx.Err() == nil {
				u.o.Log.Error("accesses to segments cannot be kept; trying again", "err", err)
			}
		}
	}
}

// LoadHeat reads what was kept of accesses.
func (u *Upkeep) LoadHeat(ctx context.Context) error {
	if u.o.Tiering.Heat == nil {
		return nil
	}
	return u.o.Meta.Heats(ctx, u.o.Tiering.Heat.Load)
}

// SaveHeat keeps the accesses that are not kept yet.
func (u *Upkeep) SaveHeat(ctx context.Context) error {
	for {
		list := u.o.Tiering.Heat.Changed(heatStep)
		if len(list) > 0 {
			if err := u.o.Meta.PutHeats(ctx, list); err != nil {
				return err
			}
		}
		if len(list) < heatStep {
			return nil
		}
	}
}

// TierOnce brings drives above their high watermark down to the low one, evicts
// what nobody has read for as long as its policy says, and promotes what is
// read again and again.
func (u *Upkeep) TierOnce(ctx context.Context) (TierReport, error) {
	var r TierReport
	give, err := u.tiering.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	ctx = drive.Background(ctx)
	full := u.overfull(ctx)
	now := u.o.Clock.Now()
	aging := !now.Before(u.tier.nextAge)
	if len(full) > 0 || aging {
		if err := u.survey(ctx, full, aging, &r); err != nil {
			return r, err
		}
	}
	for _, p := range full {
		if err := u.relieve(ctx, p, &r); err != nil {
			return r, err
		}
	}
	return r, u.promoteCandidates(ctx, &r)
}

// survey looks at every segment once: what goes by age goes at once, and what
// may go from drives that are full is proposed to their plans.
func (u *Upkeep) survey(ctx context.Context, full []*relief, aging bool, r *TierReport) error {
	now := u.o.Clock.Now()
	next := now.Add(ageMost)
	err := u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if age := now.Sub(s.Created); age < u.o.Tiering.MinAge || !s.Condemned.IsZero() || len(s.Owed()) > 0 {
			return ctx.Err() == nil
		}
		for _, w := range s.Want {
			c := s.Copy(w)
			if c == nil || !w.Evictable || !colder(&s.Segment, w.Tier) {
				continue
			}
			if due := u.ageOut(&s.Segment, w); aging && !due.IsZero() {
				if !due.After(now) {
					u.evict(ctx, &s.Segment, w.Tier, r, &r.Aged)
					continue
				}
				if due.Before(next) {
					next = due
				}
			}
			u.propose(full, &s.Segment, c, now)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && aging {
		u.tier.nextAge = now.Add(max(ageLeast, next.Sub(now)))
	}
	return err
}

// colder reports whether a segment has a complete pinned copy below a tier.
func colder(s *fsapi.Segment, tier string) bool {
	for _, w := range s.Want {
		c := s.Copy(w)
		if !w.Evictable && c != nil && c.Complete(w) && fsapi.TierRank(w.Tier) > fsapi.TierRank(tier) {
			return true
		}
	}
	return false
}

// ageOut is when a copy goes for want of readers; zero: never.
func (u *Upkeep) ageOut(s *fsapi.Segment, w fsapi.CopySpec) time.Time {
	if w.EvictAfter <= 0 {
		return time.Time{}
	}
	last := s.Created
	if h, ok := u.o.Tiering.Heat.Of(s.ID); ok && h.Last.After(last) {
		last = h.Last
	}
	return last.Add(w.EvictAfter)
}

// evict is Evict for tiering: what cannot go is said and passed over. count is
// raised beside Evicted.
func (u *Upkeep) evict(ctx context.Context, s *fsapi.Segment, tier string, r *TierReport, count *int) {
	verified := u.verifiedPinned(s, fsapi.TierRank(tier)) != nil
	err := u.Evict(ctx, s.ID, tier)
	switch {
	case err == nil:
		r.Evicted++
		r.EvictedBytes += s.Size
		*count++
	case ctx.Err() != nil || errors.Is(err, fsapi.Busy) || !u.needed(ctx, s.ID):
		return // it has changed meanwhile
	default:
		r.Failed++
		u.o.Log.Warn("a copy that should go from its tier stays: what should stand in for it could not be read back", "segment", s.ID, "tier", tier, "err", err)
	}
	if !verified {
		_ = u.pace.wait(ctx, s.Size) // it was read back; an end of ctx is seen by the caller
	}
}
