package kv

import (
	"bytes"

	"github.com/strakefs/strake/internal/fsapi"
)

// arena hands out copies that stay where they are until reset.
type arena struct{ cur []byte }

const arenaChunk = 4 << 10

func (a *arena) copy(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	if len(b) > arenaChunk/2 {
		return bytes.Clone(b)
	}
	if len(b) > cap(a.cur)-len(a.cur) {
		a.cur = make([]byte, 0, arenaChunk)
	}
	n := len(a.cur)
	a.cur = append(a.cur, b...)
	return a.cur[n:len(a.cur):len(a.cur)]
}

// view is a Reader over one view of the store, opened when first read.
type view struct {
	e     *engine
	r     StoreReader
	arena arena
}

var _ Reader = (*view)(nil)

func (v *view) open() error {
	if v.r != nil {
		return nil
	}
	r, err := v.e.store.NewReader()
	if err != nil {
		return err
	}
	v.r = r
	return nil
}

// close gives the store's view back and forgets what was handed out.
func (v *view) close() error {
	v.arena.cur = v.arena.cur[:0]
	if v.r == nil {
		return nil
	}
	r := v.r
	v.r = nil
	return r.Close()
}

func (v *view) raw(key []byte) ([]byte, bool, error) {
	if !validKey(key) {
		return nil, false, errKey(key)
	}
	if err := v.open(); err != nil {
		return nil, false, err
	}
	return v.r.Get(key)
}

// Get implements Reader.
func (v *view) Get(key []byte) ([]byte, bool, error) {
	val, ok, err := v.raw(key)
	if err != nil || !ok {
		return nil, false, err
	}
	return v.arena.copy(val), true, nil
}

// Counter implements Reader.
func (v *view) Counter(key []byte) (int64, error) {
	val, ok, err := v.raw(key)
	if err != nil || !ok {
		return 0, err
	}
	return DecodeCounter(val), nil
}

// Scan implements Reader.
func (v *view) Scan(from, to []byte, fn func(key, value []byte) (bool, error)) error {
	from, to = clamp(from, to)
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	if err := v.open(); err != nil {
		return err
	}
	return v.r.Scan(from, to, fn)
}

// clamp keeps a range below the reserved keys.
func clamp(from, to []byte) (lo, hi []byte) {
	end := []byte{Reserved}
	if to == nil || bytes.Compare(to, end) > 0 {
		to = end
	}
	return from, to
}

// tx is a transaction: a view, what it read, what it writes.
type tx struct {
	view
	base     *entry // the newest batch that is certainly in the view
	reads    reads
	writes   writes
	scanning int // Scans that are running now
}

var _ Tx = (*tx)(nil)

func (t *tx) reset() {
	t.base = nil
	t.reads.reset()
	t.writes.reset()
	t.scanning = 0
}

// open pins the view and what it certainly holds, in this order: the view may
// hold more than base, which validation then takes for a conflict.
func (t *tx) open() error {
	if t.r == nil {
		t.base = t.e.history.head.Load()
	}
	return t.view.open()
}

// Get implements Reader.
func (t *tx) Get(key []byte) ([]byte, bool, error) { return t.get(key, true) }

// Peek implements Tx.
func (t *tx) Peek(key []byte) ([]byte, bool, error) { return t.get(key, false) }

// Counter implements Reader.
func (t *tx) Counter(key []byte) (int64, error) { return t.counter(key, true) }

// PeekCounter implements Tx.
func (t *tx) PeekCounter(key []byte) (int64, error) { return t.counter(key, false) }

func (t *tx) get(key []byte, track bool) ([]byte, bool, error) {
	hash := t.e.stamps.hash(key)
	if w := t.writes.find(hash, key); w != nil {
		switch w.kind {
		case OpPut:
			return w.val.of(t.writes.enc), true, nil
		case OpDelete:
			return nil, false, nil
		default:
			n, err := t.counter(key, track)
			if n == 0 || err != nil {
				return nil, false, err
			}
			return AppendCounter(nil, n), true, nil
		}
	}
	if err := t.open(); err != nil {
		return nil, false, err
	}
	if track {
		t.reads.addKey(hash)
	}
	return t.view.Get(key)
}

