package bucket

import (
	"io"
	"sync"
)

// sealedTable is the object of a local table, as a body: pages are sealed as they
// are asked for, to the same bytes each time, and kept in the cache on the way.
type sealedTable struct {
	t *table
	r *remoteTable

	mu   sync.Mutex
	last int64  // the page in page; guarded by mu
	page []byte // sealed; nil: none yet; guarded by mu
}

var _ io.ReaderAt = (*sealedTable)(nil)

// ReadAt implements io.ReaderAt.
func (s *sealedTable) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		part, err := s.part(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], part)
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// part is the rest of the header or of the sealed page at off.
func (s *sealedTable) part(off int64) ([]byte, error) {
	if off < headerLen {
		return s.r.head[off:], nil
	}
	page := (off - headerLen) / (pageLen + tagLen)
	if page >= pages(s.r.size) {
		return nil, io.EOF
	}
	sealed, err := s.sealed(page)
	if err != nil {
		return nil, err
	}
	return sealed[off-pageAt(page):], nil
}

// sealed is a page as it is stored.
func (s *sealedTable) sealed(page int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.page != nil && s.last == page {
		return s.page, nil
	}
	plain := make([]byte, s.r.pageSize(page), s.r.pageSize(page)+tagLen)
	if n, err := s.t.readAt(plain, page*pageLen); n < len(plain) {
		return nil, err
	}
	s.last, s.page = page, s.r.aead.Seal(plain[:0], nonce(page), plain, s.r.head)
	s.r.c.keep(s.r.ref.salt, s.page, page)
	return s.page, nil
}
