package durability

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// near reports whether two positive numbers differ by at most a part of one.
func near(got, want, part float64) bool { return math.Abs(got-want) <= part*math.Abs(want) }

// group is a group of n drives of which the loss of more than m at once is fatal,
// one repaired at a time.
func group(n, m int, lambda, mu float64) *Chain {
	c := NewChain(m+1, 1)
	for e := range m + 1 {
		rate := float64(n-e) * lambda
		if e == m {
			c.End(e, 0, rate)
		} else {
			c.Move(e, e+1, rate)
		}
		if e > 0 {
			c.Move(e, e-1, mu)
		}
	}
	return c
}

// Closed forms: Patterson, Gibson, Katz 1988 and the exact ones behind them.
func TestMeanTimesAreThoseOfClosedForms(t *testing.T) {
	const l, mu = 0.02, 365.0
	for _, c := range []struct {
		name       string
		n, m       int
		want, part float64
	}{
		{"one drive", 1, 0, 1 / l, 1e-14},
		{"stripe of 8", 8, 0, 1 / (8 * l), 1e-14},
		{"mirrored pair, exact", 2, 1, (3*l + mu) / (2 * l * l), 1e-13},
		{"RAID 5 of 6, exact", 6, 1, (11*l + mu) / (30 * l * l), 1e-13},
		{"RAID 5 of 6, Patterson", 6, 1, mu / (6 * 5 * l * l), 1e-3},
		{"RAID 6 of 8", 8, 2, mu * mu / (8 * 7 * 6 * l * l * l), 2e-3},
		{"three mirrors", 3, 2, mu * mu / (6 * l * l * l), 2e-3},
	} {
		if got, p := group(c.n, c.m, l, mu).Solve(); !near(got, c.want, c.part) || p[0] != 1 {
			t.Errorf("%s: %v years, want %v", c.name, got, c.want)
		}
	}
}

// Ten parity shards and fast repair: a mean time of some 1e40 years, against the
// formula of birth-death chains in 500 bits.
func TestSolveKeepsDigits(t *testing.T) {
	const n, m, l, mu = 20, 10, 0.01, 5e4
	f := func(x float64) *big.Float { return new(big.Float).SetPrec(500).SetFloat64(x) }
	total := f(0)
	for i := range m + 1 { // the time from i to i+1: sum over j ≤ i of (1/up j) Π mu/up
		term := f(0)
		for j := i; j >= 0; j-- {
			x := new(big.Float).SetPrec(500).Quo(f(1), f(float64(n-j)*l))
			for k := j + 1; k <= i; k++ {
				x.Mul(x, new(big.Float).Quo(f(mu), f(float64(n-k)*l)))
			}
			term.Add(term, x)
		}
		total.Add(total, term)
	}
	want, _ := total.Float64()
	if got, _ := group(n, m, l, mu).Solve(); !near(got, want, 1e-12) || want < 1e30 {
		t.Errorf("%v years, want %v", got, want)
	}
}

func TestWithin(t *testing.T) {
	c := NewChain(1, 1)
	c.End(0, 0, 0.3)
	if got, want := c.Within(2), -math.Expm1(-0.6); !near(got, want, 1e-13) {
		t.Errorf("one state: %v, want %v", got, want)
	}
	// A mirrored pair, by the eigenvalues of its generator.
	const l, mu, at = 0.5, 3.0, 1.7
	root := math.Sqrt(l*l + mu*mu + 6*l*mu)
	a, b := (3*l+mu+root)/2, (3*l+mu-root)/2
	want := 1 - (a*math.Exp(-b*at)-b*math.Exp(-a*at))/(a-b)
	if got := group(2, 1, l, mu).Within(at); !near(got, want, 1e-12) {
		t.Errorf("mirrored pair: %v, want %v", got, want)
	}
	// Where repair is fast, it is the exponential of the mean time, however rare.
	for m := range 6 {
		c := group(12, m, 0.01, 400)
		mean, _ := c.Solve()
		if got, want := c.Within(1), -math.Expm1(-1/mean); !near(got, want, 0.03) {
			t.Errorf("12 drives, %d of them parity: %v within a year, want %v", m, got, want)
		}
	}
	if got := NewChain(2, 1).Within(1); got != 0 {
		t.Errorf("a chain without transitions ends: %v", got)
	}
	if got, _ := NewChain(2, 1).Solve(); !math.IsInf(got, 1) {
		t.Errorf("a chain without transitions ends after %v", got)
	}
	trap := NewChain(3, 1) // state 2 is never left
	trap.Move(0, 1, 1)
	trap.End(0, 0, 1)
	trap.Move(1, 0, 1)
	if got, _ := trap.Solve(); !near(got, 2, 1e-14) { // x = 1/2 + (1 + x)/2
		t.Errorf("with a state that is never entered: %v, want 2", got)
	}
	trap.Move(1, 2, 1)
	if got, _ := trap.Solve(); !math.IsInf(got, 1) {
		t.Errorf("with a state that is never left: %v", got)
	}
}

// Random chains, walked many times.
func TestSolveAgreesWithWalks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		c := NewChain(4, 2)
		for i := range 4 {
			for j := range 4 {
				c.Move(i, j, rnd.Float64()*3)
			}
			c.End(i, rnd.IntN(2), rnd.Float64())
		}
		mean, ends := c.Solve()
		const walks = 40_000
		var sum, squares, first, early float64
		for range walks {
			x, end := walk(c, rnd)
			sum, squares = sum+x, squares+x*x
			if end == 0 {
				first++
			}
			if x <= 1 {
				early++
			}
		}
		deviation := math.Sqrt((squares/walks - sum/walks*sum/walks) / walks)
		if math.Abs(sum/walks-mean) > 4*deviation {
			t.Errorf("mean %v, walks say %v ± %v", mean, sum/walks, deviation)
		}
		for _, x := range [][2]float64{{first / walks, ends[0]}, {early / walks, c.Within(1)}} {
			got, p := x[0], x[1]
			if math.Abs(got-p) > 4*math.Sqrt(p*(1-p)/walks)+1e-9 {
				t.Errorf("probability %v, walks say %v", p, got)
			}
		}
	}
}

// walk is the time until an end, and which.
func walk(c *Chain, rnd *rand.Rand) (t float64, end int) {
	for s := 0; ; {
		out := c.out(s, c.rate[s])
		t += rnd.ExpFloat64() / out
		x := rnd.Float64() * out
		for j, r := range c.rate[s] {
			if j == s {
				continue
			}
			if x -= r; x < 0 {
				if j >= c.n {
					return t, j - c.n
				}
				s = j
				break
			}
		}
	}
}
