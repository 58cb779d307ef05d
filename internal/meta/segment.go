package meta

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

const (
	segmentForm   = 2
	segmentKeyLen = 1 + 16
)

func appendSegment(b []byte, s *fsapi.Segment) []byte {
	b = putUint(append(b, segmentForm), uint64(s.Volume))
	b = putUint(b, uint64(s.Size))
	b = putUint(b, uint64(s.Payload))
	b = putUint(b, uint64(s.Frames))
	b = putTime(b, 0, s.Created)
	b = putSpecs(b, s.Want)
	b = putUint(b, uint64(len(s.Copies)))
	for i := range s.Copies {
		b = putCopyPlace(b, &s.Copies[i])
	}
	return putMoment(b, s.Condemned)
}

// decodeSegment reads a segment record; the id is in the key.
func decodeSegment(key, v []byte) (fsapi.Segment, error) {
	var s fsapi.Segment
	if len(key) != segmentKeyLen {
		return s, corrupt(key, "bad key")
	}
	copy(s.ID[:], key[1:])
	d := dec{b: v}
	if d.byte() != segmentForm {
		return s, corrupt(key, "unknown form")
	}
	s.Volume = fsapi.VolumeID(d.u32())
	s.Size, s.Payload, s.Frames = d.size(), d.size(), d.u32()
	s.Created = d.time(0)
	s.Want = d.specs()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		s.Copies = append(s.Copies, d.copyPlace())
	}
	s.Condemned = d.moment()
	if !d.done() {
		return s, corrupt(key, "bad segment")
	}
	return s, nil
}

func putSegment(w kv.Tx, s *fsapi.Segment) {
	w.Put(segmentKey(nil, tabSegment, s.ID), appendSegment(nil, s))
}

// putNewSegment records a segment, and what it is owed.
func putNewSegment(w kv.Tx, s *fsapi.Segment) {
	putSegment(w, s)
	if !s.Settled() {
		putPending(w, &Pending{Segment: s.ID, Size: s.Size, Since: s.Created, Next: s.Created})
	}
}

func getSegment(r kv.Reader, id fsapi.SegmentID) (fsapi.Segment, error) {
	key := segmentKey(nil, tabSegment, id)
	v, ok, err := r.Get(key)
	if err != nil {
		return fsapi.Segment{}, err
	}
	if !ok {
		return fsapi.Segment{}, fsapi.Errorf(fsapi.NotExist, "segment %s is not recorded", id)
	}
	return decodeSegment(key, v)
}

// Segment is a segment's record: fsapi.NotExist where there is none.
func (s *Store) Segment(ctx context.Context, id fsapi.SegmentID) (fsapi.Segment, error) {
	var seg fsapi.Segment
	err := s.e.View(ctx, func(r kv.Reader) (err error) {
		seg, err = getSegment(r, id)
		return err
	})
	return seg, err
}

// segmentPage is how many segments Segments reads at once, so that fn may take
// its time without holding a snapshot.
const segmentPage = 256

// Segments calls fn for stored segments after `after` in order of id until fn
// returns false. It reads them in pages, each from a snapshot of its own.
func (s *Store) Segments(ctx context.Context, afterID fsapi.SegmentID, fn func(SegmentUse) bool) error {
	for {
		page, err := s.segments(ctx, afterID)
		if err != nil {
			return err
		}
		for _, u := range page {
			if !fn(u) {
				return nil
			}
		}
		if len(page) < segmentPage {
			return nil
		}
		afterID = page[len(page)-1].ID
	}
}

func (s *Store) segments(ctx context.Context, afterID fsapi.SegmentID) ([]SegmentUse, error) {
	var page []SegmentUse
	err := s.e.View(ctx, func(r kv.Reader) error {
		page = page[:0]
		from := append(segmentKey(nil, tabSegment, afterID), 0)
		if afterID.IsZero() {
			from = []byte{tabSegment}
		}
		err := r.Scan(from, []byte{tabSegment + 1}, func(k, v []byte) (bool, error) {
			seg, err := decodeSegment(k, v)
			page = append(page, SegmentUse{Segment: seg})
			return len(page) < segmentPage, err
		})
		for i := range page {
			if err != nil {
				return err
			}
			page[i].Live, err = r.Counter(segmentKey(nil, tabLive, page[i].ID))
		}
		return err
	})
	return page, err
}

