package meta

import (
	"bytes"
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

const chunkForm = 1

func appendChunk(b []byte, c *fsapi.Chunk) []byte {
	return putLoc(putUint(append(b, chunkForm), uint64(c.Len)), c.Loc)
}

const chunkKeyLen = volKeyLen + 32

// decodeChunk reads a chunk record; the id is in the key.
func decodeChunk(key, v []byte) (fsapi.Chunk, error) {
	var c fsapi.Chunk
	if len(key) != chunkKeyLen {
		return c, corrupt(key, "bad key")
	}
	copy(c.ID[:], key[volKeyLen:])
	d := dec{b: v}
	if d.byte() != chunkForm {
		return c, corrupt(key, "unknown form")
	}
	c.Len, c.Loc = d.u32(), d.loc()
	if !d.done() {
		return c, corrupt(key, "bad chunk")
	}
	return c, nil
}

func getChunk(r kv.Reader, key []byte) (fsapi.Chunk, bool, error) {
	v, ok, err := r.Get(key)
	if err != nil || !ok {
		return fsapi.Chunk{}, false, err
	}
	c, err := decodeChunk(key, v)
	return c, err == nil, err
}

// chunk reads a chunk record with tracking, so that a sweep which deletes it
// meanwhile conflicts with this transaction (D1).
func (tx *Tx) chunk(id *fsapi.ChunkID) (fsapi.Chunk, bool, error) {
	if f := tx.freshChunk(id); f != nil {
		return f.Chunk, true, nil
	}
	tx.key = chunkKey(tx.key, tabChunk, tx.vol, id)
	return getChunk(tx.r, tx.key)
}

// Chunk is a chunk's record: fsapi.NotExist where there is none.
func (s *Store) Chunk(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (fsapi.Chunk, error) {
	var c fsapi.Chunk
	err := s.e.View(ctx, func(r kv.Reader) error {
		var ok bool
		var err error
		c, ok, err = getChunk(r, chunkKey(make([]byte, 0, chunkKeyLen), tabChunk, vol, &id))
		if err == nil && !ok {
			err = &noChunk{id}
		}
		return err
	})
	return c, err
}

// noChunk is cheap to make: blob asks for each new chunk whether it is there.
type noChunk struct{ id fsapi.ChunkID }

func (n *noChunk) Error() string { return "chunk " + n.id.String() + " is not recorded" }
func (n *noChunk) Unwrap() error { return fsapi.NotExist }

// freshChunk is a chunk this transaction recorded, and whether it also made
// an extent of it.
type freshChunk struct {
	fsapi.Chunk
	used bool
}

// freshChunk finds what this transaction recorded of a chunk, or nil. Extents
// come in the order of their chunks.
func (tx *Tx) freshChunk(id *fsapi.ChunkID) *freshChunk {
	for i := range tx.fresh {
		at := tx.freshAt + i
		if at >= len(tx.fresh) {
			at -= len(tx.fresh)
		}
		if f := &tx.fresh[at]; f.ID == *id {
			tx.freshAt = at
			return f
		}
	}
	return nil
}

// refer counts extents of a chunk. A chunk that lost one may have none left,
// which the sweep finds out.
func (tx *Tx) refer(e *fsapi.Extent, n int64) {
	if e.Kind != fsapi.ExtentData || n == 0 {
		return
	}
	tx.key = chunkKey(tx.key, tabRefs, tx.vol, &e.Chunk)
	tx.w.Add(tx.key, n)
	if n < 0 {
		if !tx.hist.holds(&e.Chunk) {
			tx.doom(&e.Chunk)
		}
		return
	}
	if f := tx.freshChunk(&e.Chunk); f != nil {
		f.used = true
	}
}

// doom makes a chunk a candidate of the sweep.
func (tx *Tx) doom(id *fsapi.ChunkID) {
	tx.key = chunkKey(tx.key, tabSweep, tx.vol, id)
	tx.w.Put(tx.key, nil)
}

// doomFresh makes candidates of chunks that were recorded but not used, as
// happens when a file is truncated while its data is being stored.
func (tx *Tx) doomFresh() {
	for i := range tx.fresh {
		if f := &tx.fresh[i]; !f.used {
			tx.doom(&f.ID)
		}
	}
}

// Record records stored data's segments, chunks and journal frames. Extents
// are set with SetExtents, in the same transaction. A chunk that has a record
// already keeps it, unless what was stored anew is safer: it is not live then.
func (tx *Tx) Record(st *fsapi.Stored) error {
	if err := tx.writable(); err != nil {
		return err
	}
	for i := range st.Segments {
		putNewSegment(tx.w, &st.Segments[i])
	}
	frames := framesOf(st.Journal)
	for i := range st.Chunks {
		c := &st.Chunks[i]
		tx.key = chunkKey(tx.key, tabChunk, tx.vol, &c.ID)
		known, ok, err := getChunk(tx.r, tx.key)
		if err != nil {
			return err
		}
		var frame *fsapi.JournalFrame
		if c.Loc.Segment.IsJournal() {
			if frame = frames.find(c.Loc); frame == nil {
				return fsapi.Errorf(fsapi.Invalid, "chunk %s lies in the journal without a frame", c.ID)
			}
		}
		switch {
		case ok && frame != nil:
			if err := tx.safer(known, frame); err != nil {
				return err
			}
			continue
		case ok:
			continue
		case frame != nil:
			tx.putJournal(c.ID, frame)
		default:
			tx.key = segmentKey(tx.key, tabLive, c.Loc.Segment)
			tx.w.Add(tx.key, int64(c.Loc.Length))
		}
		tx.key = chunkKey(tx.key, tabChunk, tx.vol, &c.ID)
		tx.val = appendChunk(tx.val[:0], c)
		tx.w.Put(tx.key, tx.val)
		tx.fresh = append(tx.fresh, freshChunk{Chunk: *c})
	}
	for i := range st.Moves {
		if _, err := relocate(tx.w, tx.vol, &st.Moves[i]); err != nil {
			return err
		}
	}
	return nil
}

// Relocate records new segments and points chunk records that still lie at
// From to To, in one transaction; journal frames at From are deleted. Records
// that no longer lie at From are left alone. Result: how many moved. It is
// durable after Sync.
func (s *Store) Relocate(ctx context.Context, vol fsapi.VolumeID, segs []fsapi.Segment, moves []fsapi.Moved) (int, error) {
	moved := 0
	err := s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		moved = 0
		for i := range segs {
			putNewSegment(w, &segs[i])
		}
		for i := range moves {
			ok, err := relocate(w, vol, &moves[i])
			if err != nil {
				return err
			}
			if ok {
				moved++
			}
		}
		return nil
	})
	return moved, err
}

