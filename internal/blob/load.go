package blob

import (
	"context"
	"sync"

	"github.com/strakefs/strake/internal/blob/cache"
	"github.com/strakefs/strake/internal/fsapi"
)

// loads makes sure that a chunk wanted by several is fetched once.
type loads struct {
	mu sync.Mutex
	m  map[cache.Key]*load // guarded by mu
}

// load is a chunk being fetched.
type load struct {
	done chan struct{}
	err  error // after done
}

func (l *loads) has(k cache.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[k] != nil
}

// begin joins the load of a chunk, or starts it (mine).
func (l *loads) begin(k cache.Key) (ld *load, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ld = l.m[k]; ld != nil {
		return ld, false
	}
	ld = &load{done: make(chan struct{})}
	l.m[k] = ld
	return ld, true
}

// end wakes all who joined.
func (l *loads) end(k cache.Key, ld *load) {
	l.mu.Lock()
	delete(l.m, k)
	l.mu.Unlock()
	close(ld.done)
}

// load brings a chunk into the cache. Release it.
func (s *Store) load(ctx context.Context, k cache.Key, ext *fsapi.Extent) (*cache.Chunk, error) {
	for {
		if c := s.cache.Get(k); c != nil {
			return c, nil
		}
		ld, mine := s.loads.begin(k)
		if mine {
			return s.loadNow(ctx, k, ext, ld)
		}
		select {
		case <-ld.done:
		case <-ctx.Done():
			return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "read chunk "+ext.Chunk.String())
		}
		// The other's context may have ended, its extent may have been older
		// than ours, and the cache may have refused the chunk: only a real
		// success is shared.
		if c := s.cache.Get(k); c != nil {
			return c, nil
		}
		if ld.err == nil {
			return s.loadAlone(ctx, k, ext)
		}
	}
}

func (s *Store) loadNow(ctx context.Context, k cache.Key, ext *fsapi.Extent, ld *load) (*cache.Chunk, error) {
	c, err := s.loadAlone(ctx, k, ext)
	ld.err = err
	s.loads.end(k, ld)
	return c, err
}

// loadAlone fetches a chunk into a buffer that goes to the cache.
func (s *Store) loadAlone(ctx context.Context, k cache.Key, ext *fsapi.Extent) (*cache.Chunk, error) {
	buf := s.pool.Get(int(ext.ChunkLen))
	if err := s.fetch(ctx, k.Volume, ext, buf.B); err != nil {
		s.pool.Put(buf)
		return nil, err
	}
	return s.cache.Put(k, buf), nil
}

// loadAhead is loadAlone for somebody who will come.
func (s *Store) loadAhead(ctx context.Context, k cache.Key, ext *fsapi.Extent) error {
	buf := s.pool.Get(int(ext.ChunkLen))
	if err := s.fetch(ctx, k.Volume, ext, buf.B); err != nil {
		s.pool.Put(buf)
		return err
	}
	s.cache.PutAhead(k, buf)
	return nil
}
