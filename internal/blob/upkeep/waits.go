package upkeep

import (
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Waits says in a few words what a pending entry waits for at this moment: its
// turn, its next attempt, or that drives which spin down have enough to do.
func (u *Upkeep) Waits(p meta.Pending) string {
	now := u.o.Clock.Now()
	u.queue.mu.Lock()
	busy := u.queue.busy[p.Segment]
	u.queue.mu.Unlock()
	if busy {
		return "under way"
	}
	if h, ok := u.gather.why(p.Segment); ok {
		return fmt.Sprintf("drives of tier %s spin down: gathered until there are %d bytes (%d so far) or it is %s",
			h.tier, u.gather.bytes, h.bytes, h.until.UTC().Format(time.RFC3339))
	}
	if !u.queue.due(p, now) {
		return "its next attempt"
	}
	return fmt.Sprintf("its turn: %d segments are written at a time", u.o.Copiers)
}

// holdup is what keeps a segment that is gathered.
type holdup struct {
	tier  string
	bytes int64     // gathered for the tier
	until time.Time // when its window opens at the latest
}

// why is what a segment waits for that holds says waits.
func (g *gatherer) why(id fsapi.SegmentID) (h holdup, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for tier, t := range g.tiers {
		if t.idle[id] && !t.open {
			return holdup{tier, t.bytes, t.since.Add(g.longest)}, true
		}
	}
	return h, false
}
