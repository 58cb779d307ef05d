package blob

import (
	"github.com/strakefs/strake/internal/blob/cache"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxPrefetches bounds the chunks being prefetched at a time.
const maxPrefetches = 64

// Prefetch starts loading the chunks of extents into the cache, in order, as
// many as Options.Prefetch bytes allow at a time; it does not block, and leaves
// out the rest.
func (s *Store) Prefetch(vol fsapi.VolumeID, exts []fsapi.Extent) {
	for i := range exts {
		e := exts[i]
		k := cache.Key{Volume: vol, Chunk: e.Chunk}
		if e.Kind != fsapi.ExtentData || s.cache.Has(k) || s.loads.has(k) {
			continue
		}
		if !s.beginPrefetch(int64(e.ChunkLen)) {
			return
		}
		started := s.background(func() {
			defer s.endPrefetch(int64(e.ChunkLen))
			c, err := s.load(s.ctx, k, &e)
			if err == nil { // a reader will meet the error himself
				s.stats.prefetched.Add(1)
				c.Release()
			}
		})
		if !started {
			s.endPrefetch(int64(e.ChunkLen))
			return
		}
	}
}

func (s *Store) beginPrefetch(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prefetch+n > s.o.Prefetch {
		return false
	}
	select {
	case s.prefetches <- struct{}{}:
		s.prefetch += n
		return true
	default:
		return false
	}
}

func (s *Store) endPrefetch(n int64) {
	s.mu.Lock()
	s.prefetch -= n
	s.mu.Unlock()
	<-s.prefetches
}
