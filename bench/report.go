package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// results are the figures of all turns: by measure, by subject.
type results map[string]map[string][]float64

func (r results) add(measure, subject string, v float64) {
	if r[measure] == nil {
		r[measure] = map[string][]float64{}
	}
	r[measure][subject] = append(r[measure][subject], v)
}

// row is one measure's outcome. Strake and Reference are medians over the
// rounds, or the highest; Reference and Ratio are 0 where there is no reference.
type row struct {
	Name      string    `json:"name"`
	What      string    `json:"what"`
	Unit      string    `json:"unit"`
	Strake    float64   `json:"strake"`
	Reference float64   `json:"reference"`
	Ratio     float64   `json:"ratio"`
	Bar       string    `json:"bar,omitempty"`
	Verdict   string    `json:"verdict,omitempty"`
	All       []float64 `json:"strake_all"`
	AllRef    []float64 `json:"reference_all"`
}

// outcome is what a run found.
type outcome struct {
	Rows   []row `json:"measures"`
	Missed int   `json:"missed"`
	// Others is the part of the processors' time that went to others meanwhile.
	Others float64 `json:"others"`
}

// quiet is Others up to which figures mean what they say: who does one small thing
// after another waits each time for a processor, who has many at once does not.
const quiet = 0.1

func (r results) report(set []group) outcome {
	var out outcome
	for _, g := range set {
		for _, m := range g.measures {
			out.take(m, r[m.name])
		}
	}
	return out
}

// take adds a measure where it was made.
func (o *outcome) take(m measure, by map[string][]float64) {
	own, ref := by[ownName], by[referenceName]
	if len(own)+len(ref) == 0 {
		return
	}
	of := median
	if m.highest {
		of = slices.Max[[]float64]
	}
	w := row{Name: m.name, What: m.what, Unit: m.unit, Bar: m.bar(), All: own, AllRef: ref}
	if len(ref) > 0 {
		w.Reference = of(ref)
	}
	if len(own) == 0 { // said of the reference alone
		o.Rows = append(o.Rows, w)
		return
	}
	w.Strake = of(own)
	if w.Reference != 0 {
		w.Ratio = w.Strake / w.Reference
	}
	if w.Verdict = m.verdict(w.Strake, w.Ratio); w.Verdict == "MISS" {
		o.Missed++
	}
	o.Rows = append(o.Rows, w)
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func (o outcome) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tstrake\treference\tunit\tratio\tbar\t\t")
	for _, r := range o.Rows {
		own, ref, ratio := "", "", ""
		if len(r.All) > 0 {
			own = figure(r.Strake)
		}
		if len(r.AllRef) > 0 {
			ref = figure(r.Reference)
		}
		if own != "" && ref != "" {
			ratio = fmt.Sprintf("%.2f ×", r.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, own, ref, r.Unit, ratio, r.Bar, r.Verdict, r.What)
	}
	_ = t.Flush()
	fmt.Fprintf(w, "%d bars missed\n", o.Missed)
	if o.Others > quiet {
		fmt.Fprintf(w, "others had %.0f %% of the processors' time: ratios against a reference that does more at once are too low\n", 100*o.Others)
	}
}

// figure is three digits, or all before the point.
func figure(v float64) string {
	if math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
