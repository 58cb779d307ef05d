package meta

import (
	"math"

	"github.com/strakefs/strake/internal/fsapi"
)

// chunkSlice is how many chunks' references are counted in memory at once
// (some 60 bytes each); a volume with more has its extents read several times.
const chunkSlice = 1 << 20

// extents checks the extents of each file against each other and the file.
func (c *check) extents() error {
	var ino fsapi.Ino
	var at, used, content int64
	end := func() error {
		if ino == 0 {
			return nil
		}
		return c.file(ino, at, used, content)
	}
	err := c.table(tabExtent, extentKeyLen, func(k, v []byte) error {
		if n := keyIno(k); n != ino {
			if err := end(); err != nil {
				return err
			}
			ino, at, used, content = n, 0, 0, 0
		}
		e, err := decodeExtent(k, v)
		if err != nil {
			return c.damaged(err)
		}
		if e.Off < at {
			c.bad(ProblemExtent, nil, "inode %d: the extent from %d to %d overlaps the one before it", ino, e.Off, e.End())
		}
		at = e.End()
		used += e.Len
		if e.Kind != fsapi.ExtentUnwritten {
			content = at
		}
		if e.Kind != fsapi.ExtentData {
			return nil
		}
		return c.extentChunk(ino, &e)
	})
	if err != nil {
		return err
	}
	return end()
}

// cutOff removes what a file has beyond its end.
func cutOff(ino fsapi.Ino) func(tx *Tx) error {
	return func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		if _, err := tx.TruncateExtents(in, in.Size, math.MaxInt); err != nil {
			return err
		}
		return tx.SetInode(in)
	}
}

// extentChunk checks that the chunk of an extent is there.
func (c *check) extentChunk(ino fsapi.Ino, e *fsapi.Extent) error {
	ch, ok, err := c.tx.chunk(&e.Chunk)
	switch {
	case err != nil:
		return c.damaged(err)
	case !ok:
		c.bad(ProblemExtent, nil, "inode %d: chunk %s of the extent from %d to %d is not recorded: these bytes are lost", ino, e.Chunk, e.Off, e.End())
	case ch.Len != e.ChunkLen:
		c.bad(ProblemExtent, nil, "inode %d: the extent from %d to %d takes chunk %s for %d bytes long; it has %d", ino, e.Off, e.End(), e.Chunk, e.ChunkLen, ch.Len)
	}
	return nil
}

// file compares Used with what the extents, the last of which ends at size,
// add up to, and the file's end with that of its content.
func (c *check) file(ino fsapi.Ino, size, used, content int64) error {
	in, err := c.tx.load(ino)
	switch {
	case err == nil && c.tx.past && in.Nlink == 0: // as in belongings
	case err == nil && in.Type != fsapi.TypeRegular:
		c.bad(ProblemExtent, nil, "inode %d is no regular file and has extents", ino)
	case err == nil && content > in.Size && !c.tx.past:
		c.bad(ProblemExtent, cutOff(ino), "inode %d ends at %d and has content up to %d, which it would show if it grew", ino, in.Size, content)
	case err == nil && in.Used != used:
		c.bad(ProblemUsed, c.fix(ino, func(in *Inode) { in.Used = used }), "inode %d has extents of %d bytes and says %d", ino, used, in.Used)
	case err == nil:
	case fsapi.KindOf(err) != fsapi.Stale:
		return c.damaged(err)
	case c.tx.past: // it was waiting to be reclaimed
	default:
		key := inoKey(nil, tabReclaim, c.tx.vol, ino)
		waiting, err := c.there(key)
		if err != nil {
			return err
		}
		if !waiting {
			c.bad(ProblemExtent, refound(ino, fsapi.TypeRegular, size, used), "inode %d, which is not there, has extents", ino)
		}
	}
	return nil
}

// chunks compares reference counts with extents, and where chunks lie with
// what is live in segments and the journal. It goes by slices of the space of
// ids, so that each slice's counts fit in memory.
func (c *check) chunks() error {
	n, err := c.count(volKey(nil, tabChunk, c.tx.vol))
	if err != nil {
		return err
	}
	slices := min(uint64(n)/chunkSlice+1, 1<<16)
	live := map[fsapi.SegmentID]int64{}
	for i := range slices {
		lo, hi := i<<16/slices, (i+1)<<16/slices
		refs, err := c.references(lo, hi)
		if err != nil {
			return err
		}
		if err := c.slice(lo, hi, refs, live); err != nil {
			return err
		}
	}
	return c.live(live)
}

func prefix16(id *fsapi.ChunkID) uint64 { return uint64(id[0])<<8 | uint64(id[1]) }

// references counts the extents of chunks whose ids start with lo to hi-1.
func (c *check) references(lo, hi uint64) (map[fsapi.ChunkID]int64, error) {
	refs := map[fsapi.ChunkID]int64{}
	err := c.eachReference(func(e *fsapi.Extent) {
		if p := prefix16(&e.Chunk); p >= lo && p < hi {
			refs[e.Chunk]++
		}
	})
	return refs, err
}

