package durability

import (
	"fmt"
	"math"
	"strings"
)

// Dominant is the term that makes most of Loss; false where nothing can be lost.
func (r *Result) Dominant() (Term, bool) {
	if len(r.Terms) == 0 || r.Terms[0].Rate == 0 {
		return Term{}, false
	}
	return r.Terms[0], true
}

// Share is the part of the events in which anything is lost that are t's.
func (r *Result) Share(t Term) float64 { return t.Rate / hazard(r.Loss) }

// Explain says a term in words: which data, and what happens to each of its
// copies. names are those of System.Copies.
func (t Term) Explain(names []string) string {
	var parts []string
	for i, c := range t.Copies {
		name := fmt.Sprint(c)
		if c < len(names) {
			name = names[c]
		}
		parts = append(parts, fmt.Sprintf("%s: %s", name, t.Causes[i]))
	}
	return t.data() + ": " + strings.Join(parts, "; ")
}

// data is which data a term concerns.
func (t Term) data() string {
	switch {
	case t.Age[0] == 0 && math.IsInf(t.Age[1], 1):
		return "all data"
	case math.IsInf(t.Age[1], 1):
		return "data older than " + span(t.Age[0])
	case t.Age[0] == 0:
		return "data of the last " + span(t.Age[1])
	}
	return "data of an age from " + span(t.Age[0]) + " to " + span(t.Age[1])
}

// span is years in a unit that suits.
func span(years float64) string {
	for _, u := range []struct {
		years float64
		name  string
	}{{1, "years"}, {1 / 365.25, "days"}, {1 / 8766.0, "hours"}, {1 / 8766.0 / 60, "minutes"}} {
		if years >= u.years {
			return fmt.Sprintf("%.3g %s", years/u.years, u.name)
		}
	}
	return fmt.Sprintf("%.3g seconds", years*secondsAYear)
}
