package durability

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/fsapi"
)

const tb = 1e12

func given(x float64) Figure { return Figure{x, Given} }

// drives have no latent errors and no domains.
func drives(k, m, count int, afr, detectYears float64) *Drives {
	return &Drives{K: k, M: m, Count: count, AFR: given(afr), Latent: given(0), Scrub: given(0), Detect: given(detectYears), Repair: given(1e18)}
}

func evaluate(t interface{ Fatal(...any) }, s System) Result {
	r, err := Evaluate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func one(c Copy) System { return System{Bytes: 10 * tb, Segment: 64 << 20, Copies: []Copy{c}} }

// One drive: its failure rate is the answer. A pair: the closed form.
func TestOneCopy(t *testing.T) {
	r := evaluate(t, one(Copy{Name: "hot", Drives: drives(1, 0, 1, 0.02, 0.01)}))
	if !near(r.Loss, 0.02, 1e-9) || !near(r.Nines, -math.Log10(0.02), 1e-9) {
		t.Errorf("one drive: %v", r.Loss)
	}
	if n := math.Ceil(10 * tb / (64 << 20)); !near(r.Segments, n*hazard(0.02), 1e-9) {
		t.Errorf("one drive loses %v segments a year of %v", r.Segments, n)
	}
	l := hazard(0.02)
	want := 2 * l * l / (3*l + 100)
	r = evaluate(t, one(Copy{Name: "hot", Drives: drives(1, 1, 2, 0.02, 0.01)}))
	if !near(r.Loss, -math.Expm1(-want), 1e-4) {
		t.Errorf("a pair: %v, want %v", r.Loss, want)
	}
	if mean, year := r.Copies[0].Mean, r.Copies[0].Loss; !near(mean, 1/want, 1e-4) || !near(year, r.Loss, 1e-12) {
		t.Errorf("the copy: %v years, %v", mean, year)
	}
	// Groups are independent of each other.
	d := drives(1, 1, 20, 0.02, 0.01)
	d.Clustered = true
	if ten := evaluate(t, one(Copy{Name: "hot", Drives: d})); !near(ten.Loss, 10*r.Loss, 1e-2) {
		t.Errorf("ten pairs: %v, a pair %v", ten.Loss, r.Loss)
	}
}

// The rate of the model is the chain's own probability within a year.
func TestRatesAreThoseOfTheChain(t *testing.T) {
	d := drives(10, 4, 20, 0.05, 0.02)
	d.Latent, d.Scrub, d.Domains = given(0.1), given(0.1), 10
	s := one(Copy{Name: "hot", Drives: d})
	f := d.filled(&s)
	if r := evaluate(t, s); !near(r.Loss, f.Chain(&s).Within(1), 0.1) {
		t.Errorf("%v, the chain says %v", r.Loss, f.Chain(&s).Within(1))
	}
}

// Two copies of one drive each are a mirrored pair whose halves differ.
func TestTwoCopiesLoseTheSameData(t *testing.T) {
	s := System{Bytes: 10 * tb, Segment: 64 << 20, Copies: []Copy{
		{Name: "hot", Drives: drives(1, 0, 1, 0.02, 0.01)},
		{Name: "cold", Drives: drives(1, 0, 1, 0.05, 0.1)},
	}}
	a, b := hazard(0.02), hazard(0.05)
	want := a*b*0.1 + a*b*0.01 // either fails while the other is down
	if r := evaluate(t, s); !near(r.Loss, want, 0.01) {
		t.Errorf("%v, want %v", r.Loss, want)
	}
	// Where each loses only a part, most losses do not meet.
	s.Copies[0].Drives, s.Copies[1].Drives = drives(1, 0, 10, 0.02, 0.01), drives(1, 0, 10, 0.05, 0.1)
	r := evaluate(t, s)
	if !near(r.Loss, 100*want, 0.1) { // there is no pair of drives without a segment in common
		t.Errorf("spread: %v, want %v", r.Loss, 100*want)
	}
	if n := math.Ceil(s.segments()); !near(r.Segments, n*want, 0.1) {
		t.Errorf("spread: %v segments, want %v", r.Segments, n*want)
	}
}

// Data that waits for its second copy has one.
func TestPendingDataIsATermOfItsOwn(t *testing.T) {
	s := System{Bytes: 10 * tb, Segment: 64 << 20, Ingest: given(1e6), Copies: []Copy{
		{Name: "hot", Drives: drives(1, 0, 1, 0.02, 0.01)},
		{Name: "bucket", Pending: given(1.0 / 8766), Bucket: &Bucket{ObjectLoss: Figure{1e-11, Stated}, AccountLoss: given(0)}},
	}}
	r := evaluate(t, s)
	top, ok := r.Dominant()
	if !ok || !slices.Equal(top.Copies, []int{0}) || !near(top.Rate, hazard(0.02), 1e-9) || r.Share(top) < 0.99 {
		t.Fatalf("%+v", r.Terms)
	}
	if pending := 1e6 * 3600 / float64(64<<20); !near(top.Segments, hazard(0.02)*pending, 1e-6) {
		t.Errorf("%v segments a year, want %v", top.Segments, hazard(0.02)*pending)
	}
	if got := top.Explain([]string{"hot", "bucket"}); got != "data of the last 1 hour: hot: drive failures" {
		t.Errorf("explained as %q", got)
	}
	s.Copies[1].Pending = Figure{}
	if r := evaluate(t, s); r.Loss > 1e-7 {
		t.Errorf("without it: %v", r.Loss)
	}
}

func TestBucketAlone(t *testing.T) {
	r := evaluate(t, one(Copy{Name: "b", Bucket: &Bucket{ObjectLoss: Figure{1e-11, Stated}, AccountLoss: given(1e-4)}}))
	n := math.Ceil(10 * tb / (64 << 20))
	if !near(r.Loss, n*1e-11+1e-4, 1e-3) || !near(r.Segments, n*1e-11+n*1e-4, 1e-3) {
		t.Errorf("%v, %v segments", r.Loss, r.Segments)
	}
}

// With one site, its loss bounds everything; with two, it does not.
func TestSites(t *testing.T) {
	s := one(Copy{Name: "a", Site: "home", Drives: drives(1, 2, 12, 0.01, 0.001)})
	s.Copies = append(s.Copies, Copy{Name: "b", Site: "home", Drives: drives(4, 2, 12, 0.01, 0.001)})
	s.SiteLoss = given(1e-3)
	r := evaluate(t, s)
	top, _ := r.Dominant()
	if !near(r.Loss, 1e-3, 1e-3) || !slices.Equal(top.Causes, []Cause{SiteLoss, SiteLoss}) || !near(r.Segments, s.segments()*hazard(1e-3), 1e-3) {
		t.Errorf("one site: %v, %+v", r.Loss, top)
	}
	s.Copies[1].Site = "elsewhere"
	r = evaluate(t, s)
	if r.Loss > 1e-6 {
		t.Errorf("two sites: %v", r.Loss)
	}
	for _, term := range r.Terms {
		if len(term.Causes) != 2 || term.Rate < 0 || math.IsNaN(term.Rate) {
			t.Errorf("term %+v", term)
		}
	}
}

// A domain with more shards than there is parity is a loss by itself.
func TestDomains(t *testing.T) {
	d := drives(4, 2, 12, 1e-6, 0.001)
	d.Domains, d.DomainLoss = 2, given(1e-3)
	r := evaluate(t, one(Copy{Name: "a", Drives: d}))
	if !near(r.Loss, 2e-3, 1e-2) {
		t.Errorf("3 of 6 shards in one domain: %v", r.Loss)
	}
	d.Domains = 3
	if r := evaluate(t, one(Copy{Name: "a", Drives: d})); r.Loss > 1e-4 {
		t.Errorf("2 of 6: %v", r.Loss)
	}
	// A group of its own has the same domains.
	d.Domains, d.Clustered = 2, true
	if r := evaluate(t, one(Copy{Name: "a", Drives: d})); !near(r.Loss, 2e-3, 1e-2) {
		t.Errorf("clustered: %v", r.Loss)
	}
}

// Latent errors are what remains where drives are few and safe; a scrub helps.
func TestLatentErrors(t *testing.T) {
	d := drives(1, 1, 2, 0.02, 0.001)
	d.Latent, d.Scrub = given(0.1), given(1)
	s := one(Copy{Name: "a", Drives: d})
	r := evaluate(t, s)
	// Each of two drives fails at its rate; the other then has bad blocks.
	want := 2 * hazard(0.02) * -math.Expm1(-0.1*10*0.5)
	top, _ := r.Dominant()
	if !near(r.Loss, want, 0.03) || top.Causes[0] != LatentErrors {
		t.Errorf("%v, want %v: %+v", r.Loss, want, top)
	}
	d.Scrub = given(0.01)
	if often := evaluate(t, s); often.Loss > r.Loss/50 {
		t.Errorf("scrubbed a hundred times as often: %v, before %v", often.Loss, r.Loss)
	}
	alone := drives(1, 0, 1, 0, 0)
	alone.Latent = given(0.1)
	if r := evaluate(t, one(Copy{Name: "a", Drives: alone})); !near(r.Loss, -math.Expm1(-0.1*10), 1e-6) {
		t.Errorf("without redundancy: %v", r.Loss)
	}
}

// What is better is not found to be worse.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, m := rapid.IntRange(1, 10).Draw(t, "k"), rapid.IntRange(0, 4).Draw(t, "m")
		count := rapid.IntRange(k+m+1, 40).Draw(t, "count")
		d := Drives{
			K: k, M: m, Count: count, Clustered: rapid.Bool().Draw(t, "clustered"), DriveBytes: 4 * tb,
			AFR: given(rapid.Float64Range(0.001, 0.1).Draw(t, "afr")), Latent: given(rapid.Float64Range(0, 0.2).Draw(t, "latent")),
			Scrub: given(rapid.Float64Range(0.01, 0.5).Draw(t, "scrub")), Detect: given(rapid.Float64Range(0, 0.01).Draw(t, "detect")),
			Repair: given(rapid.Float64Range(1e7, 1e9).Draw(t, "repair")),
		}
		loss := func(d Drives) float64 {
			r := evaluate(t, one(Copy{Name: "x", Drives: &d}))
			if !(r.Loss >= 0 && r.Loss <= 1) {
				t.Fatalf("%+v: %v", d, r.Loss)
			}
			return r.Loss * (1 - 1e-9)
		}
		was := loss(d)
		for what, change := range map[string]func(d *Drives){
			"more failures":    func(d *Drives) { d.AFR.Value *= 1.5 },
			"more latent":      func(d *Drives) { d.Latent.Value = d.Latent.Value*2 + 0.01 },
			"less scrub":       func(d *Drives) { d.Scrub.Value *= 2 },
			"later repair":     func(d *Drives) { d.Detect.Value += 0.01 },
			"slower repair":    func(d *Drives) { d.Repair.Value /= 2 },
			"failing domains":  func(d *Drives) { d.Domains, d.DomainLoss = d.Count, given(0.01) },
			"one parity fewer": func(d *Drives) { d.M = max(d.M-1, 0) },
		} {
			worse := d
			change(&worse)
			if is := loss(worse); is < was*(1-1e-6) && (what != "one parity fewer" || !d.Clustered) {
				t.Fatalf("%s: %v, before %v: %+v", what, is, was, d)
			}
		}
	})
}

