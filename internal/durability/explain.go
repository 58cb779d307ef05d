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

// Text is the figure in a unit that people read: a time of 2e-6 years is a minute.
func (in Input) Text() string {
	v := in.Figure.Value
	switch in.Unit {
	case "years":
		return span(v)
	case "bytes":
		return amount(v)
	case "bytes/s":
		return amount(v) + "/s"
	}
	return fmt.Sprintf("%.3g %s", v, in.Unit)
}

// span is years in a unit that suits.
func span(years float64) string {
	for _, u := range []struct {
		years float64
		name  string
	}{{1, "year"}, {1 / 365.25, "day"}, {1 / 8766.0, "hour"}, {1 / 8766.0 / 60, "minute"}} {
		if years >= u.years {
			return plural(years/u.years, u.name)
		}
	}
	return plural(years*secondsAYear, "second")
}

func plural(n float64, unit string) string {
	text := fmt.Sprintf("%.3g %s", n, unit)
	if strings.HasPrefix(text, "1 ") {
		return text
	}
	return text + "s"
}

// amount is bytes with the prefix that suits, of powers of ten as in the rest of the
// model.
func amount(bytes float64) string {
	unit := "B"
	for _, u := range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if bytes < 999.5 {
			break
		}
		bytes, unit = bytes/1000, u
	}
	return fmt.Sprintf("%.3g %s", bytes, unit)
}
