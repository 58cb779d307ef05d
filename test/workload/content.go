package workload

import (
	"bytes"
	"slices"
)

const pageSize = 4096

// content is what a file holds. It never changes; versions share pages.
type content struct {
	size  int64
	pages [][]byte // of pageSize each; nil is zeros
}

func (c *content) page(i int64) []byte {
	if i < int64(len(c.pages)) {
		return c.pages[i]
	}
	return nil
}

// at is one byte; zero where there is none.
func (c *content) at(off int64) byte {
	if p := c.page(off / pageSize); p != nil {
		return p[off%pageSize]
	}
	return 0
}

// write is c with p at off.
func (c *content) write(off int64, p []byte) *content {
	to := &content{size: max(c.size, off+int64(len(p))), pages: slices.Clone(c.pages)}
	for len(p) > 0 {
		i, in := off/pageSize, off%pageSize
		for int64(len(to.pages)) <= i {
			to.pages = append(to.pages, nil)
		}
		page := make([]byte, pageSize)
		copy(page, to.pages[i])
		n := copy(page[in:], p)
		to.pages[i] = page
		off, p = off+int64(n), p[n:]
	}
	return to
}

// zero is c with zeros in [off, end); the size stays.
func (c *content) zero(off, end int64) *content {
	if end = min(end, c.size); off >= end {
		return c
	}
	return c.write(off, make([]byte, end-off))
}

// resize is c with another size.
func (c *content) resize(size int64) *content {
	if size >= c.size {
		return &content{size: size, pages: c.pages}
	}
	to := c.zero(size, c.size)
	return &content{size: size, pages: to.pages[:min(int64(len(to.pages)), (size+pageSize-1)/pageSize)]}
}

// bytes is [off, end) of the file, zeros past its end.
func (c *content) bytes(off, end int64) []byte {
	p := make([]byte, end-off)
	for at := off; at < end; {
		n := min(pageSize-at%pageSize, end-at)
		if page := c.page(at / pageSize); page != nil {
			copy(p[at-off:], page[at%pageSize:at%pageSize+n])
		}
		at += n
	}
	return p
}

// collapse is c without [off, end).
func (c *content) collapse(off, end int64) *content {
	rest := c.bytes(end, c.size)
	return c.resize(off).write(off, rest)
}

// insert is c with zeros put in between at off.
func (c *content) insert(off, n int64) *content {
	rest := c.bytes(off, c.size)
	return c.resize(off).resize(off+n).write(off+n, rest)
}

// mixed reports the first byte of got that is in none of the versions, which
// must be long enough to have it; -1 where there is none.
func mixed(got []byte, versions []*content) int64 {
	for off := int64(0); off < int64(len(got)); off += pageSize {
		end := min(off+pageSize, int64(len(got)))
		if at := mixedPage(got[off:end], off, versions); at >= 0 {
			return at
		}
	}
	return -1
}

func mixedPage(got []byte, off int64, versions []*content) int64 {
	end := off + int64(len(got))
	for _, v := range slices.Backward(versions) {
		if v.size < end {
			continue
		}
		page := v.page(off / pageSize)
		if page == nil && len(bytes.Trim(got, "\x00")) == 0 || page != nil && bytes.Equal(page[:len(got)], got) {
			return -1
		}
	}
	for i, b := range got {
		at := off + int64(i)
		if !slices.ContainsFunc(versions, func(v *content) bool { return v.size > at && v.at(at) == b }) {
			return at
		}
	}
	return -1
}
