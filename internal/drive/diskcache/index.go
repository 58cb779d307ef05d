package diskcache

import "container/list"

// index is which pages there are and which is to go: S3-FIFO (Yang et al., "FIFO
// Queues Are All You Need for Cache Eviction", SOSP 2023). What comes first goes
// to a small queue, and from there to the main one only if it was read again: so
// what is read once, however much, leaves the main queue alone. It is not safe
// for concurrent use.
type index struct {
	limit       int64 // bytes
	bytes       int64
	smallBytes  int64
	blobs       map[blobKey]map[uint32]*page
	small, main *list.List // of *page, the newest in front
	ghosts      map[key]*list.Element
	ghostOrder  *list.List // of key, the newest in front
	maxGhosts   int
}

// page is an entry of the index.
type page struct {
	key   key
	nonce uint64
	fresh bool  // its blob is not committed yet; such a page is not in the index
	size  int64 // bytes of the file
	at    *list.Element
	small bool
	again uint8  // times it was read again, at most maxAgain
	seen  uint32 // bytes of it from the start that were read: to read on is not to read again
}

const (
	maxAgain  = 3
	smallPart = 10 // the small queue has 1/smallPart of the bytes
)

func newIndex(limit int64, pageSize int) *index {
	return &index{
		limit: limit, blobs: make(map[blobKey]map[uint32]*page), small: list.New(), main: list.New(),
		ghosts: make(map[key]*list.Element), ghostOrder: list.New(), maxGhosts: int(min(max(limit/int64(pageSize), 16), 1<<20)),
	}
}

func (x *index) get(k key) *page { return x.blobs[k.blob][k.page] }

// touch takes note of a read of [from, to) of a page.
func (p *page) touch(from, to int) {
	if uint32(from) < p.seen {
		p.again = min(p.again+1, maxAgain)
	}
	p.seen = max(p.seen, uint32(to))
}

// add puts a page in, and returns those that go for it. keep: to the main queue,
// whatever its past.
func (x *index) add(p *page, keep bool) (out []*page) {
	if old := x.get(p.key); old != nil {
		x.remove(old)
	}
	g := x.ghosts[p.key]
	if g != nil {
		x.ghostOrder.Remove(g)
		delete(x.ghosts, p.key)
	}
	x.push(p, !keep && g == nil)
	m := x.blobs[p.key.blob]
	if m == nil {
		m = make(map[uint32]*page)
		x.blobs[p.key.blob] = m
	}
	m[p.key.page] = p
	x.bytes += p.size
	for x.bytes > x.limit {
		out = append(out, x.evict())
	}
	return out
}

func (x *index) push(p *page, small bool) {
	p.small, p.again = small, 0
	if small {
		p.at = x.small.PushFront(p)
		x.smallBytes += p.size
	} else {
		p.at = x.main.PushFront(p)
	}
}

func (x *index) unlink(p *page) {
	if p.small {
		x.small.Remove(p.at)
		x.smallBytes -= p.size
	} else {
		x.main.Remove(p.at)
	}
}

// remove takes a page out.
func (x *index) remove(p *page) {
	x.unlink(p)
	x.bytes -= p.size
	m := x.blobs[p.key.blob]
	if delete(m, p.key.page); len(m) == 0 {
		delete(x.blobs, p.key.blob)
	}
}

// evict takes out the page whose turn it is. There must be one.
func (x *index) evict() *page {
	for {
		if x.small.Len() > 0 && (x.smallBytes > x.limit/smallPart || x.main.Len() == 0) {
			p := x.small.Back().Value.(*page)
			if p.again == 0 {
				x.remove(p)
				x.haunt(p.key)
				return p
			}
			x.unlink(p)
			x.push(p, false)
			continue
		}
		p := x.main.Back().Value.(*page)
		if p.again == 0 {
			x.remove(p)
			return p
		}
		p.again--
		x.main.MoveToFront(p.at)
	}
}

// haunt remembers a page that went unread: if it comes again it is wanted.
func (x *index) haunt(k key) {
	x.ghosts[k] = x.ghostOrder.PushFront(k)
	if x.ghostOrder.Len() > x.maxGhosts {
		old := x.ghostOrder.Remove(x.ghostOrder.Back()).(key)
		delete(x.ghosts, old)
	}
}

// blob takes out the pages of a blob.
func (x *index) blob(b blobKey) (out []*page) {
	for _, p := range x.blobs[b] {
		out = append(out, p)
	}
	for _, p := range out {
		x.remove(p)
	}
	return out
}
