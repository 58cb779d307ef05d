package durability

import (
	"math"
	"slices"
)

// Result is what the model says of a System.
type Result struct {
	Loss     float64 // probability that anything is lost within a year
	Nines    float64 // -log10 of Loss; +Inf where it is 0
	Segments float64 // segments lost a year, on average
	Bytes    float64 // the same in bytes
	Copies   []CopyResult
	Terms    []Term  // what Loss is made of, the greatest first
	Inputs   []Input // everything it rests on
}

// CopyResult is what is true of one copy alone.
type CopyResult struct {
	Name  string
	Loss  float64 // probability that it loses anything within a year
	Mean  float64 // years until it does, on average; +Inf
	Modes []Mode
}

// Term is one way to lose data: all copies that there are of it lose the same.
type Term struct {
	Rate     float64 // events a year
	Segments float64 // lost a year, on average
	// Age is how old the data is that is concerned, in years: from the first up
	// to the second, +Inf for all that is older.
	Age    [2]float64
	Copies []int   // the copies that there are of it then, as numbers in System.Copies
	Causes []Cause // of each of them; SiteLoss is one event for all that have it
}

// Input is one figure that the result rests on.
type Input struct {
	Copy   string // "" for the whole system
	Name   string
	Unit   string
	Figure Figure
}

