package vfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// carried is a flight of dirtyModel, with what its pieces held when they were
// staged.
type carried struct {
	leg  *leg
	want [][]byte
}

// dirtyModel is a file's dirty data beside plain bytes: what was written, and what
// is stored of it.
type dirtyModel struct {
	t       *testing.T
	r       *rand.Rand
	ps      pages
	n       *node
	written []byte
	stored  []byte
	flights []*carried // launched, the oldest first
	open    *carried
	fill    byte
}

const modelMax = 12 << 20 // bytes of the file

// TestDirty writes at random and from one end to the other, cuts, stages, gives
// back, stores and fails, and checks that what a flight holds does not change, that
// readers see what was written, and that no page is lost or given up twice.
func TestDirty(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &dirtyModel{t: t, r: rand.New(rand.NewPCG(seed, 1)), n: &node{data: newDirty()}}
			m.ps.budget = NewBudget([]int64{1 << 40, 32 << 20}[seed%2])
			for range 200 {
				m.step()
				m.check()
			}
			for len(m.flights) > 0 || m.open != nil {
				m.launch()
				m.land(true)
			}
			m.n.data.truncate(&m.ps, 0)
			if n := m.ps.inUse.Load(); n != 0 {
				t.Errorf("%d bytes of pages are in use at the end", n)
			}
			if d := m.n.data; d.bytes != 0 || d.held != 0 {
				t.Errorf("%d bytes are dirty and %d held at the end", d.bytes, d.held)
			}
		})
	}
}

func (m *dirtyModel) step() {
	switch k := m.r.IntN(20); {
	case k < 9: // on from the end
		for range 1 + m.r.IntN(6) {
			m.write(len(m.written), []int{1 << 20, 300_000, 128 << 10, 4096, 777}[m.r.IntN(5)])
		}
	case k < 12:
		m.write(m.place(), 1+m.r.IntN(1<<(6+m.r.IntN(14))))
	case k < 13:
		size := min(m.place(), len(m.written))
		m.n.data.truncate(&m.ps, int64(size))
		m.written = m.written[:size]
	case k < 17:
		m.stage()
	case k < 18:
		m.launch()
	default:
		m.land(m.r.IntN(4) > 0)
	}
	if len(m.written) > modelMax {
		m.n.data.truncate(&m.ps, 0)
		m.written = nil
	}
}

// place is somewhere in the file or just behind it, often near its end, and often
// where a block begins.
func (m *dirtyModel) place() int {
	at := m.r.IntN(len(m.written) + 100_000)
	if m.r.IntN(2) == 0 {
		at = max(0, len(m.written)-m.r.IntN(3<<20))
	}
	if m.r.IntN(2) == 0 {
		at &^= blockMask
	}
	return at
}

func (m *dirtyModel) write(off, n int) {
	m.fill++
	p := bytes.Repeat([]byte{m.fill | 1}, n)
	m.n.data.write(&m.ps, p, int64(off))
	m.written = put(m.written, off, p)
}

// put writes p into file, which grows with zeros.
func put(file []byte, off int, p []byte) []byte {
	if need := off + len(p); need > len(file) {
		file = append(file, make([]byte, need-len(file))...)
	}
	copy(file[off:], p)
	return file
}

// stage fills the open flight, as fill does, and has some of the last piece given
// back.
func (m *dirtyModel) stage() {
	if m.open == nil {
		m.open = &carried{leg: &leg{n: m.n, cut: noCut}}
	}
	l := m.open.leg
	staged, res := l.stageLocked(&m.ps, slabSize)
	for _, p := range staged {
		m.open.want = append(m.open.want, bytes.Clone(p.data))
	}
	if n := len(staged); n > 0 && res != stagedFull && m.r.IntN(2) == 0 {
		last := &m.open.want[len(m.open.want)-1]
		if m.r.IntN(3) == 0 { // meanwhile
			m.write(m.place(), 1+m.r.IntN(1<<18))
		}
		take := max(0, len(*last)-m.r.IntN(1<<20))
		l.giveBack(&m.ps, take)
		if *last = (*last)[:take]; take == 0 {
			m.open.want = m.open.want[:len(m.open.want)-1]
		}
	}
	if res == stagedFull {
		m.launch()
	}
}

func (m *dirtyModel) launch() {
	if m.open != nil {
		m.flights = append(m.flights, m.open)
		m.open = nil
	}
}

// land settles the oldest flight, or fails all of them.
func (m *dirtyModel) land(well bool) {
	if !well {
		m.launch()
	}
	for len(m.flights) > 0 {
		c := m.flights[0]
		m.flights = m.flights[1:]
		l := c.leg
		if well {
			if l.cut < int64(len(m.stored)) {
				m.stored = m.stored[:l.cut]
			}
			for _, p := range l.pieces {
				m.stored = put(m.stored, int(p.off), p.data)
			}
		}
		for i := range l.pieces {
			m.ps.put(l.pieces[i].pg)
		}
		if !well {
			l.returnLocked()
			continue
		}
		l.storedLocked(&m.ps)
		return
	}
}

func (m *dirtyModel) check() {
	m.t.Helper()
	cut := m.n.data.cut
	for _, c := range append(slices.Clone(m.flights), m.open) {
		if c == nil {
			continue
		}
		cut = min(cut, c.leg.cut)
		for i, p := range c.leg.pieces {
			if !bytes.Equal(p.data, c.want[i]) {
				m.t.Fatalf("the piece at %d of a flight has changed", p.off)
			}
		}
	}
	got := make([]byte, len(m.written))
	for _, g := range m.n.data.read(got, 0, nil) {
		end := min(g.end, cut, int64(len(m.stored)))
		if g.off < end {
			copy(got[g.off:end], m.stored[g.off:end])
		}
	}
	if !bytes.Equal(got, m.written) {
		i := 0
		for got[i] == m.written[i] {
			i++
		}
		m.t.Fatalf("readers see other bytes than were written, from %d of %d on", i, len(got))
	}
}