func TestEveryFigureIsListedWithItsSource(t *testing.T) {
	d := drives(4, 2, 12, 0.01, 0.1)
	d.Repair = Figure{80e6, Measured}
	d.Latent = Figure{}
	r := evaluate(t, one(Copy{Name: "hot", Drives: d}))
	want := map[string]Figure{
		"repair":            {80e6, Measured},
		"drive failures":    {0.01, Given},
		"latent bad blocks": {AssumedLatent, Assumed},
	}
	for _, in := range r.Inputs {
		if f, ok := want[in.Name]; ok && in.Figure == f && in.Copy == "hot" {
			delete(want, in.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v in %+v", want, r.Inputs)
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	for what, change := range map[string]func(s *System){
		"no data":          func(s *System) { s.Bytes = 0 },
		"no copies":        func(s *System) { s.Copies = nil },
		"pending first":    func(s *System) { s.Copies[0].Pending = given(1) },
		"nowhere":          func(s *System) { s.Copies[0].Drives = nil },
		"too few drives":   func(s *System) { s.Copies[0].Drives.Count = 5 },
		"certain failure":  func(s *System) { s.Copies[0].Drives.AFR = given(1) },
		"negative time":    func(s *System) { s.Copies[0].Drives.Detect = given(-1) },
		"no number":        func(s *System) { s.Copies[0].Drives.Latent = given(math.NaN()) },
		"no repair":        func(s *System) { s.Copies[0].Drives.Repair = given(0) },
		"too many domains": func(s *System) { s.Copies[0].Drives.Domains = 13 },
		"silent provider":  func(s *System) { s.Copies[0] = Copy{Name: "hot", Bucket: &Bucket{}} },
	} {
		s := one(Copy{Name: "hot", Drives: drives(4, 2, 12, 0.01, 0.1)})
		change(&s)
		if _, err := Evaluate(s); !errors.Is(err, fsapi.Invalid) || !strings.HasPrefix(err.Error(), "durability: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A copy that may go covers young data only; together the ages are all data.
func TestACopyThatGoesCoversYoungDataOnly(t *testing.T) {
	disk := Drives{K: 1, M: 0, Count: 1, AFR: Figure{0.1, Given}, Latent: Figure{0, Given}}
	s := System{Bytes: 1 << 40, Segment: 64 << 20, Ingest: Figure{1 << 20, Given}, Copies: []Copy{
		{Name: "hot", Until: days(1, Given), Drives: &disk},
		{Name: "cold", Pending: days(1, Given), Bucket: &Bucket{ObjectLoss: Figure{1e-11, Stated}}},
	}}
	r, err := Evaluate(s)
	if err != nil {
		t.Fatal(err)
	}
	young, old := 0, 0
	for _, term := range r.Terms {
		if len(term.Copies) != 1 {
			t.Errorf("a term of two copies: %+v", term)
		}
		if term.Copies[0] == 0 && term.Age[1] == days(1, Given).Value {
			young++
		}
		if term.Copies[0] == 1 && term.Age[0] == days(1, Given).Value {
			old++
		}
	}
	if young == 0 || old == 0 || young+old != len(r.Terms) {
		t.Errorf("%d terms of young data, %d of old: %+v", young, old, r.Terms)
	}
	for _, until := range []float64{0.5, 0} { // a gap; a copy that goes before it is there
		bad := s
		bad.Copies = append([]Copy(nil), s.Copies...)
		bad.Copies[0].Until = days(until, Given)
		if until == 0 {
			bad.Copies[1].Until = days(0.5, Given)
		}
		if _, err := Evaluate(bad); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%v: %v", until, err)
		}
	}
}

// days is a time in years.
func days(n float64, from Source) Figure { return Figure{n / 365.25, from} }

// TestInputText: figures in units that people read.
func TestInputText(t *testing.T) {
	for _, c := range []struct {
		in   Input
		want string
	}{
		{Input{Unit: "years", Figure: Figure{Value: Years(time.Minute)}}, "1 minute"},
		{Input{Unit: "years", Figure: Figure{Value: Years(30 * 24 * time.Hour)}}, "30 days"},
		{Input{Unit: "years", Figure: Figure{Value: 2}}, "2 years"},
		{Input{Unit: "years", Figure: Figure{Value: Years(time.Millisecond)}}, "0.001 seconds"},
		{Input{Unit: "bytes", Figure: Figure{Value: 999}}, "999 B"},
		{Input{Unit: "bytes", Figure: Figure{Value: 999_600}}, "1 MB"},
		{Input{Unit: "bytes/s", Figure: Figure{Value: 5e7}}, "50 MB/s"},
		{Input{Unit: "probability a year", Figure: Figure{Value: 1e-11}}, "1e-11 probability a year"},
	} {
		if got := c.in.Text(); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.in.Figure.Value, c.in.Unit, got, c.want)
		}
	}
}
