package durability

import (
	"math"
	"math/bits"
)

// Chain is a continuous-time Markov chain: transient states 0 to n-1, of which 0
// is where it starts, and absorbing ends, each standing for a cause of loss.
// Computations only add, multiply and divide what is not negative, so that a
// probability of 1e-40 has as many right digits as one of 0.5.
type Chain struct {
	n    int
	rate [][]float64 // [from][to]; to ≥ n is end to-n; the diagonal is unused
}

// NewChain is a chain without transitions.
func NewChain(states, ends int) *Chain {
	c := &Chain{n: states, rate: make([][]float64, states)}
	for i := range c.rate {
		c.rate[i] = make([]float64, states+ends)
	}
	return c
}

// Move adds a transition between transient states. A move to the same state is
// none.
func (c *Chain) Move(from, to int, rate float64) {
	if from != to {
		c.rate[from][to] += rate
	}
}

// End adds a transition to an end.
func (c *Chain) End(from, end int, rate float64) { c.rate[from][c.n+end] += rate }

// Solve is the mean time until an end is reached, +Inf where none is, and the
// probability of each end. States are eliminated one after another without
// subtractions (Grassmann, Taksar, Heyman: "Regenerative analysis and steady
// state distributions for Markov chains", Operations Research 33, 1985).
func (c *Chain) Solve() (mean float64, ends []float64) {
	q, spent := make([][]float64, c.n), make([]float64, c.n) // spent: mean time a visit takes, eliminated states included, times the rate out
	for i := range q {
		q[i], spent[i] = append([]float64(nil), c.rate[i]...), 1
	}
	for s := c.n - 1; s > 0; s-- {
		out := c.left(q[s], s)
		for i := range s {
			if q[i][s] == 0 {
				continue
			}
			share := q[i][s] / out // +Inf where it is never left: then so is the mean
			spent[i] += share * spent[s]
			for j := range q[i] {
				if (j < s || j >= c.n) && q[s][j] > 0 {
					q[i][j] += share * q[s][j]
				}
			}
		}
	}
	ends = q[0][c.n:]
	total := 0.0
	for _, r := range ends {
		total += r
	}
	if total == 0 || math.IsInf(spent[0], 1) {
		return math.Inf(1), make([]float64, len(ends))
	}
	for i := range ends {
		ends[i] /= total
	}
	return spent[0] / total, ends
}

// left is the rate from state s to the states below it and to ends: what is left
// when those above are eliminated. Row holds its rates.
func (c *Chain) left(row []float64, s int) (sum float64) {
	for j, r := range row {
		if j < s || j >= c.n {
			sum += r
		}
	}
	return sum
}

// Within is the probability that an end is reached within t. The chain is made
// discrete by a step so short that it rarely moves twice, by uniformization
// (Jensen 1953), and the step is doubled until it is t.
func (c *Chain) Within(t float64) float64 {
	fastest := 0.0
	for i, row := range c.rate {
		fastest = max(fastest, c.out(i, row))
	}
	if fastest == 0 {
		return 0
	}
	doublings := max(bits.Len64(uint64(fastest*t))+1, 1)
	p := c.step(math.Ldexp(t, -doublings), fastest)
	for range doublings {
		p = square(p)
	}
	return p[0][c.n]
}

func (c *Chain) out(self int, row []float64) (sum float64) {
	for j, r := range row {
		if j != self {
			sum += r
		}
	}
	return sum
}

// step is the matrix of probabilities after h, h*fastest ≤ 1: column n is any
// end. The sum over the number of moves is cut where it cannot be told from 0.
func (c *Chain) step(h, fastest float64) [][]float64 {
	n := c.n + 1
	jump := zeros(n) // of the uniformized chain
	for i, row := range c.rate {
		jump[i][i] = 1 - c.out(i, row)/fastest
		for j, r := range row {
			if j != i {
				jump[i][min(j, c.n)] += r / fastest
			}
		}
	}
	jump[c.n][c.n] = 1
	power, sum, weight := identity(n), zeros(n), math.Exp(-h*fastest)
	for k := 1; k <= 60; k++ {
		add(sum, power, weight)
		power, weight = multiply(power, jump), weight*h*fastest/float64(k)
	}
	return sum
}

func zeros(n int) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
	}
	return m
}

func identity(n int) [][]float64 {
	m := zeros(n)
	for i := range m {
		m[i][i] = 1
	}
	return m
}

func add(sum, m [][]float64, f float64) {
	for i := range m {
		for j := range m {
			sum[i][j] += f * m[i][j]
		}
	}
}

func multiply(a, b [][]float64) [][]float64 {
	m := zeros(len(a))
	for i := range a {
		for k, x := range a[i] {
			for j, y := range b[k] {
				m[i][j] += x * y
			}
		}
	}
	return m
}

func square(a [][]float64) [][]float64 { return multiply(a, a) }
