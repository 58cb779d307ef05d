package provider

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// smallPart is the bytes up to which a part has memory of its own size; beyond
// it, of a whole part's.
const smallPart = 1 << 20

// parts lends the memory of parts, so that one that is large need not be cleared
// each time. Safe for concurrent use.
type parts struct {
	pool sync.Pool // of *[]byte, of more than smallPart bytes
}

// get is an empty slice with room for n bytes.
func (p *parts) get(n int64) []byte {
	if n <= smallPart {
		return make([]byte, 0, n)
	}
	if b, ok := p.pool.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

// put takes back what nobody uses any more.
func (p *parts) put(b []byte) {
	if cap(b) > smallPart {
		p.pool.Put(&b)
	}
}

// part is a part of an object: pieces of memory, one after the other. It is not
// changed once it is on its way.
type part struct {
	pieces [][]byte
	size   int64
	// own is set where the last piece is the part's own, so that more may be
	// appended to it.
	own   bool
	done  []func()      // to be called when nobody reads the part any more
	moved *atomic.Int64 // bytes read by ReadAt; nil: nobody counts
}

// room is how much may be appended to the last piece.
func (p *part) room() int64 {
	if !p.own {
		return 0
	}
	last := p.pieces[len(p.pieces)-1]
	return int64(cap(last) - len(last))
}

// copy appends a copy of b, for which there is room.
func (p *part) copy(b []byte) {
	last := &p.pieces[len(p.pieces)-1]
	*last = append(*last, b...)
	p.size += int64(len(b))
}

// add appends b itself.
func (p *part) add(b []byte, own bool, done func()) {
	p.pieces = append(p.pieces, b)
	p.size += int64(len(b))
	p.own = own
	p.done = append(p.done, done)
}

// joined is parts, the last apart from those before it, as one, which takes them over.
func joined(full []part, last part) (all part) {
	if len(full) == 0 {
		return last
	}
	for _, p := range append(full, last) {
		all.pieces = append(all.pieces, p.pieces...)
		all.done = append(all.done, p.done...)
		all.size += p.size
	}
	return all
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the checksum of a whole body as S3 and Google write it: base64 of its
// big-endian bytes (RFC 3720, section 12.1, for the polynomial). The body stays where
// it is. fsapi.Invalid: it cannot be read.
func CRC32C(body *io.SectionReader) (string, error) {
	sum := uint32(0)
	r, off, n := body.Outer()
	if p, ok := r.(*part); ok && off == 0 && n == p.size { // no byte needs to be copied
		for _, piece := range p.pieces {
			sum = crc32.Update(sum, castagnoli, piece)
		}
	} else {
		h := crc32.New(castagnoli)
		if _, err := io.Copy(h, io.NewSectionReader(body, 0, body.Size())); err != nil {
			return "", fsapi.Errorf(fsapi.Invalid, "read the body: %v", err)
		}
		sum = h.Sum32()
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)), nil
}

// free gives the memory back.
func (p *part) free() {
	for _, done := range p.done {
		done()
	}
	*p = part{}
}

// body is the part as it is sent.
func (p *part) body() *io.SectionReader { return io.NewSectionReader(p, 0, p.size) }

// counted begins to count what is read of the part.
func (p *part) counted() *atomic.Int64 {
	p.moved = new(atomic.Int64)
	return p.moved
}

// ReadAt implements io.ReaderAt.
func (p *part) ReadAt(b []byte, off int64) (n int, err error) {
	if p.moved != nil {
		defer func() { p.moved.Add(int64(n)) }()
	}
	for _, piece := range p.pieces {
		if off >= int64(len(piece)) {
			off -= int64(len(piece))
			continue
		}
		n += copy(b[n:], piece[off:])
		if off = 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}

// shared is done for memory that lies in n parts.
func shared(n int64, done func()) func() {
	if n == 1 {
		return done
	}
	var left atomic.Int64
	left.Store(n)
	return func() {
		if left.Add(-1) == 0 {
			done()
		}
	}
}