// Evaluate computes the Result. The error is fsapi.Invalid.
func Evaluate(s System) (Result, error) {
	var r Result
	if err := s.Check(); err != nil {
		return r, err
	}
	modes := make([][]Mode, len(s.Copies))
	for i := range s.Copies {
		modes[i] = s.Copies[i].modes(&s)
		r.Copies = append(r.Copies, alone(s.Copies[i].Name, modes[i]))
	}
	rate := 0.0
	for _, a := range s.ages() {
		r.Terms = append(r.Terms, a.terms(a.copies, nil, modes)...)
		for _, site := range s.sites(a.copies) {
			r.Terms = append(r.Terms, a.siteTerms(&s, site, modes)...)
		}
	}
	slices.SortStableFunc(r.Terms, func(a, b Term) int { return compare(b.Rate, a.Rate) })
	for _, t := range r.Terms {
		rate += t.Rate
		r.Segments += t.Segments
	}
	r.Loss = -math.Expm1(-rate)
	r.Nines, r.Bytes = -math.Log10(r.Loss), r.Segments*float64(s.Segment)
	r.Inputs = s.inputs()
	return r, nil
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func alone(name string, modes []Mode) CopyResult {
	rate := 0.0
	for _, m := range modes {
		rate += m.Rate
	}
	return CopyResult{Name: name, Loss: -math.Expm1(-rate), Mean: 1 / rate, Modes: modes}
}

// age is data of a certain age: which copies there are of it depends on that.
type age struct {
	from, to float64
	segments float64
	copies   []int
}

// ages are those of the data, from the youngest. What is pending is as much as
// comes in within the time.
func (s *System) ages() (ages []age) {
	edges := []float64{0}
	for _, c := range s.Copies {
		edges = append(edges, c.Pending.Value, c.Until.Value)
	}
	slices.Sort(edges)
	edges = append(slices.Compact(edges), math.Inf(1))
	rest := s.segments()
	for i, from := range edges[:len(edges)-1] {
		a := age{from: from, to: edges[i+1], segments: rest}
		if !math.IsInf(a.to, 1) {
			a.segments = min(rest, s.Ingest.Value*secondsAYear*(a.to-from)/float64(s.Segment))
		}
		rest -= a.segments
		for j, c := range s.Copies {
			if c.Pending.Value <= from && (c.Until.Value == 0 || from < c.Until.Value) {
				a.copies = append(a.copies, j)
			}
		}
		if a.segments > 0 {
			ages = append(ages, a)
		}
	}
	return ages
}

// terms are the ways in which these copies lose data of the age, on top of what
// is lost already: one for each choice of a mode for each copy.
func (a *age) terms(copies []int, chosen []Mode, modes [][]Mode) (terms []Term) {
	if len(copies) == 0 {
		return []Term{a.term(chosen)}
	}
	for _, m := range modes[copies[0]] {
		terms = append(terms, a.terms(copies[1:], append(chosen[:len(chosen):len(chosen)], m), modes)...)
	}
	return terms
}

// term is the loss of the same segments in all these modes.
func (a *age) term(modes []Mode) Term {
	t := Term{Age: [2]float64{a.from, a.to}, Copies: a.copies}
	common := a.segments
	for _, m := range modes {
		t.Causes = append(t.Causes, m.Cause)
		common *= m.Fraction
	}
	mean, _ := together(modes).Solve() // +Inf cannot be: every mode happens
	t.Rate = min(common, 1) / mean
	t.Segments = common / mean
	return t
}

// sites are those of copies.
func (s *System) sites(copies []int) (sites []string) {
	for _, i := range copies {
		if site := s.Copies[i].Site; site != "" && !slices.Contains(sites, site) {
			sites = append(sites, site)
		}
	}
	return sites
}

// siteTerms are the ways in which a site's loss takes all copies there, and those
// elsewhere lose the same data for reasons of their own.
func (a *age) siteTerms(s *System, site string, modes [][]Mode) []Term {
	gone := Mode{Cause: SiteLoss, Rate: hazard(s.SiteLoss.Or(AssumedDomain).Value), Fraction: 1}
	if gone.Rate == 0 {
		return nil
	}
	var elsewhere []int
	for _, i := range a.copies {
		if s.Copies[i].Site != site {
			elsewhere = append(elsewhere, i)
			continue
		}
		gone.Restore = max(gone.Restore, s.Copies[i].restore(s, 1))
	}
	terms := a.terms(elsewhere, []Mode{gone}, modes)
	for t := range terms {
		causes, next := make([]Cause, len(a.copies)), terms[t].Causes[1:]
		for j, i := range a.copies {
			if s.Copies[i].Site == site {
				causes[j] = SiteLoss
				continue
			}
			causes[j], next = next[0], next[1:]
		}
		terms[t].Causes = causes
	}
	return terms
}

// together is the chain of copies that lose and restore their segments
// independently: state bit i says that copy i has lost them. It ends where all
// have.
func together(modes []Mode) *Chain {
	all := 1<<len(modes) - 1
	c := NewChain(all, 1)
	for state := range all {
		for i, m := range modes {
			switch to := state ^ 1<<i; {
			case to == all:
				c.End(state, 0, m.Rate)
			case to > state:
				c.Move(state, to, m.Rate)
			default:
				c.Move(state, to, 1/m.Restore)
			}
		}
	}
	return c
}

// inputs lists every figure, as it was used.
func (s *System) inputs() []Input {
	in := []Input{
		{"", "data", "bytes", Figure{float64(s.Bytes), s.From}},
		{"", "segment", "bytes", Figure{float64(s.Segment), s.From}},
		{"", "written", "bytes/s", s.Ingest},
	}
	if slices.ContainsFunc(s.Copies, func(c Copy) bool { return c.Site != "" }) {
		in = append(in, Input{"", "loss of a site", "probability a year", s.SiteLoss.Or(AssumedDomain)})
	}
	for i := range s.Copies {
		c := &s.Copies[i]
		add := func(name, unit string, f Figure) { in = append(in, Input{c.Name, name, unit, f}) }
		if c.Pending.Value > 0 {
			add("pending for", "years", c.Pending)
		}
		if c.Until.Value > 0 {
			add("may go after", "years", c.Until)
		}
		if c.Bucket != nil {
			b := c.Bucket.filled()
			add("loss of an object", "probability a year", b.ObjectLoss)
			add("loss of the bucket", "probability a year", b.AccountLoss)
			add("a loss is noticed after", "years", b.Detect)
			add("repair", "bytes/s", b.Repair)
			continue
		}
		d := c.Drives.filled(s)
		add("bytes on a drive", "bytes", Figure{float64(d.DriveBytes), s.From})
		add("drive failures", "probability a year", d.AFR)
		if d.Domains > 0 {
			add("loss of a failure domain", "probability a year", d.DomainLoss)
		}
		add("latent bad blocks", "per 10^12 bytes a year", d.Latent)
		add("scrub every", "years", d.Scrub)
		add("repair starts after", "years", d.Detect)
		add("repair", "bytes/s", d.Repair)
	}
	return in
}