// relocate points a chunk's record to where its frame was written anew, if it
// still lies at m.From.
func relocate(w kv.Tx, vol fsapi.VolumeID, m *fsapi.Moved) (bool, error) {
	key := chunkKey(make([]byte, 0, chunkKeyLen), tabChunk, vol, &m.Chunk)
	c, ok, err := getChunk(w, key)
	if err != nil || !ok || c.Loc != m.From {
		return false, err
	}
	c.Loc = m.To
	w.Put(key, appendChunk(nil, &c))
	unplace(w, vol, m.From)
	w.Add(segmentKey(nil, tabLive, m.To.Segment), int64(m.To.Length))
	return true, nil
}

// unplace says that a frame is no longer live where it lies.
func unplace(w kv.Tx, vol fsapi.VolumeID, loc fsapi.Location) {
	if !loc.Segment.IsJournal() {
		w.Add(segmentKey(nil, tabLive, loc.Segment), -int64(loc.Length))
		return
	}
	w.Delete(journalKey(nil, vol, loc))
	w.Add(volKey(nil, tabJournalN, vol), -int64(loc.Length))
}

// sweepBatch bounds the chunks of one transaction of a sweep, so that it
// seldom conflicts with writers.
const sweepBatch = 256

// SweepChunks deletes up to max chunk records whose reference count fell to
// zero (and their journal frames); more says whether candidates are left.
func (s *Store) SweepChunks(ctx context.Context, max int) (swept int, more bool, err error) {
	more = true
	for more && swept < max && err == nil {
		var n int
		n, more, err = s.sweep(ctx, min(max-swept, sweepBatch))
		swept += n
	}
	return swept, more, err
}

func (s *Store) sweep(ctx context.Context, limit int) (swept int, more bool, err error) {
	err = s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		swept, more = 0, false
		var keys [][]byte
		err := w.PeekScan([]byte{tabSweep}, []byte{tabSweep + 1}, func(k, _ []byte) (bool, error) {
			if len(keys) == limit {
				more = true
				return false, nil
			}
			if len(k) != chunkKeyLen {
				return false, corrupt(k, "bad key")
			}
			keys = append(keys, bytes.Clone(k))
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, k := range keys {
			gone, err := sweepChunk(w, k)
			if err != nil {
				return err
			}
			if gone {
				swept++
			}
		}
		return nil
	})
	return swept, more, err
}

// sweepChunk deletes the chunk of a candidate key, if it has no references.
// The counter is read with tracking: a transaction that adds one meanwhile
// makes this one run again, and one that read the chunk's record in order to
// refer to it is made to run again by this one.
func sweepChunk(w kv.Tx, candidate []byte) (gone bool, err error) {
	vol := keyVolume(candidate)
	id := fsapi.ChunkID(candidate[volKeyLen:])
	refsKey := chunkKey(nil, tabRefs, vol, &id)
	refs, err := w.Counter(refsKey)
	if err != nil {
		return false, err
	}
	w.Delete(candidate)
	if refs != 0 {
		return false, nil
	}
	key := chunkKey(nil, tabChunk, vol, &id)
	c, ok, err := getChunk(w, key)
	if err != nil || !ok {
		return false, err
	}
	w.Delete(key)
	w.Delete(refsKey)
	unplace(w, vol, c.Loc)
	return true, nil
}
