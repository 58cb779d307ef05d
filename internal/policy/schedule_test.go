package policy

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

// A year of hours leaves what the schedule says, and never deletes what it will
// want later.
func TestScheduleKeepsGenerations(t *testing.T) {
	s := Schedule{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var taken []time.Time
	for h := range 366 * 24 {
		now := start.Add(time.Duration(h)*time.Hour + 5*time.Minute)
		slot := s.Slot(now)
		if want := now.Truncate(time.Hour); !slot.Equal(want) {
			t.Fatalf("at %v the slot is %v", now, slot)
		}
		taken = append(taken, slot)
		gone := map[int64]bool{}
		for _, x := range s.Surplus(taken, now) {
			gone[x.Unix()] = true
		}
		var left []time.Time
		for _, x := range taken {
			if !gone[x.Unix()] {
				left = append(left, x)
			}
		}
		taken = left
	}
	var got []string
	for _, x := range taken {
		got = append(got, SlotName(x))
	}
	want := []string{ // 2027-01-01 is a Friday
		"auto-2026-02-01T00:00Z", "auto-2026-03-01T00:00Z", "auto-2026-04-01T00:00Z", "auto-2026-05-01T00:00Z", "auto-2026-06-01T00:00Z",
		"auto-2026-07-01T00:00Z", "auto-2026-08-01T00:00Z", "auto-2026-09-01T00:00Z", "auto-2026-10-01T00:00Z", "auto-2026-11-01T00:00Z",
		"auto-2026-12-01T00:00Z", "auto-2026-12-07T00:00Z", "auto-2026-12-14T00:00Z", "auto-2026-12-21T00:00Z",
		"auto-2026-12-26T00:00Z", "auto-2026-12-27T00:00Z", "auto-2026-12-28T00:00Z", "auto-2026-12-29T00:00Z", "auto-2026-12-30T00:00Z", "auto-2026-12-31T00:00Z",
	}
	for h := range 24 {
		want = append(want, SlotName(time.Date(2027, 1, 1, h, 0, 0, 0, time.UTC)))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("after a year (-want +got):\n%s", d)
	}
}

// Snapshots from when the clock was ahead do not push out those of now.
func TestScheduleClockWasAhead(t *testing.T) {
	now := time.Date(2026, 11, 25, 21, 40, 0, 0, time.UTC)
	s := Schedule{Hourly: 1, Daily: 1, Weekly: 1, Monthly: 1}
	slot := s.Slot(now)
	ahead, before := slot.AddDate(4, 0, 0), slot.Add(-time.Hour)
	if got := s.Surplus([]time.Time{ahead, before, slot}, now); len(got) != 0 {
		t.Errorf("given up: %v", got) // before is the first of the day
	}
	s = Schedule{Hourly: 1}
	if d := cmp.Diff([]time.Time{before}, s.Surplus([]time.Time{ahead, before, slot}, now)); d != "" {
		t.Errorf("given up (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]time.Time{before, slot}, s.Surplus([]time.Time{ahead, before, slot}, ahead)); d != "" {
		t.Errorf("given up once that time has come (-want +got):\n%s", d)
	}
}

func TestScheduleSlots(t *testing.T) {
	now := time.Date(2026, 11, 25, 21, 40, 0, 0, time.UTC) // a Wednesday
	for _, c := range []struct {
		s    Schedule
		want string
	}{
		{Schedule{Hourly: 1, Monthly: 1}, "auto-2026-11-25T21:00Z"},
		{Schedule{Daily: 1}, "auto-2026-11-25T00:00Z"},
		{Schedule{Weekly: 1}, "auto-2026-11-23T00:00Z"},
		{Schedule{Monthly: 1}, "auto-2026-11-01T00:00Z"},
	} {
		slot := c.s.Slot(now)
		if got := SlotName(slot); got != c.want {
			t.Errorf("%+v: %s, want %s", c.s, got, c.want)
		}
		if back, ok := ParseSlotName(c.want); !ok || !back.Equal(slot) {
			t.Errorf("%s reads as %v, %v", c.want, back, ok)
		}
	}
	if !(Schedule{}).Slot(now).IsZero() {
		t.Error("a schedule of nothing has a slot")
	}
	for _, name := range []string{"auto-", "auto-2026-11-25T21:00", "manual", "auto-2026-13-25T21:00Z"} {
		if _, ok := ParseSlotName(name); ok {
			t.Errorf("%q was read as the name of a slot", name)
		}
	}
	for _, s := range []Schedule{{Hourly: -1}, {Monthly: 1001}} {
		if err := s.Validate(); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