func (t *tx) counter(key []byte, track bool) (int64, error) {
	hash := t.e.stamps.hash(key)
	var own int64
	if w := t.writes.find(hash, key); w != nil {
		switch {
		case w.kind == OpPut:
			return DecodeCounter(w.val.of(t.writes.enc)), nil
		case w.kind == OpDelete:
			return 0, nil
		case w.absolute:
			return t.writes.delta(w), nil
		}
		own = t.writes.delta(w)
	}
	if err := t.open(); err != nil {
		return 0, err
	}
	if track {
		t.reads.addKey(hash)
	}
	n, err := t.view.Counter(key)
	return n + own, err
}

// Scan implements Reader.
func (t *tx) Scan(from, to []byte, fn func(key, value []byte) (bool, error)) error {
	from, to = clamp(from, to)
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	last, done, err := t.scan(from, to, fn)
	switch {
	case done:
		t.reads.addRange(from, to, false)
	case last != nil:
		t.reads.addRange(from, last, true)
	}
	return err
}

// PeekScan implements Tx.
func (t *tx) PeekScan(from, to []byte, fn func(key, value []byte) (bool, error)) error {
	from, to = clamp(from, to)
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	_, _, err := t.scan(from, to, fn)
	return err
}

// scan merges the view and the transaction's own writes. It says whether it
// came to the end and, where it did not, the last key it showed.
func (t *tx) scan(from, to []byte, fn func(key, value []byte) (bool, error)) (last []byte, done bool, err error) {
	if err := t.open(); err != nil {
		return nil, false, err
	}
	t.scanning++
	defer func() { t.scanning-- }()
	m := merge{w: &t.writes, own: t.writes.window(from, to), fn: fn}
	err = t.r.Scan(from, to, m.stored)
	if err == nil && !m.stopped {
		err = m.ownBelow(nil)
	}
	return m.last, err == nil && !m.stopped, err
}

// merge shows stored keys and a transaction's own writes in one order.
type merge struct {
	w       *writes
	own     []int32 // not yet shown
	fn      func(key, value []byte) (bool, error)
	last    []byte // the key that fn stopped or failed at
	stopped bool
}

// stored takes one key from the store.
func (m *merge) stored(key, value []byte) (bool, error) {
	if err := m.ownBelow(key); err != nil || m.stopped {
		return false, err
	}
	if len(m.own) > 0 {
		w := &m.w.keys[m.own[0]]
		if k := w.key.of(m.w.enc); bytes.Equal(k, key) {
			m.own = m.own[1:]
			err := m.showOwn(w, value)
			return !m.stopped, err
		}
	}
	err := m.show(key, value)
	return !m.stopped, err
}

// ownBelow shows own writes with keys below limit, or all where it is nil.
func (m *merge) ownBelow(limit []byte) error {
	for len(m.own) > 0 && !m.stopped {
		w := &m.w.keys[m.own[0]]
		if limit != nil && bytes.Compare(w.key.of(m.w.enc), limit) >= 0 {
			return nil
		}
		m.own = m.own[1:]
		if err := m.showOwn(w, nil); err != nil {
			return err
		}
	}
	return nil
}

// showOwn shows a key as w leaves it over the stored value, if it leaves any.
func (m *merge) showOwn(w *write, stored []byte) error {
	switch w.kind {
	case OpPut:
		return m.show(w.key.of(m.w.enc), w.val.of(m.w.enc))
	case OpAdd:
		n := m.w.delta(w)
		if !w.absolute {
			n += DecodeCounter(stored)
		}
		if n != 0 {
			return m.show(w.key.of(m.w.enc), AppendCounter(nil, n))
		}
	}
	return nil
}

func (m *merge) show(key, value []byte) error {
	more, err := m.fn(key, value)
	if err != nil || !more {
		m.stopped = true
		m.last = bytes.Clone(key)
	}
	return err
}

// Put implements Tx.
func (t *tx) Put(key, value []byte) {
	if t.mayWrite(key) {
		t.writes.put(t.e.stamps.hash(key), key, value)
	}
}

// Delete implements Tx.
func (t *tx) Delete(key []byte) {
	if t.mayWrite(key) {
		t.writes.delete(t.e.stamps.hash(key), key)
	}
}

// Add implements Tx.
func (t *tx) Add(key []byte, delta int64) {
	if t.mayWrite(key) {
		t.writes.add(t.e.stamps.hash(key), key, delta)
	}
}

// mayWrite fails the transaction where a Scan is running: its order of own
// writes would no longer hold.
func (t *tx) mayWrite(key []byte) bool {
	if t.scanning == 0 {
		return true
	}
	if t.writes.err == nil {
		t.writes.err = fsapi.Errorf(fsapi.Invalid, "kv: write of %.32q inside a Scan; collect the keys and write after it", key)
	}
	return false
}
