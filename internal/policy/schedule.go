package policy

import (
	"slices"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Schedule says how many snapshots of each period are kept: grandfather, father,
// son. One is taken at the beginning of each of the shortest period that is
// kept. All times are UTC; weeks begin on Monday. The zero Schedule takes none.
type Schedule struct {
	Hourly  int `json:"hourly,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
}

// maxKept bounds the snapshots that one period keeps.
const maxKept = 1000

// period is one period of a schedule.
type period struct {
	keep  func(s *Schedule) int
	start func(t time.Time) time.Time // of the period that t lies in
}

var periods = []period{
	{func(s *Schedule) int { return s.Hourly }, func(t time.Time) time.Time { return t.Truncate(time.Hour) }},
	{func(s *Schedule) int { return s.Daily }, midnight},
	{func(s *Schedule) int { return s.Weekly }, func(t time.Time) time.Time {
		return midnight(t).AddDate(0, 0, -(int(t.Weekday())+6)%7)
	}},
	{func(s *Schedule) int { return s.Monthly }, func(t time.Time) time.Time {
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	}},
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

// Validate checks the numbers: fsapi.Invalid.
func (s Schedule) Validate() error {
	for i := range periods {
		if n := periods[i].keep(&s); n < 0 || n > maxKept {
			return fsapi.Errorf(fsapi.Invalid, "a schedule cannot keep %d snapshots of one period: want 0 to %d", n, maxKept)
		}
	}
	return nil
}

// IsZero reports whether s takes none.
func (s Schedule) IsZero() bool { return s == Schedule{} }

// Slot is the beginning of the period that a snapshot taken now is for. What
// was missed while nobody ran is made up for by this one alone. The zero time
// where s takes none.
func (s Schedule) Slot(now time.Time) time.Time {
	for i := range periods {
		if periods[i].keep(&s) > 0 {
			return periods[i].start(now.UTC())
		}
	}
	return time.Time{}
}

// Surplus is which of taken, the slots of snapshots there are, need not be kept
// any more. Of each period the newest ones are kept that have a snapshot, each
// by its first. Slots after now, of snapshots that were taken while the clock
// was ahead, are kept and take the place of no others.
func (s Schedule) Surplus(taken []time.Time, now time.Time) []time.Time {
	taken = slices.DeleteFunc(slices.Clone(taken), func(t time.Time) bool { return t.After(now) })
	slices.SortFunc(taken, time.Time.Compare)
	keep := map[int64]bool{}
	for i := range periods {
		firsts := firstOfEach(taken, periods[i].start)
		for _, t := range firsts[max(len(firsts)-periods[i].keep(&s), 0):] {
			keep[t.Unix()] = true
		}
	}
	return slices.DeleteFunc(taken, func(t time.Time) bool { return keep[t.Unix()] })
}

// firstOfEach is the first of the ascending times in each period.
func firstOfEach(taken []time.Time, start func(time.Time) time.Time) (firsts []time.Time) {
	for i, t := range taken {
		if i == 0 || !start(t.UTC()).Equal(start(taken[i-1].UTC())) {
			firsts = append(firsts, t)
		}
	}
	return firsts
}

// slotForm is how the name of a scheduled snapshot says its slot.
const slotForm = "auto-2006-01-02T15:04Z"

// SlotName is the name of the snapshot of a slot.
func SlotName(slot time.Time) string { return slot.UTC().Format(slotForm) }

// ParseSlotName reads what SlotName wrote.
func ParseSlotName(name string) (time.Time, bool) {
	t, err := time.Parse(slotForm, name)
	return t, err == nil && SlotName(t) == name
}
