package blobtest

import (
	"context"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
)

// Keys are the same for all volumes.
type Keys struct {
	Cipher fsapi.Cipher
}

var _ blob.Keys = Keys{}

func key(b byte) []byte {
	k := make([]byte, 32)
	for i := range k {
		k[i] = b + byte(i)
	}
	return k
}

// Current is blob.Keys'.
func (k Keys) Current(fsapi.VolumeID) (fsapi.KeyVersion, fsapi.Cipher, error) {
	if k.Cipher == fsapi.CipherNone {
		return 0, k.Cipher, nil
	}
	return 1, k.Cipher, nil
}

// DataKey is blob.Keys'.
func (k Keys) DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error) {
	if v != 1 {
		return nil, fsapi.Errorf(fsapi.NotExist, "volume %d has no key version %d", vol, v)
	}
	return key(1), nil
}

// IDKey is blob.Keys'.
func (k Keys) IDKey(fsapi.VolumeID) ([]byte, error) {
	if k.Cipher == fsapi.CipherNone {
		return nil, nil
	}
	return key(2), nil
}

// StoreKey is blob.Keys'.
func (k Keys) StoreKey() []byte {
	if k.Cipher == fsapi.CipherNone {
		return nil
	}
	return key(3)
}

// ChunkName names a chunk of a volume.
type ChunkName struct {
	Volume fsapi.VolumeID
	Chunk  fsapi.ChunkID
}

// Index is blob.Index in memory. Safe for concurrent use; the maps are guarded
// by Mu.
type Index struct {
	Mu       sync.Mutex
	Chunks   map[ChunkName]fsapi.Chunk
	Segs     map[fsapi.SegmentID]fsapi.Segment
	Journal  map[fsapi.Location][]byte
	JournalV map[fsapi.Location]fsapi.VolumeID // whose frames they are
}

var _ blob.Index = (*Index)(nil)

// NewIndex makes an empty index.
func NewIndex() *Index {
	return &Index{
		Chunks: make(map[ChunkName]fsapi.Chunk), Segs: make(map[fsapi.SegmentID]fsapi.Segment),
		Journal: make(map[fsapi.Location][]byte), JournalV: make(map[fsapi.Location]fsapi.VolumeID),
	}
}

// Record records what a batch stored.
func (x *Index) Record(vol fsapi.VolumeID, st *fsapi.Stored) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	for _, s := range st.Segments {
		x.Segs[s.ID] = s
	}
	for _, c := range st.Chunks {
		if _, ok := x.Chunks[ChunkName{vol, c.ID}]; !ok {
			x.Chunks[ChunkName{vol, c.ID}] = c
		}
	}
	for _, m := range st.Moves {
		if c, ok := x.Chunks[ChunkName{vol, m.Chunk}]; ok && c.Loc == m.From {
			c.Loc = m.To
			x.Chunks[ChunkName{vol, m.Chunk}] = c
		}
	}
	for _, f := range st.Journal {
		x.Journal[f.Loc], x.JournalV[f.Loc] = slices.Clone(f.Data), vol
	}
}

// Chunk is blob.Index's.
func (x *Index) Chunk(_ context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	c, ok := x.Chunks[ChunkName{vol, id}]
	if !ok {
		return c, fsapi.Errorf(fsapi.NotExist, "no chunk %v", id)
	}
	return c, nil
}

// Segment is blob.Index's.
func (x *Index) Segment(_ context.Context, id fsapi.SegmentID) (fsapi.Segment, error) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	s, ok := x.Segs[id]
	if !ok {
		return s, fsapi.Errorf(fsapi.NotExist, "no segment %v", id)
	}
	return s, nil
}

// JournalFrame is blob.Index's.
func (x *Index) JournalFrame(_ context.Context, _ fsapi.VolumeID, loc fsapi.Location) ([]byte, error) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	d, ok := x.Journal[loc]
	if !ok {
		return nil, fsapi.Errorf(fsapi.NotExist, "no journal frame %v", loc)
	}
	return slices.Clone(d), nil
}
