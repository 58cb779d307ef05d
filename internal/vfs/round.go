package vfs

import (
	"context"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// rounds lets concurrent barriers of small files share one flight, its
// transaction and one flush of the log: while a round is served, those who come
// gather for the next, which one of them serves for all.
type rounds struct {
	mu     sync.Mutex
	serves bool   // a round is being served, or handed to who will; guarded by mu
	next   *round // gathers; nil: nobody waits; guarded by mu
}

// round is the barriers that are served together.
type round struct {
	nodes []*node       // each once; guarded by rounds.mu until the round is served
	lead  chan struct{} // of one: who takes the token serves the round
	done  chan struct{} // closed when served; what follows is valid then
	left  []*node       // whose callers must do it alone
	err   error         // of the flush of the log
}

// join puts n into a round; leads says that the caller must serve it.
func (rs *rounds) join(n *node) (r *round, leads bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !rs.serves {
		rs.serves = true
		return newRound(n), true
	}
	if rs.next == nil {
		rs.next = newRound(n)
	} else if !slices.Contains(rs.next.nodes, n) {
		rs.next.nodes = append(rs.next.nodes, n)
	}
	return rs.next, false
}

func newRound(n *node) *round {
	return &round{nodes: []*node{n}, lead: make(chan struct{}, 1), done: make(chan struct{})}
}

// begin ends the gathering for r.
func (rs *rounds) begin(r *round) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.next == r {
		rs.next = nil
	}
}

// end hands the next round to one of those in it.
func (rs *rounds) end() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.serves = rs.next != nil
	if rs.serves {
		rs.next.lead <- struct{}{}
	}
}

// syncTogether makes n durable together with what others ask for. done is false
// where the caller must do it alone: n is large, or being flushed, or the flight
// failed, for which its nodes are then tried one by one, or who served the round
// waits no more. It is called without any lock, as whoever serves the round takes
// those of all its nodes. A caller whose ctx ends leaves what he waits for to others.
func (fs *Local) syncTogether(ctx context.Context, n *node) (done bool, err error) {
	r, leads := fs.rounds.join(n)
	if !leads {
		select {
		case <-r.done:
			return r.result(n)
		case <-r.lead:
		case <-ctx.Done(): // if the token comes now, whoever joins next finds it
			return true, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for others that make files durable")
		}
	}
	fs.rounds.begin(r)
	defer func() {
		close(r.done)
		fs.rounds.end()
	}()
	fs.serve(ctx, r)
	return r.result(n)
}

func (r *round) result(n *node) (done bool, err error) {
	if r.err == nil && slices.Contains(r.left, n) {
		return false, nil
	}
	return true, r.err
}

// roundFlight bounds the dirty bytes of several nodes in one flight of a round,
// so that their frames are journalled as those of each alone would be.
const roundFlight = 256 << 10

// serve stores the nodes of a round and flushes the log, which may take as long as a
// bucket is away: for as long as ctx allows.
func (fs *Local) serve(ctx context.Context, r *round) {
	g := gatherer{fs: fs, max: roundFlight, alone: true, failed: func(f *flight) {
		for _, l := range f.legs {
			r.left = append(r.left, l.n)
		}
	}}
	for _, n := range r.nodes {
		if !g.board(n) {
			r.left = append(r.left, n)
		}
	}
	g.flush()
	if len(r.left) == len(r.nodes) {
		return
	}
	if r.err = fs.o.Meta.Sync(ctx); r.err != nil && ctx.Err() != nil {
		r.left, r.err = r.nodes, nil // it was not for the others that it ended
	}
}
