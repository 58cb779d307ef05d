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

// row is one measure's outcome. Strake and Loopback are medians over the
// rounds.
type row struct {
	Name     string    `json:"name"`
	What     string    `json:"what"`
	Unit     string    `json:"unit"`
	Strake   float64   `json:"strake"`
	Loopback float64   `json:"loopback"`
	Ratio    float64   `json:"ratio"`
	Bar      string    `json:"bar,omitempty"`
	Verdict  string    `json:"verdict,omitempty"`
	All      []float64 `json:"strake_all"`
	AllRef   []float64 `json:"loopback_all"`
}

// outcome is what a run found.
type outcome struct {
	Rows   []row `json:"measures"`
	Missed int   `json:"missed"`
}

func (r results) report() outcome {
	var out outcome
	for _, g := range groups() {
		for _, m := range g.measures {
			out.take(m, r[m.name], median)
		}
	}
	rss := memory()
	by := r[rss.name]
	for _, vs := range by {
		for i := range vs {
			vs[i] /= 1 << 20
		}
	}
	out.take(rss, by, func(vs []float64) float64 { return slices.Max(vs) })
	return out
}

// take adds a measure where it was made.
func (o *outcome) take(m measure, by map[string][]float64, of func([]float64) float64) {
	own, ref := by["strake"], by["loopback"]
	if len(own) == 0 || len(ref) == 0 {
		return
	}
	w := row{Name: m.name, What: m.what, Unit: m.unit, Strake: of(own), Loopback: of(ref), Bar: m.bar(), All: own, AllRef: ref}
	if w.Loopback != 0 {
		w.Ratio = w.Strake / w.Loopback
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
	fmt.Fprintln(t, "measure\tstrake\tloopback\tunit\tratio\tbar\t\t")
	for _, r := range o.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f ×\t%s\t%s\t%s\n", r.Name, figure(r.Strake), figure(r.Loopback), r.Unit, r.Ratio, r.Bar, r.Verdict, r.What)
	}
	_ = t.Flush()
	fmt.Fprintf(w, "%d bars missed\n", o.Missed)
}

// figure is three digits, or all before the point.
func figure(v float64) string {
	if math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
