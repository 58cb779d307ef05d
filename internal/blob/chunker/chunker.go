// Package chunker finds where bytes are cut into chunks: content-defined by
// FastCDC (Xia et al., USENIX ATC 2016, as fastcdc-v1.0.0 of
// github.com/PlakarKorp/go-cdc-chunkers cuts), or of a fixed size.
//
// It owns: the cut points, and the numbers that name the algorithms in stored
// segments. It must not know files, chunk ids or frames. It is pure: no I/O,
// no state, no goroutines.
package chunker

import (
	"crypto/hkdf"
	"crypto/sha256"
	"math/bits"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Kind names a chunking algorithm. The numbers are stored: append only.
type Kind uint8

// The algorithms.
const (
	Mixed   Kind = 0 // not known, or several
	Fixed   Kind = 1 // every chunk but the last of a range has Avg bytes
	FastCDC Kind = 2 // "fastcdc-v1.0.0" of go-cdc-chunkers, keyed
)

var kindText = [...]string{"mixed", "fixed", "fastcdc-v1.0.0"}

// String is the algorithm's name as in documentation and listings.
func (k Kind) String() string {
	if int(k) < len(kindText) {
		return kindText[k]
	}
	return "unknown"
}

// keyInfo separates the key of cut points from others derived from an id key.
const keyInfo = "strake chunker v1"

// Cutter cuts. Safe for concurrent use.
type Cutter struct {
	kind          Kind
	min, avg, max int
	gear          *[256]uint64
	maskS, maskL  uint64 // before and after avg bytes
}

// New makes a cutter for a policy's chunking. idKey is the volume's key of
// chunk ids: with it, sizes of chunks tell nothing about known contents; nil
// uses the public gear table. fsapi.Invalid where c is out of bounds.
func New(c policy.Chunking, idKey []byte) (*Cutter, error) {
	if c.Fixed > 0 {
		if c.Fixed > policy.MaxChunk {
			return nil, fsapi.Errorf(fsapi.Invalid, "chunking: %d bytes is over the largest chunk of %d", c.Fixed, policy.MaxChunk)
		}
		return &Cutter{kind: Fixed, min: c.Fixed, avg: c.Fixed, max: c.Fixed}, nil
	}
	if c.Min < 64 || c.Avg <= c.Min || c.Max <= c.Avg || c.Max > policy.MaxChunk {
		return nil, fsapi.Errorf(fsapi.Invalid, "chunking: want 64 ≤ min < avg < max ≤ %d, have %d, %d, %d", policy.MaxChunk, c.Min, c.Avg, c.Max)
	}
	gear, err := gearTable(c, idKey)
	if err != nil {
		return nil, err
	}
	k := &Cutter{kind: FastCDC, min: c.Min, avg: c.Avg, max: c.Max, gear: gear}
	k.maskS, k.maskL = masks(c)
	return k, nil
}

// Kind is the algorithm, and the sizes are its parameters in bytes.
func (k *Cutter) Kind() (kind Kind, min, avg, max int) { return k.kind, k.min, k.avg, k.max }

// Cut is the length of the chunk at the start of data, which is not empty.
// Where it is all of data and less than Max, more data might move the cut.
func (k *Cutter) Cut(data []byte) int {
	if k.kind == Fixed {
		return min(len(data), k.avg)
	}
	return k.cutCDC(data)
}

// Max is the size of the largest chunk in bytes.
func (k *Cutter) Max() int { return k.max }

// gearTable is the 256 random numbers of the rolling hash, keyed.
func gearTable(c policy.Chunking, idKey []byte) (*[256]uint64, error) {
	o := &chunkers.ChunkerOpts{MinSize: c.Min, NormalSize: c.Avg, MaxSize: c.Max}
	if idKey != nil {
		key, err := hkdf.Key(sha256.New, idKey, nil, keyInfo, 32)
		if err != nil {
			return nil, fsapi.Wrap(fsapi.Invalid, err, "chunking: derive key")
		}
		o.Key = key
	}
	f := &fastcdc.FastCDC{}
	if err := f.Setup(o); err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "chunking: gear table")
	}
	return f.G, nil
}

// masks are FastCDC's two masks at normalization level 2: two bits more than
// log2(avg) before the average, two fewer after it.
func masks(c policy.Chunking) (small, large uint64) {
	if c.Min == 2<<10 && c.Avg == 8<<10 && c.Max == 64<<10 {
		return 0x0003590703530000, 0x0000d90003530000 // the paper's
	}
	n := bits.Len(uint(c.Avg)) - 1
	return spaced(n + 2), spaced(n - 2)
}

// spaced is a mask of n ones spread evenly from the top.
func spaced(n int) uint64 {
	step := 64 / n
	var m uint64
	for i := range n {
		m |= 1 << (63 - i*step)
	}
	return m
}
