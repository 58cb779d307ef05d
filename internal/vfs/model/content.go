package model

import (
	"math"
	"slices"
)

// content is the bytes of a file: ranges that hold bytes or are preallocated,
// ascending, not overlapping, none of them empty. The rest is holes. A range
// may lie past the size: preallocated space (never written bytes).
type content struct {
	size   int64
	ranges []span
}

// span is a range of a file. data is nil where it is preallocated: zeros.
type span struct {
	off, n int64
	data   []byte
}

func (s span) end() int64 { return s.off + s.n }

// cut is the part of s within [from, to), which must not be empty.
func (s span) cut(from, to int64) span {
	from, to = max(from, s.off), min(to, s.end())
	c := span{off: from, n: to - from}
	if s.data != nil {
		c.data = slices.Clone(s.data[from-s.off : to-s.off])
	}
	return c
}

// used is the number of bytes in ranges.
func (c *content) used() int64 {
	n := int64(0)
	for _, s := range c.ranges {
		n += s.n
	}
	return n
}

// clone is a copy that shares nothing.
func (c *content) clone() content {
	d := content{size: c.size}
	for _, s := range c.ranges {
		s.data = slices.Clone(s.data)
		d.ranges = append(d.ranges, s)
	}
	return d
}

// punch makes [off, end) a hole.
func (c *content) punch(off, end int64) {
	var keep []span
	for _, s := range c.ranges {
		if s.end() <= off || s.off >= end {
			keep = append(keep, s)
			continue
		}
		if s.off < off {
			keep = append(keep, s.cut(s.off, off))
		}
		if s.end() > end {
			keep = append(keep, s.cut(end, s.end()))
		}
	}
	c.ranges = keep
}

// put places s, in place of what was there.
func (c *content) put(s span) {
	if s.n == 0 {
		return
	}
	c.punch(s.off, s.end())
	i, _ := slices.BinarySearchFunc(c.ranges, s.off, func(r span, off int64) int {
		return int(min(max(r.off-off, -1), 1))
	})
	if i > 0 && c.ranges[i-1].end() == s.off && c.ranges[i-1].data != nil && s.data != nil {
		c.ranges[i-1].data = append(c.ranges[i-1].data, s.data...)
		c.ranges[i-1].n += s.n
		return
	}
	c.ranges = slices.Insert(c.ranges, i, s)
}

// write puts p at off and extends the file.
func (c *content) write(p []byte, off int64) {
	if len(p) > 0 {
		c.put(span{off: off, n: int64(len(p)), data: slices.Clone(p)})
		c.size = max(c.size, off+int64(len(p)))
	}
}

// read fills p from off up to the end of file.
func (c *content) read(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	clear(p)
	end := off + int64(len(p))
	for _, s := range c.ranges {
		if s.data != nil && s.off < end && s.end() > off {
			from := max(off, s.off)
			copy(p[from-off:], s.data[from-s.off:])
		}
	}
	return len(p)
}

// truncate sets the size; what lies past a smaller one goes, and everything
// with size 0. What was preallocated past the end stays otherwise.
func (c *content) truncate(size int64) {
	if size < c.size || size == 0 {
		c.punch(size, math.MaxInt64)
	}
	c.size = size
}

// allocate preallocates what is a hole in [off, end).
func (c *content) allocate(off, end int64) {
	at := off
	for _, s := range slices.Clone(c.ranges) {
		if s.end() <= at || s.off >= end {
			continue
		}
		if s.off > at {
			c.put(span{off: at, n: s.off - at})
		}
		at = s.end()
	}
	if at < end {
		c.put(span{off: at, n: end - at})
	}
}

// shift moves what lies at or after off by delta.
func (c *content) shift(off, delta int64) {
	head := content{ranges: slices.Clone(c.ranges)}
	head.punch(off, math.MaxInt64)
	tail := content{ranges: slices.Clone(c.ranges)}
	tail.punch(0, off)
	for _, s := range tail.ranges {
		s.off += delta
		head.ranges = append(head.ranges, s)
	}
	c.ranges = head.ranges
	c.size += delta
}

// seek finds the first byte at or after off, before the size, that lies in
// data (or, with hole, does not). Preallocated ranges are holes.
func (c *content) seek(off int64, hole bool) (int64, bool) {
	for _, s := range c.ranges {
		if s.data == nil || s.end() <= off || s.off >= c.size {
			continue
		}
		if !hole {
			return max(off, s.off), true
		}
		if s.off > off {
			return off, true
		}
		off = s.end()
	}
	return min(off, c.size), hole
}
