package bucket

import (
	"crypto/cipher"
	"io"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// remoteTable reads a table that is in the bucket, by pages.
type remoteTable struct {
	c    *cache
	ref  ref
	size int64 // plaintext, bytes
	head []byte
	aead cipher.AEAD

	// What the last fetch was, to see that reads go on in sequence: the page
	// after it, and how many pages it was. Only hints.
	next, window atomic.Int64
}

func (c *cache) open(r ref, size int64) *remoteTable {
	h := header{kind: kindTable, epoch: r.epoch, size: size, salt: r.salt}
	return &remoteTable{c: c, ref: r, size: size, head: h.encode(), aead: h.aead(c.remote.key)}
}

func (r *remoteTable) forget() { r.c.forget(r.ref.salt) }

// pageSize is the plaintext of a page in bytes.
func (r *remoteTable) pageSize(p int64) int64 { return min(pageLen, r.size-p*pageLen) }

// readAt is io.ReaderAt.
func (r *remoteTable) readAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < r.size {
		page := off / pageLen
		plain, err := r.page(page)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], plain[off-page*pageLen:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// page is a page's plaintext, from where it is nearest.
func (r *remoteTable) page(p int64) ([]byte, error) {
	id := pageID{r.ref.salt, p}
	if plain := r.c.inMemory(id); plain != nil {
		return plain, nil
	}
	if plain := r.cached(p); plain != nil {
		r.c.remember(id, plain)
		return plain, nil
	}
	return r.fetch(p)
}

// cached is a page from the local disk, or nil where it is not there or does not
// verify.
func (r *remoteTable) cached(p int64) []byte {
	cf := r.c.file(r.ref.salt, false)
	if cf == nil {
		return nil
	}
	sealed := make([]byte, r.pageSize(p)+tagLen)
	if !cf.read(sealed, pageAt(p)) {
		return nil
	}
	plain, err := r.aead.Open(sealed[:0], nonce(p), sealed, r.head)
	if err != nil {
		return nil
	}
	r.c.count(func(s *cacheStats) { s.hits++ })
	return plain
}

// fetch gets a page from the bucket with others after it; who wants the same ones
// waits for it.
func (r *remoteTable) fetch(p int64) ([]byte, error) {
	id := pageID{r.ref.salt, p - p%fetchPages}
	fl, mine := r.c.flight(id)
	if mine {
		fl.pages, fl.err = r.get(id.page, r.ahead(id.page))
		r.c.land(id, fl)
	} else {
		<-fl.done
	}
	if fl.err != nil {
		return nil, fl.err
	}
	return fl.pages[p-fl.first], nil
}

// ahead is how many pages to fetch from p on: twice as many as the last time
// where this is the next.
func (r *remoteTable) ahead(p int64) int64 {
	n := int64(fetchPages)
	if r.next.Load() == p {
		n = min(max(2*r.window.Load(), fetchPages), maxFetchPages)
	}
	n = min(n, pages(r.size)-p)
	r.window.Store(max(n, fetchPages))
	r.next.Store(p + n)
	return n
}

// get reads n pages from p on out of the bucket, verifies them, and keeps them.
func (r *remoteTable) get(p, n int64) ([][]byte, error) {
	key := r.ref.table()
	last := p + n - 1
	buf := make([]byte, pageAt(last)+r.pageSize(last)+tagLen-pageAt(p))
	if err := r.c.get(key, buf, pageAt(p)); err != nil {
		return nil, err
	}
	out := make([][]byte, n)
	for i := range n {
		off := i * (pageLen + tagLen)
		sealed := buf[off : off+r.pageSize(p+i)+tagLen]
		plain, err := r.aead.Open(nil, nonce(p+i), sealed, r.head)
		if err != nil {
			r.c.count(func(s *cacheStats) { s.bad++ })
			return nil, r.c.remote.named(key, fsapi.Errorf(fsapi.Corrupt, "page %d does not verify", p+i))
		}
		out[i] = plain
		r.c.remember(pageID{r.ref.salt, p + i}, plain)
	}
	r.c.keep(r.ref.salt, buf, p)
	r.c.count(func(s *cacheStats) { s.fetched += n })
	return out, nil
}
