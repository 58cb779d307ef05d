package blob

import "sync/atomic"

// Stats are counters since New. All but the two Cache gauges at the end only
// grow.
type Stats struct {
	ChunksAdded  uint64 // chunks cut, duplicates and zeros included
	BytesAdded   uint64 // their plaintext bytes
	ChunksDup    uint64 // found as duplicates
	BytesDup     uint64 // their plaintext bytes
	BytesZero    uint64 // left out as holes
	FramesSealed uint64
	BytesSealed  uint64 // bytes of new frames
	BytesJournal uint64 // of these, in the journal
	BytesInline  uint64 // of these, inline
	Segments     uint64 // made durable
	SegmentBytes uint64 // written to drives, each replica counted
	WriteFails   uint64 // replicas that failed while they were written
	FramesRead   uint64 // read from drives or the journal and decoded
	BytesRead    uint64 // their bytes as stored
	BytesServed  uint64 // given to readers
	CacheHits    uint64
	CacheMisses  uint64
	Prefetched   uint64 // chunks
	BadReplicas  uint64
	Repaired     uint64
	CacheBytes   int64 // now in the cache
	CacheChunks  int64
}

// counters are Stats while they grow.
type counters struct {
	chunksAdded, bytesAdded, chunksDup, bytesDup, bytesZero atomic.Uint64
	framesSealed, bytesSealed, bytesJournal, bytesInline    atomic.Uint64
	segments, segmentBytes, writeFails                      atomic.Uint64
	framesRead, bytesRead, bytesServed                      atomic.Uint64
	cacheHits, cacheMisses, prefetched                      atomic.Uint64
	badReplicas, repaired                                   atomic.Uint64
}

// Stats reads the counters.
func (s *Store) Stats() Stats {
	c := &s.stats
	bytes, chunks := s.cache.Size()
	return Stats{
		ChunksAdded: c.chunksAdded.Load(), BytesAdded: c.bytesAdded.Load(),
		ChunksDup: c.chunksDup.Load(), BytesDup: c.bytesDup.Load(), BytesZero: c.bytesZero.Load(),
		FramesSealed: c.framesSealed.Load(), BytesSealed: c.bytesSealed.Load(),
		BytesJournal: c.bytesJournal.Load(), BytesInline: c.bytesInline.Load(),
		Segments: c.segments.Load(), SegmentBytes: c.segmentBytes.Load(), WriteFails: c.writeFails.Load(),
		FramesRead: c.framesRead.Load(), BytesRead: c.bytesRead.Load(), BytesServed: c.bytesServed.Load(),
		CacheHits: c.cacheHits.Load(), CacheMisses: c.cacheMisses.Load(), Prefetched: c.prefetched.Load(),
		BadReplicas: c.badReplicas.Load(), Repaired: c.repaired.Load(),
		CacheBytes: bytes, CacheChunks: chunks,
	}
}
