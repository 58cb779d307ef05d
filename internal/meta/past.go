package meta

import (
	"bytes"
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// past is a kv.Reader of a volume as it was when a snapshot was taken: a key
// holds what the first history from that snapshot on has of it, else what it
// holds now. Tables that are not versioned read as they are. It reads without
// conflict detection: what a snapshot sees does not change.
type past struct {
	get     func(key []byte) ([]byte, bool, error)
	scan    scanFunc
	counter func(key []byte) (int64, error)
	snaps   []snapRef // from the snapshot on, ascending
	key     []byte    // scratch
}

type scanFunc func(from, to []byte, fn func(k, v []byte) (bool, error)) error

var _ kv.Reader = (*past)(nil)

// Get implements kv.Reader.
func (p *past) Get(key []byte) ([]byte, bool, error) {
	if len(key) == 0 || !versioned(key[0]) {
		return p.get(key)
	}
	if !p.sees(key) {
		return nil, false, nil
	}
	for _, s := range p.snaps {
		p.key = historyKey(p.key, s.id, key)
		v, ok, err := p.get(p.key)
		if err != nil {
			return nil, false, err
		}
		if ok {
			return decodeHistory(p.key, v)
		}
	}
	return p.get(key)
}

// sees reports whether a versioned key is of an inode that there was already.
func (p *past) sees(key []byte) bool {
	return len(key) >= inoKeyLen && keyIno(key) < p.snaps[0].limit
}

// Counter implements kv.Reader. Counters are of the present.
func (p *past) Counter(key []byte) (int64, error) { return p.counter(key) }

// Scan implements kv.Reader: it merges the present with the history of each
// snapshot. The range is within one versioned table of a volume, or in others.
func (p *past) Scan(from, to []byte, fn func(k, v []byte) (bool, error)) error {
	if len(from) < volKeyLen || !versioned(from[0]) {
		return p.scan(from, to, fn)
	}
	m := make([]cursor, 0, len(p.snaps)+1)
	for _, s := range p.snaps {
		m = append(m, historyCursor(s.id, from, to))
	}
	m = append(m, cursor{next: bytes.Clone(from), to: to})
	for {
		k, v, there, err := p.lowest(m)
		if err != nil || k == nil {
			return err
		}
		if !there || !p.sees(k) {
			continue
		}
		if more, err := fn(k, v); err != nil || !more {
			return err
		}
	}
}

// lowest takes the lowest key that any cursor is at, off all of them. The first
// that has it says what it holds. k is nil at the end.
func (p *past) lowest(m []cursor) (k, v []byte, there bool, err error) {
	var at *cursor
	for i := range m {
		c := &m[i]
		if err := c.fill(p.scan); err != nil {
			return nil, nil, false, err
		}
		if len(c.page) > 0 && (at == nil || bytes.Compare(c.page[0].k, at.page[0].k) < 0) {
			at = c
		}
	}
	if at == nil {
		return nil, nil, false, nil
	}
	e := at.page[0]
	v, there = e.v, true
	if at.history {
		if v, there, err = decodeHistory(e.k, e.v); err != nil {
			return nil, nil, false, err
		}
	}
	for i := range m {
		if c := &m[i]; len(c.page) > 0 && bytes.Equal(c.page[0].k, e.k) {
			c.page = c.page[1:]
		}
	}
	return e.k, v, there, nil
}

// cursor reads a range page by page, so that several can be merged.
type cursor struct {
	next, to []byte // what is left to read; next nil: nothing
	history  bool   // the keys are of a history
	page     []pair // read and not taken, by the keys of the present
	size     int    // of the last page
}

type pair struct{ k, v []byte }

const (
	firstPage = 8
	lastPage  = 512
)

// historyCursor reads what the history of a snapshot has of a range.
func historyCursor(id fsapi.SnapshotID, from, to []byte) cursor {
	c := cursor{next: historyKey(nil, id, from), history: true}
	if to != nil && bytes.HasPrefix(to, from[:volKeyLen]) {
		c.to = historyKey(nil, id, to)
	} else {
		c.to = after(nil, historyKey(nil, id, from[:volKeyLen]))
	}
	return c
}

// fill reads the next page where the last one is used up.
func (c *cursor) fill(scan scanFunc) error {
	if len(c.page) > 0 || c.next == nil {
		return nil
	}
	c.size = min(max(4*c.size, firstPage), lastPage)
	c.page = make([]pair, 0, c.size)
	var last []byte
	err := scan(c.next, c.to, func(k, v []byte) (bool, error) {
		e := pair{v: bytes.Clone(v)}
		if c.history {
			e.k = presentKey(k)
		} else {
			e.k = bytes.Clone(k)
		}
		c.page = append(c.page, e)
		if len(c.page) < c.size {
			return true, nil
		}
		last = bytes.Clone(k)
		return false, nil
	})
	c.next = nil
	if last != nil {
		c.next = append(last, 0)
	}
	return err
}

// ViewAt runs fn on a volume as it was when a snapshot was taken, from one
// snapshot of the store: fsapi.NotExist where it is none, or being deleted.
// fn must not keep tx. Usage and quotas are not of that time.
func (s *Store) ViewAt(ctx context.Context, vol fsapi.VolumeID, id fsapi.SnapshotID, fn func(tx *Tx) error) error {
	if id == 0 {
		return s.View(ctx, vol, fn)
	}
	tx := s.txs.Get().(*Tx)
	defer s.release(tx)
	return s.e.View(ctx, func(r kv.Reader) error {
		rec, err := readVolume(r, vol)
		if err != nil {
			return err
		}
		if err := tx.beginAt(rec, id, &past{get: r.Get, scan: r.Scan, counter: r.Counter}); err != nil {
			return err
		}
		return fn(tx)
	})
}

// At is the volume as it was when a snapshot was taken, for reading within this
// transaction, whose end ends it too; id 0 is tx itself: fsapi.NotExist.
func (tx *Tx) At(id fsapi.SnapshotID) (*Tx, error) {
	if id == 0 {
		return tx, nil
	}
	if err := tx.readVolume(); err != nil {
		return nil, err
	}
	old := &Tx{s: tx.s}
	p := &past{get: tx.r.Get, scan: tx.r.Scan, counter: tx.r.Counter}
	if tx.w != nil {
		p.get, p.scan, p.counter = tx.w.Peek, tx.w.PeekScan, tx.w.PeekCounter
	}
	return old, old.beginAt(tx.volume, id, p)
}

// beginAt readies tx for reading the past.
func (tx *Tx) beginAt(rec volumeRecord, id fsapi.SnapshotID, p *past) error {
	i, err := rec.find(id)
	if err != nil {
		return err
	}
	tx.begin(rec.ID, p, nil)
	p.snaps = rec.snaps[i:]
	tx.past = true
	tx.moves = true // what is inherited is not that of now: no cache has it
	tx.volume, tx.haveVolume = rec, true
	tx.volume.policies, tx.volume.quotas = 1, 0 // there may have been policies
	return nil
}
