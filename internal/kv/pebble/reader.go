package pebble

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// pin is a snapshot of a database that readers share as long as nothing is
// committed. The last to let go closes it.
type pin struct {
	d    *database
	snap *pebble.Snapshot
	seq  uint64 // every batch up to it is in the snapshot
	refs atomic.Int64
}

// acquire fails where the pin is being closed.
func (p *pin) acquire() bool {
	for {
		n := p.refs.Load()
		if n == 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *pin) release() error {
	if p.refs.Add(-1) > 0 {
		return nil
	}
	err := p.snap.Close()
	p.d.release()
	return readError(err)
}

// pin is a snapshot that holds everything applied so far.
func (s *store) pin() *pin {
	for {
		d := s.cur.Load()
		seq := d.applied.Load()
		old := d.shared.Load()
		if old != nil && old.seq >= seq && old.acquire() {
			return old
		}
		if d.acquire() { // otherwise another has taken its place
			return d.share(old, seq)
		}
	}
}

// share makes a pin in place of the shared one that was found. It keeps the
// reference to d that the caller has taken.
func (d *database) share(old *pin, seq uint64) *pin {
	p := &pin{d: d, snap: d.db.NewSnapshot(), seq: seq}
	p.refs.Store(2)
	if !d.shared.CompareAndSwap(old, p) {
		p.refs.Store(1)
		return p
	}
	if old != nil {
		_ = old.release()
	}
	if d.old.Load() { // retired meanwhile, and perhaps before it could see p
		d.unshare()
	}
	return p
}

// unshare lets go of the shared snapshot, so that an idle one does not keep old
// versions from being dropped.
func (d *database) unshare() {
	if p := d.shared.Swap(nil); p != nil {
		_ = p.release()
	}
}

// reader is kv.StoreReader over one snapshot.
type reader struct {
	s     *store
	p     *pin
	value io.Closer        // of the last Get
	it    *pebble.Iterator // kept for the next Scan; nil: none yet, or a Scan has it
}

var _ kv.StoreReader = (*reader)(nil)

// NewReader implements kv.Store.
func (s *store) NewReader() (kv.StoreReader, error) {
	r := s.readers.Get().(*reader)
	r.s, r.p = s, s.pin()
	return r, nil
}

// Get implements kv.StoreReader.
func (r *reader) Get(key []byte) ([]byte, bool, error) {
	if err := r.drop(); err != nil {
		return nil, false, err
	}
	v, closer, err := r.p.snap.Get(key)
	switch {
	case err == nil:
		r.value = closer
		return decodeValue(v)
	case errors.Is(err, pebble.ErrNotFound):
		return nil, false, nil
	}
	return nil, false, readError(err)
}

// drop lets go of the value that Get returned last.
func (r *reader) drop() error {
	if r.value == nil {
		return nil
	}
	err := r.value.Close()
	r.value = nil
	return readError(err)
}

// Scan implements kv.StoreReader.
func (r *reader) Scan(from, to []byte, fn func(key, value []byte) (bool, error)) (err error) {
	if len(from) == 0 {
		from = nil // to Pebble an empty bound is a key, and it does not like empty keys
	}
	it, err := r.iter(from, to)
	if err != nil {
		return readError(err)
	}
	defer func() {
		if cerr := r.keep(it); err == nil {
			err = readError(cerr)
		}
	}()
	for valid := it.First(); valid; valid = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		v, ok, err := decodeValue(v)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if more, err := fn(it.Key(), v); !more || err != nil {
			return err
		}
	}
	return readError(it.Error())
}

// iter is an iterator over [from, to): the one of the last Scan where no other
// has it, which is cheaper than to make one.
func (r *reader) iter(from, to []byte) (*pebble.Iterator, error) {
	it := r.it
	if it == nil {
		return r.p.snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	}
	r.it = nil
	it.SetBounds(from, to)
	return it, nil
}

// keep takes back an iterator. One that failed is closed, as is one more than
// there is use for.
func (r *reader) keep(it *pebble.Iterator) error {
	if r.it == nil && it.Error() == nil {
		r.it = it
		return nil
	}
	return it.Close()
}

// Close implements kv.StoreReader.
func (r *reader) Close() error {
	err := r.drop()
	if r.it != nil {
		err = errors.Join(err, r.it.Close())
		r.it = nil
	}
	err = errors.Join(err, r.p.release())
	s := r.s
	r.s, r.p = nil, nil
	s.readers.Put(r)
	return err
}

func readError(err error) error { return fsapi.Wrap(errKind2(err), err, "kv: read") }

func errKind2(err error) fsapi.Kind {
	if err == nil {
		return fsapi.Other
	}
	return errKind(err)
}
