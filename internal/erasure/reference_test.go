package erasure

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/strakefs/strake/internal/fsapi"
)

// What follows is a second implementation, written from FORMAT.md and as slow as
// it is plain: the format is what both agree on.

// gfMul multiplies in GF(2^8) modulo x^8+x^4+x^3+x^2+1.
func gfMul(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		carry := a & 0x80
		a <<= 1
		if carry != 0 {
			a ^= 0x1d
		}
	}
	return p
}

func gfInverse(a byte) byte {
	for b := 1; b < 256; b++ {
		if gfMul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	panic("zero has no inverse")
}

// refMatrix is V · (top of V)⁻¹ with V[r][c] = r^c.
func refMatrix(k, n int) [][]byte {
	v := make([][]byte, n)
	for r := range v {
		v[r] = make([]byte, k)
		x := byte(1)
		for c := range v[r] {
			v[r][c] = x
			x = gfMul(x, byte(r))
		}
	}
	// Columns operations that make the top the identity are the multiplication
	// with its inverse from the right.
	for c := range k {
		for p := c; v[c][c] == 0; p++ {
			if v[c][p] != 0 {
				for r := range v {
					v[r][c], v[r][p] = v[r][p], v[r][c]
				}
			}
		}
		inv := gfInverse(v[c][c])
		for r := range v {
			v[r][c] = gfMul(v[r][c], inv)
		}
		for o := range k {
			if f := v[c][o]; o != c && f != 0 {
				for r := range v {
					v[r][o] ^= gfMul(f, v[r][c])
				}
			}
		}
	}
	return v
}

// refEncode is the blobs of a segment's shards.
func refEncode(id fsapi.SegmentID, k, m, blockSize int, seg []byte) [][]byte {
	n, crc := k+m, func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	per := (len(seg) + k - 1) / k
	s := (per + blockSize - 1) / blockSize * blockSize
	length := min(s, len(seg))

	payload := make([][]byte, n)
	for i := range k {
		payload[i] = seg[min(i*s, len(seg)):min((i+1)*s, len(seg))]
	}
	matrix := refMatrix(k, n)
	for i := k; i < n; i++ {
		payload[i] = make([]byte, length)
		for d := range k {
			for x, b := range payload[d] {
				payload[i][x] ^= gfMul(matrix[i][d], b)
			}
		}
	}

	header := func(i int, magic string) []byte {
		b := []byte(magic)
		b = append(b, 1, 0, 1, byte(k), byte(m), byte(i), 0, 0)
		b = append(b, id[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(len(seg)))
		b = binary.LittleEndian.AppendUint32(b, uint32(blockSize))
		b = append(b, make([]byte, 16)...)
		return binary.LittleEndian.AppendUint32(b, crc(b))
	}
	rows := (length + blockSize - 1) / blockSize
	checksum := func(i int, number uint32, b []byte) uint32 {
		return crc(bytes.Join([][]byte{header(i, "strakeEC")[:60], binary.LittleEndian.AppendUint32(nil, number), b}, nil))
	}
	block := func(i, r int) []byte {
		p := payload[i]
		return p[min(r*blockSize, len(p)):min((r+1)*blockSize, len(p))]
	}

	blobs := make([][]byte, n)
	for i := range blobs {
		b := header(i, "strakeEC")
		for r := range rows {
			if x := block(i, r); len(x) > 0 {
				b = append(b, x...)
				b = binary.LittleEndian.AppendUint32(b, checksum(i, uint32(r), x))
			}
		}
		for r := range rows {
			var row []byte
			for j := range n {
				var c uint32
				if x := block(j, r); len(x) > 0 {
					c = checksum(j, uint32(r), x)
				}
				row = binary.LittleEndian.AppendUint32(row, c)
			}
			b = append(b, row...)
			b = binary.LittleEndian.AppendUint32(b, checksum(i, 1<<31+uint32(r), row))
		}
		blobs[i] = append(b, header(i, "strakeED")...)
	}
	return blobs
}
