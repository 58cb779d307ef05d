package meta

import (
	"encoding/binary"
	"time"
)

// dec reads a record. After the first field that is not there or out of its
// bounds every read is zero and ok is false.
type dec struct {
	b   []byte
	bad bool
}

func (d *dec) fail() {
	d.bad = true
	d.b = nil
}

func (d *dec) uint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		n := uint64(d.b[0])
		d.b = d.b[1:]
		return n
	}
	n, w := binary.Uvarint(d.b)
	if w <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *dec) int() int64 {
	u := d.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *dec) u32() uint32 {
	n := d.uint()
	if n > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(n)
}

// size is a count of bytes: not negative as an int64.
func (d *dec) size() int64 {
	n := d.uint()
	if n > 1<<63-1 {
		d.fail()
		return 0
	}
	return int64(n)
}

func (d *dec) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// take is the next n bytes, aliasing the record.
func (d *dec) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// bytes is a length and as many bytes, aliasing the record.
func (d *dec) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	return d.take(int(n))
}

func (d *dec) str() string { return string(d.bytes()) }

// rest is everything that is left.
func (d *dec) rest() []byte { return d.take(len(d.b)) }

func (d *dec) nsec() int64 {
	n := d.uint()
	if n >= 1e9 {
		d.fail()
		return 0
	}
	return int64(n)
}

// time is seconds relative to base, and nanoseconds.
func (d *dec) time(base int64) time.Time {
	s := d.int()
	return time.Unix(base+s, d.nsec()).UTC()
}

// done reports whether everything was there and nothing is left over.
func (d *dec) done() bool { return !d.bad && len(d.b) == 0 }

func putUint(b []byte, n uint64) []byte {
	if n < 0x80 {
		return append(b, byte(n))
	}
	return binary.AppendUvarint(b, n)
}

func putInt(b []byte, n int64) []byte { return putUint(b, uint64(n)<<1^uint64(n>>63)) }

func putStr(b []byte, s string) []byte { return append(putUint(b, uint64(len(s))), s...) }

func putTime(b []byte, base int64, t time.Time) []byte {
	return putUint(putInt(b, t.Unix()-base), uint64(t.Nanosecond()))
}