// slice checks the chunk records and counters of a range of ids.
func (c *check) slice(lo, hi uint64, refs map[fsapi.ChunkID]int64, live map[fsapi.SegmentID]int64) error {
	err := c.chunkRange(tabChunk, lo, hi, func(k, v []byte) error {
		ch, err := decodeChunk(k, v)
		if err != nil {
			return c.damaged(err)
		}
		if err := c.place(&ch, live); err != nil {
			return err
		}
		want := refs[ch.ID]
		if err := c.counter(ProblemRefs, chunkKey(nil, tabRefs, c.tx.vol, &ch.ID), want, "references to chunk "+ch.ID.String()); err != nil || want > 0 {
			return err
		}
		key := chunkKey(nil, tabSweep, c.tx.vol, &ch.ID)
		ok, err := c.there(key)
		if err == nil && !ok {
			c.bad(ProblemIndex, putKey(key), "chunk %s has no references and does not wait to be swept", ch.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.chunkRange(tabRefs, lo, hi, func(k, _ []byte) error {
		id := fsapi.ChunkID(k[volKeyLen:])
		_, ok, err := c.tx.chunk(&id)
		if err != nil || ok {
			return nil // damaged: reported before
		}
		return c.counter(ProblemRefs, k, refs[id], "references to chunk "+id.String()+", which is not recorded,")
	})
}

func (c *check) chunkRange(tab byte, lo, hi uint64, fn func(k, v []byte) error) error {
	from := append(volKey(nil, tab, c.tx.vol), byte(lo>>8), byte(lo))
	to := append(volKey(nil, tab, c.tx.vol), byte(hi>>8), byte(hi))
	if hi == 1<<16 {
		to = after(nil, volKey(nil, tab, c.tx.vol))
	}
	return c.tx.r.Scan(from, to, func(k, v []byte) (bool, error) {
		if err := c.tick(); err != nil {
			return false, err
		}
		if len(k) != chunkKeyLen {
			c.bad(ProblemDamaged, nil, "%v", corrupt(k, "bad key"))
			return true, nil
		}
		return true, fn(k, v)
	})
}

// place checks where a chunk lies.
func (c *check) place(ch *fsapi.Chunk, live map[fsapi.SegmentID]int64) error {
	if !ch.Loc.Segment.IsJournal() {
		live[ch.Loc.Segment] += int64(ch.Loc.Length)
		return nil
	}
	ok, err := c.there(journalKey(nil, c.tx.vol, ch.Loc))
	if err == nil && !ok {
		c.bad(ProblemChunk, nil, "chunk %s should be frame %d of journal segment %s, which is not there", ch.ID, ch.Loc.Offset, ch.Loc.Segment)
	}
	return err
}

// live compares the counters of segments with what lies in them.
func (c *check) live(live map[fsapi.SegmentID]int64) error {
	err := c.tx.r.Scan([]byte{tabSegment}, []byte{tabSegment + 1}, func(k, v []byte) (bool, error) {
		if err := c.tick(); err != nil {
			return false, err
		}
		seg, err := decodeSegment(k, v)
		if err != nil {
			return true, c.damaged(err)
		}
		if seg.Volume != c.tx.vol {
			return true, nil
		}
		want := live[seg.ID]
		delete(live, seg.ID)
		if want > seg.Payload {
			c.bad(ProblemChunk, nil, "segment %s has %d bytes of frames and chunks claim %d", seg.ID, seg.Payload, want)
		}
		if err := c.pending(&seg); err != nil {
			return false, err
		}
		return true, c.counter(ProblemLive, segmentKey(nil, tabLive, seg.ID), want, "what is live in segment "+seg.ID.String())
	})
	if err != nil {
		return err
	}
	for id, n := range live {
		c.bad(ProblemChunk, nil, "chunks of %d bytes lie in segment %s, which is not recorded", n, id)
	}
	return nil
}

// pending checks that a segment whose copies are not those it should have, and
// only such a one, has a pending entry.
func (c *check) pending(seg *fsapi.Segment) error {
	key := segmentKey(nil, tabPending, seg.ID)
	has, err := c.there(key)
	if err != nil {
		return err
	}
	switch due := !seg.Settled() && seg.Condemned.IsZero(); {
	case due && !has:
		p := Pending{Segment: seg.ID, Size: seg.Size, Since: seg.Created, Next: seg.Created}
		c.bad(ProblemIndex, func(tx *Tx) error {
			putPending(tx.w, &p)
			return nil
		}, "segment %s has not the copies it should have, and nothing is pending", seg.ID)
	case !due && has:
		c.bad(ProblemIndex, deleteKey(key), "segment %s has the copies it should have, and an entry says that some are pending", seg.ID)
	}
	return nil
}

// journal checks the frames in the log and their sum.
func (c *check) journal() error {
	var sum int64
	err := c.table(tabJournal, journalKeyLen, func(k, v []byte) error {
		j, err := decodeJournal(k, v)
		if err != nil {
			return c.damaged(err)
		}
		sum += int64(j.Loc.Length)
		ch, ok, err := c.tx.chunk(&j.Chunk)
		if err != nil {
			return c.damaged(err)
		}
		if !ok || ch.Loc != j.Loc {
			loc := j.Loc
			c.bad(ProblemIndex, func(tx *Tx) error {
				unplace(tx.w, tx.vol, loc)
				return nil
			}, "frame %d of journal segment %s belongs to no chunk", j.Loc.Offset, j.Loc.Segment)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.counter(ProblemLive, volKey(nil, tabJournalN, c.tx.vol), sum, "what the journal holds")
}
