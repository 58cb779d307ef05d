package vfs

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// A page is memory that holds dirty bytes: of one block, or (a slab) of many
// blocks side by side, as blob wants them. What a flight holds of it must not be
// changed; a block knows what that is of its own bytes. All fields but mem are
// guarded by the node's mu.
type page struct {
	mem  []byte
	refs int // holders: blocks, and pieces of flights
	// Of a slab that a file is being written into, mem[head:used] are blocks',
	// and the rest is free; otherwise both are 0.
	head, used int32
}

const (
	minPage  = 4 << 10
	slabSize = 4 << 20 // bytes staged at one time, unless chunks are large
	maxPage  = 32 << 20

	// A file that is written from one end to the other is written into slabs at
	// once, so that nothing has to be gathered later. They grow with what was
	// written so far, from minSlab to maxSlab. A large one leaves slabHead free
	// at its start, for the bytes before it that are too few for a chunk.
	minSlab  = 256 << 10
	maxSlab  = 8 << 20
	slabHead = 1 << 20
)

// pageClasses is the number of size classes: 4 KiB, 8 KiB ... maxPage.
const pageClasses = 14

// pages recycles page memory by size class and charges the budget for what is
// in use.
type pages struct {
	budget  *Budget
	inUse   atomic.Int64 // bytes
	moved   atomic.Int64 // bytes gathered into slabs so far
	classes [pageClasses]sync.Pool
}

func pageClass(n int) int {
	if n <= minPage {
		return 0
	}
	return bits.Len(uint(n-1)) - 12
}

// get makes a page of at least n bytes, at most maxPage, with one holder. Its
// contents are arbitrary.
func (ps *pages) get(n int) *page {
	c := pageClass(n)
	ps.charge(int64(minPage) << c)
	if p, ok := ps.classes[c].Get().(*page); ok {
		p.refs, p.head, p.used = 1, 0, 0
		return p
	}
	return &page{mem: make([]byte, minPage<<c), refs: 1}
}

// put gives up one hold.
func (ps *pages) put(p *page) {
	if p == nil {
		return
	}
	p.refs--
	if p.refs > 0 {
		return
	}
	ps.charge(-int64(len(p.mem)))
	ps.classes[pageClass(len(p.mem))].Put(p)
}

func (ps *pages) charge(delta int64) {
	ps.inUse.Add(delta)
	ps.budget.charge(delta)
}

// retire gives back to the budget what can never be stored any more.
func (ps *pages) retire() { ps.charge(-ps.inUse.Load()) }
