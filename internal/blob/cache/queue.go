package cache

// queue is a FIFO of chunks in a ring that grows.
type queue struct {
	ring  []*Chunk
	head  int
	n     int
	bytes int64 // of buffers
}

func (q *queue) push(e *Chunk) {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)%len(q.ring)] = e
	q.n++
	q.bytes += size(e)
}

// pop is the oldest, or nil.
func (q *queue) pop() *Chunk {
	if q.n == 0 {
		return nil
	}
	e := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.bytes -= size(e)
	return e
}

func (q *queue) grow() {
	ring := make([]*Chunk, max(16, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

// ghosts are hashes of keys that left the small queue, the oldest forgotten
// first.
type ghosts struct {
	set  map[uint64]int // hash to how often it is in fifo
	fifo []uint64
}

// add remembers h and keeps at most limit (no fewer than 64).
func (g *ghosts) add(h uint64, limit int) {
	g.fifo = append(g.fifo, h)
	g.set[h]++
	for len(g.fifo) > max(limit, 64) {
		g.forget(g.fifo[0])
		g.fifo = g.fifo[1:]
	}
}

// take reports whether h is remembered.
func (g *ghosts) take(h uint64) bool { return g.set[h] > 0 }

func (g *ghosts) forget(h uint64) {
	if g.set[h]--; g.set[h] <= 0 {
		delete(g.set, h)
	}
}
