package meta

import (
	"bytes"
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// JournalChunk is a journalled frame with the chunk it holds.
type JournalChunk struct {
	Chunk fsapi.ChunkID
	fsapi.JournalFrame
}

const (
	journalForm   = 2
	journalKeyLen = volKeyLen + 16 + 4
)

// appendJournal writes the value of a journal frame.
func appendJournal(b []byte, j *JournalChunk) []byte {
	b = append(append(b, journalForm), j.Chunk[:]...)
	b = putUint(putUint(b, uint64(j.Ino)), uint64(j.Off))
	b = putSpecs(b, j.Want)
	return append(putUint(b, uint64(j.Loc.Length)), j.Data...)
}

// decodeJournal reads a journal frame; Data aliases v.
func decodeJournal(key, v []byte) (JournalChunk, error) {
	var j JournalChunk
	if len(key) != journalKeyLen {
		return j, corrupt(key, "bad key")
	}
	copy(j.Loc.Segment[:], key[volKeyLen:])
	d := dec{b: key[volKeyLen+16:]}
	for range 4 {
		j.Loc.Offset = j.Loc.Offset<<8 | uint32(d.byte())
	}
	d = dec{b: v}
	if d.byte() != journalForm {
		return j, corrupt(key, "unknown form")
	}
	copy(j.Chunk[:], d.take(len(j.Chunk)))
	j.Ino, j.Off = fsapi.Ino(d.uint()), d.size()
	j.Want = d.specs()
	j.Loc.Length = d.u32()
	j.Data = d.rest()
	if !d.done() {
		return j, corrupt(key, "bad journal frame")
	}
	return j, nil
}

// putJournal keeps a chunk's sealed frame in the log.
func (tx *Tx) putJournal(id fsapi.ChunkID, f *fsapi.JournalFrame) {
	tx.key = journalKey(tx.key, tx.vol, f.Loc)
	tx.val = appendJournal(tx.val[:0], &JournalChunk{Chunk: id, JournalFrame: *f})
	tx.w.Put(tx.key, tx.val)
	tx.key = volKey(tx.key, tabJournalN, tx.vol)
	tx.w.Add(tx.key, int64(f.Loc.Length))
}

// safer makes a recorded chunk that is stored again, in the journal, take its
// place there where what there was of it is not as safe as is asked now. c is
// the chunk as it is recorded.
func (tx *Tx) safer(c fsapi.Chunk, f *fsapi.JournalFrame) error {
	have, err := tx.wanted(c.Loc)
	if err != nil || fsapi.Covers(have, f.Want) {
		return err
	}
	unplace(tx.w, tx.vol, c.Loc)
	c.Loc = f.Loc
	both := *f
	both.Want = fsapi.JoinCopies(f.Want, have)
	tx.putJournal(c.ID, &both)
	tx.key = chunkKey(tx.key, tabChunk, tx.vol, &c.ID)
	tx.val = appendChunk(tx.val[:0], &c)
	tx.w.Put(tx.key, tx.val)
	return nil
}

// wanted are the copies that what lies at a place should have; none where that is
// not known.
func (tx *Tx) wanted(loc fsapi.Location) ([]fsapi.CopySpec, error) {
	if !loc.Segment.IsJournal() {
		key := segmentKey(nil, tabSegment, loc.Segment)
		v, ok, err := tx.peek(key)
		if err != nil || !ok {
			return nil, err
		}
		seg, err := decodeSegment(key, v)
		return seg.Want, err
	}
	key := journalKey(nil, tx.vol, loc)
	v, ok, err := tx.peek(key)
	if err != nil || !ok {
		return nil, err
	}
	j, err := decodeJournal(key, v)
	return j.Want, err
}

// frameFinder finds frames by location. They usually come in the order they
// are asked for.
type frameFinder struct {
	list []fsapi.JournalFrame
	at   int
}

func framesOf(list []fsapi.JournalFrame) *frameFinder { return &frameFinder{list: list} }

func (f *frameFinder) find(loc fsapi.Location) *fsapi.JournalFrame {
	for range f.list {
		if f.at == len(f.list) {
			f.at = 0
		}
		j := &f.list[f.at]
		f.at++
		if j.Loc == loc {
			return j
		}
	}
	return nil
}

// JournalFrame is a sealed frame still in the log; fsapi.NotExist after it was
// packed or swept. The caller owns the slice.
func (s *Store) JournalFrame(ctx context.Context, vol fsapi.VolumeID, loc fsapi.Location) ([]byte, error) {
	var data []byte
	err := s.e.View(ctx, func(r kv.Reader) error {
		key := journalKey(nil, vol, loc)
		v, ok, err := r.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fsapi.Errorf(fsapi.NotExist, "frame %d of journal segment %s is no longer in the log", loc.Offset, loc.Segment)
		}
		j, err := decodeJournal(key, v)
		data = bytes.Clone(j.Data)
		return err
	})
	return data, err
}

// JournalFrames lists up to max journalled frames of a volume, oldest first,
// until they hold maxBytes (0: no bound). The caller owns the slices.
func (s *Store) JournalFrames(ctx context.Context, vol fsapi.VolumeID, max int, maxBytes int64) ([]JournalChunk, error) {
	var list []JournalChunk
	err := s.e.View(ctx, func(r kv.Reader) error {
		list = nil
		var bytesHeld int64
		from := volKey(nil, tabJournal, vol)
		return r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
			if len(list) >= max || maxBytes > 0 && bytesHeld >= maxBytes {
				return false, nil
			}
			j, err := decodeJournal(k, v)
			if err != nil {
				return false, err
			}
			j.Data = bytes.Clone(j.Data)
			bytesHeld += int64(len(j.Data))
			list = append(list, j)
			return true, nil
		})
	})
	return list, err
}

// JournalBytes is how many bytes of frames the logs of all volumes hold.
func (s *Store) JournalBytes(ctx context.Context) (int64, error) {
	var sum int64
	err := s.e.View(ctx, func(r kv.Reader) error {
		sum = 0
		return r.Scan([]byte{tabJournalN}, []byte{tabJournalN + 1}, func(_, v []byte) (bool, error) {
			sum += kv.DecodeCounter(v)
			return true, nil
		})
	})
	return sum, err
}
