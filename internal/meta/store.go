package meta

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Store is the metadata of all volumes on one engine, of which it is the only
// writer, or a reader of what another machine writes. Safe for concurrent use.
type Store struct {
	e     kv.Engine
	clock clock.Clock
	txs   sync.Pool    // *Tx
	last  atomic.Int64 // newest timestamp given out, Unix nanoseconds

	mu      sync.Mutex
	volumes map[fsapi.VolumeID]*volumeState // guarded by mu

	homes    *homes
	tops     tops
	chains   chains       // quotas above directories
	policies policies     // policies of directories
	moved    atomic.Int64 // counts what may change an inherited policy

	worm     retentionTime // set by Open
	wormLast atomic.Int64  // newest time of it given out, Unix nanoseconds
}

// formatVersion is the layout of records this package writes and reads.
const formatVersion = 2

const formatMagic = "strake-meta"

// Open prepares a store on an engine, which it does not close. An empty engine
// gets its format record. A store of another format is
// fsapi.NotSupported.
func Open(ctx context.Context, e kv.Engine, o Options) (*Store, error) {
	s := newStore(e, o)
	_, err := e.Update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		key := []byte{tabFormat}
		v, ok, err := w.Get(key)
		if err != nil {
			return err
		}
		if ok {
			return cmpErr(checkFormat(key, v), s.openRetention(w))
		}
		if err := empty(w); err != nil {
			return err
		}
		w.Put(key, putUint([]byte(formatMagic), formatVersion))
		return s.openRetention(w)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newStore(e kv.Engine, o Options) *Store {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	s := &Store{homes: new(homes), e: e, clock: o.Clock, volumes: map[fsapi.VolumeID]*volumeState{}}
	s.txs.New = func() any { return &Tx{s: s} }
	return s
}

// empty fails where an engine without format record holds anything: a load
// that did not come to its end, or something that is no metadata.
func empty(r kv.Reader) error {
	return r.Scan([]byte{0}, nil, func(k, _ []byte) (bool, error) {
		return false, fsapi.Errorf(fsapi.Corrupt, "the metadata holds %s but no format record: it was loaded in part, or is something else", keyText(k))
	})
}

func checkFormat(key, v []byte) error {
	if len(v) < len(formatMagic) || string(v[:len(formatMagic)]) != formatMagic {
		return corrupt(key, "not the format record of a metadata store")
	}
	d := dec{b: v[len(formatMagic):]}
	n := d.uint()
	switch {
	case !d.done() || n == 0:
		return corrupt(key, "bad format version")
	case n < formatVersion:
		return fsapi.Errorf(fsapi.NotSupported,
			"the metadata has format %d, older than the %d this version of strake reads; copy the data out with the strake that wrote it", n, formatVersion)
	case n > formatVersion:
		return fsapi.Errorf(fsapi.NotSupported,
			"the metadata has format %d but this version of strake knows formats up to %d; use a newer strake", n, formatVersion)
	}
	return nil
}

// View runs fn on one snapshot of a volume. fn must not keep tx.
func (s *Store) View(ctx context.Context, vol fsapi.VolumeID, fn func(tx *Tx) error) error {
	tx := s.txs.Get().(*Tx)
	defer s.release(tx)
	moved := s.moved.Load()
	return s.e.View(ctx, func(r kv.Reader) error {
		tx.begin(vol, r, nil)
		tx.movedAt = moved // what moved since may not be in r
		if err := fn(tx); err != nil {
			return err
		}
		tx.publish()
		return nil
	})
}

// Update runs fn as one transaction on a volume; fn may run several times, must
// not keep tx, and must not call Update. It fails with fsapi.NotExist where the volume is not there or being deleted.
func (s *Store) Update(ctx context.Context, vol fsapi.VolumeID, o kv.UpdateOptions, fn func(tx *Tx) error) (kv.Seq, error) {
	v, err := s.state(ctx, vol)
	if err != nil {
		return 0, err
	}
	tx := s.txs.Get().(*Tx)
	defer s.release(tx)
	tx.alone = false
	for need := numbersLow; ; {
		if err := s.reserve(ctx, v, need); err != nil {
			return 0, err
		}
		tx.starved, tx.wantGate = false, false
		seq, err := tx.update(ctx, v, fn)
		switch {
		case tx.starved:
			need *= 8
		case tx.wantGate && !tx.alone:
			tx.alone = true
		case err == nil && o.Sync && seq != 0:
			return seq, s.e.Sync(ctx)
		default:
			return seq, err
		}
	}
}

// update is one commit, or an attempt that shows what it would take.
func (tx *Tx) update(ctx context.Context, v *volumeState, fn func(tx *Tx) error) (kv.Seq, error) {
	if tx.alone {
		v.gate.Lock()
		defer v.gate.Unlock()
	} else {
		v.gate.RLock()
		defer v.gate.RUnlock()
	}
	seq, err := tx.s.e.Update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error { return tx.run(v, w, fn) })
	if err != nil {
		return seq, err
	}
	if tx.alone {
		v.rec = tx.volume
	}
	tx.publish()
	return seq, nil
}

// run is one attempt of an Update.
func (tx *Tx) run(v *volumeState, w kv.Tx, fn func(tx *Tx) error) error {
	tx.begin(v.id, w, w)
	tx.numbers, tx.volume, tx.haveVolume = &v.numbers, v.rec, true
	if tx.volume.Deleting {
		return errDeleting(tx.volume.Name)
	}
	if tx.hist.begin(w, v.rec.snaps) {
		tx.w = &tx.hist
	}
	err := fn(tx)
	switch {
	case tx.starved:
		return errStarved
	case tx.wantGate && !tx.alone:
		return errGate
	case err != nil:
		return err
	}
	if err := tx.finish(); err != nil {
		return err
	}
	return tx.hist.err
}

func (s *Store) release(tx *Tx) {
	tx.begin(0, nil, nil)
	tx.hist.begin(nil, nil)
	s.txs.Put(tx)
}

// Sync returns when everything committed before the call is durable.
func (s *Store) Sync(ctx context.Context) error { return s.e.Sync(ctx) }

// update is a transaction that belongs to no volume.
func (s *Store) update(ctx context.Context, o kv.UpdateOptions, fn func(w kv.Tx) error) error {
	_, err := s.e.Update(ctx, o, fn)
	return err
}

// now is a timestamp that is never before one given out already.
func (s *Store) now() time.Time {
	n := s.clock.Now().UnixNano()
	for {
		last := s.last.Load()
		if n <= last {
			return timeOf(last)
		}
		if s.last.CompareAndSwap(last, n) {
			return timeOf(n)
		}
	}
}
