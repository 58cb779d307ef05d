package meta

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Pending is a segment whose copies are not those it should have: some are
// owed, or some are to go. There is one for each such segment, written in the
// transaction that made it so.
type Pending struct {
	Segment  fsapi.SegmentID
	Size     int64     // bytes of the segment
	Since    time.Time // when it came to be so
	Attempts int       // that failed since something was last achieved
	Next     time.Time // when to try again
	Err      string    // why the last attempt failed; "" before there was one
}

const (
	pendingForm = 1
	// maxPendingErr bounds what is kept of an error, in bytes.
	maxPendingErr = 512
)

func appendPending(b []byte, p *Pending) []byte {
	b = putUint(append(b, pendingForm), uint64(p.Size))
	b = putTime(b, 0, p.Since)
	b = putUint(b, uint64(p.Attempts))
	b = putTime(b, p.Since.Unix(), p.Next)
	return putStr(b, p.Err)
}

func decodePending(key, v []byte) (Pending, error) {
	var p Pending
	if len(key) != segmentKeyLen {
		return p, corrupt(key, "bad key")
	}
	copy(p.Segment[:], key[1:])
	d := dec{b: v}
	if d.byte() != pendingForm {
		return p, corrupt(key, "unknown form")
	}
	p.Size = d.size()
	p.Since = d.time(0)
	p.Attempts = int(d.u32())
	p.Next = d.time(p.Since.Unix())
	p.Err = d.str()
	if !d.done() {
		return p, corrupt(key, "bad pending entry")
	}
	return p, nil
}

func putPending(w kv.Tx, p *Pending) {
	w.Put(segmentKey(nil, tabPending, p.Segment), appendPending(nil, p))
}

// settle makes the pending entry of a segment agree with its record, after
// something was achieved.
func (s *Store) settle(w kv.Tx, seg *fsapi.Segment) error {
	key := segmentKey(nil, tabPending, seg.ID)
	if seg.Settled() || !seg.Condemned.IsZero() {
		w.Delete(key)
		return nil
	}
	now := s.now()
	p := Pending{Segment: seg.ID, Size: seg.Size, Since: now, Next: now}
	v, ok, err := w.Get(key)
	if err == nil && ok {
		var old Pending
		old, err = decodePending(key, v)
		p.Since = old.Since
	}
	putPending(w, &p)
	return err
}

// PendingFailed notes a failed attempt on a segment and when to try again. A
// segment with nothing pending is left so.
func (s *Store) PendingFailed(ctx context.Context, id fsapi.SegmentID, next time.Time, why error) error {
	return s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		key := segmentKey(nil, tabPending, id)
		v, ok, err := w.Get(key)
		if err != nil || !ok {
			return err
		}
		p, err := decodePending(key, v)
		if err != nil {
			return err
		}
		p.Attempts++
		p.Next, p.Err = next, why.Error()
		p.Err = p.Err[:min(len(p.Err), maxPendingErr)]
		putPending(w, &p)
		return nil
	})
}

// PendingOf is the pending entry of a segment: the zero Pending with its id where
// there is none.
func (s *Store) PendingOf(ctx context.Context, id fsapi.SegmentID) (Pending, error) {
	p := Pending{Segment: id}
	err := s.e.View(ctx, func(r kv.Reader) error {
		key := segmentKey(nil, tabPending, id)
		v, ok, err := r.Get(key)
		if err == nil && ok {
			p, err = decodePending(key, v)
		}
		return err
	})
	return p, err
}

// Pending calls fn for the pending entries after `after`, oldest segment first,
// until fn returns false. It reads them in pages, each from a snapshot of its
// own.
func (s *Store) Pending(ctx context.Context, afterID fsapi.SegmentID, fn func(Pending) bool) error {
	for {
		var page []Pending
		err := s.e.View(ctx, func(r kv.Reader) error {
			page = page[:0]
			from := append(segmentKey(nil, tabPending, afterID), 0)
			if afterID.IsZero() {
				from = []byte{tabPending}
			}
			return r.Scan(from, []byte{tabPending + 1}, func(k, v []byte) (bool, error) {
				p, err := decodePending(k, v)
				page = append(page, p)
				return len(page) < segmentPage, err
			})
		})
		if err != nil {
			return err
		}
		for i := range page {
			if !fn(page[i]) {
				return nil
			}
		}
		if len(page) < segmentPage {
			return nil
		}
		afterID = page[len(page)-1].Segment
	}
}
