// Package slab lends byte buffers by size class, so that hot paths neither
// allocate nor clear memory.
//
// It owns: idle buffers. It must not know what is in them. Buffers come back
// with old contents.
package slab

import (
	"math/bits"
	"sync"
)

// Classes are four to a doubling, from 4 KiB to 32 MiB: a buffer is at most a
// fifth larger than asked for. Above that there is no pooling.
const (
	minShift = 12
	maxShift = 25
	classes  = 4*(maxShift-minShift) + 1
)

// Pool lends buffers. The zero Pool is ready. Safe for concurrent use.
type Pool struct {
	class [classes]sync.Pool
}

// Buf is a lent buffer. B may be resliced within its capacity.
type Buf struct {
	B     []byte
	class int
}

// Get lends a buffer of n bytes.
func (p *Pool) Get(n int) *Buf {
	c := classOf(n)
	if c < 0 {
		return &Buf{B: make([]byte, n), class: -1}
	}
	if b, ok := p.class[c].Get().(*Buf); ok {
		b.B = b.B[:n]
		return b
	}
	return &Buf{B: make([]byte, n, sizeOf(c)), class: c}
}

// Put takes a buffer back, which nobody may use from then on. nil is ignored.
func (p *Pool) Put(b *Buf) {
	if b == nil || b.class < 0 {
		return
	}
	p.class[b.class].Put(b)
}

// sizeOf is the capacity in bytes of a class.
func sizeOf(c int) int { return (4 + c%4) << (minShift - 2 + c/4) }

// classOf is the smallest class that holds n bytes, or -1.
func classOf(n int) int {
	if n <= 1<<minShift {
		return 0
	}
	shift := bits.Len(uint(n-1)) - 3 // n-1 has three leading bits above shift
	c := 4*(shift-(minShift-2)) + ((n-1)>>shift - 4) + 1
	if c >= classes {
		return -1
	}
	return c
}
