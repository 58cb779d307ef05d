package durability

import "time"

// Source says where a figure comes from.
type Source uint8

// The sources, from the weakest.
const (
	Assumed  Source = iota // a default of this program
	Given                  // by the administrator
	Stated                 // by a vendor or provider
	Measured               // by this system
)

// String is the source as a word.
func (s Source) String() string {
	if int(s) < 4 {
		return [...]string{"assumed", "given", "stated", "measured"}[s]
	}
	return "unknown"
}

// Figure is a number and where it comes from. The unit is that of the field.
type Figure struct {
	Value  float64
	Source Source
}

// Year is the year of the model.
const Year = 8766 * time.Hour

// Years is a duration in years.
func Years(d time.Duration) float64 { return float64(d) / float64(Year) }

// What is assumed where nothing better is known. docs/durability-model.md says
// why.
const (
	AssumedAFR    = 0.015 // of a drive, a year
	AssumedLatent = 0.05  // bad blocks in a terabyte (10^12 bytes), a year
	AssumedDomain = 0.001 // loss of a whole failure domain, site or bucket for good, a year
	AssumedRepair = 50e6  // bytes a second
	AssumedScrub  = 30    // days
	AssumedDetect = 1     // days until repair starts
)

// Or is f, or def as Assumed where f is zero and Assumed: not set.
func (f Figure) Or(def float64) Figure {
	if f == (Figure{}) {
		return Figure{Value: def}
	}
	return f
}
