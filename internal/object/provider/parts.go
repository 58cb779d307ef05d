package provider

import "sync"

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