// Condemn stamps a segment in which nothing is live: fsapi.Busy where
// something is, NotExist. A segment that has a stamp keeps it.
func (s *Store) Condemn(ctx context.Context, id fsapi.SegmentID) error {
	return s.changeSegment(ctx, id, func(w kv.Tx, seg *fsapi.Segment) (bool, error) {
		live, err := w.Counter(segmentKey(nil, tabLive, id))
		if err != nil {
			return false, err
		}
		if live != 0 {
			return false, fsapi.Errorf(fsapi.Busy, "segment %s holds %d live bytes", id, live)
		}
		if !seg.Condemned.IsZero() {
			return false, nil
		}
		seg.Condemned = s.now()
		w.Delete(segmentKey(nil, tabPending, id)) // nobody copies what is to go
		return true, nil
	})
}

// Absolve takes the stamp off: fsapi.NotExist.
func (s *Store) Absolve(ctx context.Context, id fsapi.SegmentID) error {
	return s.changeSegment(ctx, id, func(w kv.Tx, seg *fsapi.Segment) (bool, error) {
		had := !seg.Condemned.IsZero()
		seg.Condemned = time.Time{}
		return had, s.settle(w, seg)
	})
}

// ChangeSegment lets fn change a segment's Want and Copies, seeing the record as
// it is, and settles what is pending: nothing where they agree, and otherwise
// an entry due at once, with the age it had. fsapi.NotExist; fn's errors. fn may
// run several times. It returns the record as it became; that is durable after
// Sync.
func (s *Store) ChangeSegment(ctx context.Context, id fsapi.SegmentID, fn func(seg *fsapi.Segment) error) (fsapi.Segment, error) {
	var now fsapi.Segment
	err := s.changeSegment(ctx, id, func(w kv.Tx, seg *fsapi.Segment) (bool, error) {
		if err := fn(seg); err != nil {
			return false, err
		}
		now = *seg
		return true, s.settle(w, seg)
	})
	return now, err
}

func (s *Store) changeSegment(ctx context.Context, id fsapi.SegmentID, fn func(w kv.Tx, seg *fsapi.Segment) (bool, error)) error {
	return s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		seg, err := getSegment(w, id)
		if err != nil {
			return err
		}
		changed, err := fn(w, &seg)
		if err == nil && changed {
			putSegment(w, &seg)
		}
		return err
	})
}

// DropSegment removes a segment's record, refusing (fsapi.Busy) unless it is
// condemned, nothing in it is counted live, and no chunk record of `chunks`
// (its directory) points to it.
func (s *Store) DropSegment(ctx context.Context, id fsapi.SegmentID, chunks []fsapi.ChunkID) error {
	return s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		seg, err := getSegment(w, id)
		if err != nil {
			return err
		}
		if seg.Condemned.IsZero() {
			return fsapi.Errorf(fsapi.Busy, "segment %s is not condemned", id)
		}
		liveKey := segmentKey(nil, tabLive, id)
		live, err := w.Counter(liveKey)
		if err != nil {
			return err
		}
		if live != 0 {
			return fsapi.Errorf(fsapi.Busy, "segment %s holds %d live bytes", id, live)
		}
		var key []byte
		for i := range chunks {
			key = chunkKey(key, tabChunk, seg.Volume, &chunks[i])
			c, ok, err := getChunk(w, key)
			if err != nil {
				return err
			}
			if ok && c.Loc.Segment == id {
				return fsapi.Errorf(fsapi.Busy, "chunk %s still lies in segment %s", c.ID, id)
			}
		}
		w.Delete(segmentKey(nil, tabSegment, id))
		w.Delete(segmentKey(nil, tabPending, id))
		w.Delete(segmentKey(nil, tabHeat, id))
		w.Delete(liveKey)
		return nil
	})
}
