package kv

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// write is what a transaction did to one key: positions in writes.enc.
type write struct {
	hash     uint64
	key, val span
	delta    int // position of the 8 bytes of an add
	kind     OpKind
	absolute bool // an add after a delete of the same transaction
}

type span struct{ off, end int }

func (s span) of(b []byte) []byte { return b[s.off:s.end:s.end] }

// indexFrom is how many keys a transaction writes before they are indexed by a
// map; below, comparing hashes one after another is faster.
const indexFrom = 16

// writes buffers what a transaction writes, already encoded as a batch.
type writes struct {
	enc   []byte  // operations in the order they were made
	keys  []write // one per distinct key, in the order of first use
	index map[uint64]int
	order []int32 // the first len(order) of keys, sorted by key
	fresh []int32 // scratch of sortKeys
	err   error   // the first misuse; fails the commit
}

func (w *writes) reset() {
	w.enc, w.keys, w.order = w.enc[:0], w.keys[:0], w.order[:0]
	w.err = nil
	clear(w.index)
}

// find is the write to a key, or nil. Valid until the next write.
func (w *writes) find(hash uint64, key []byte) *write {
	if len(w.keys) > indexFrom {
		// Two keys of one hash: the map has the later one, so fall through.
		i, ok := w.index[hash]
		if !ok {
			return nil
		}
		if k := &w.keys[i]; bytes.Equal(k.key.of(w.enc), key) {
			return k
		}
	}
	for i := range w.keys {
		k := &w.keys[i]
		if k.hash == hash && bytes.Equal(k.key.of(w.enc), key) {
			return k
		}
	}
	return nil
}

// open is the write to a key, made if there is none yet.
func (w *writes) open(hash uint64, key []byte) (k *write, existed bool) {
	if k = w.find(hash, key); k != nil {
		return k, true
	}
	w.keys = append(w.keys, write{hash: hash})
	switch n := len(w.keys); {
	case n == indexFrom+1:
		if w.index == nil {
			w.index = make(map[uint64]int, 4*indexFrom)
		}
		for i := range w.keys {
			w.index[w.keys[i].hash] = i
		}
	case n > indexFrom:
		w.index[hash] = n - 1
	}
	return &w.keys[len(w.keys)-1], false
}

func (w *writes) put(hash uint64, key, value []byte) {
	if !w.admit(key, len(value)) {
		return
	}
	k, _ := w.open(hash, key)
	w.begin(k, OpPut, key, len(value))
	w.enc = binary.AppendUvarint(w.enc, uint64(len(value)))
	k.val.off = len(w.enc)
	w.enc = append(w.enc, value...)
	k.val.end = len(w.enc)
}

func (w *writes) delete(hash uint64, key []byte) {
	if !w.admit(key, 0) {
		return
	}
	k, _ := w.open(hash, key)
	w.begin(k, OpDelete, key, 0)
}

func (w *writes) add(hash uint64, key []byte, delta int64) {
	if !w.admit(key, 8) {
		return
	}
	k, existed := w.open(hash, key)
	switch {
	case existed && k.kind == OpPut:
		w.fail("kv: key %q is put and added to in one transaction", key)
		return
	case existed && k.kind == OpAdd:
		at := w.enc[k.delta:]
		binary.LittleEndian.PutUint64(at, binary.LittleEndian.Uint64(at)+uint64(delta))
		return
	}
	k.absolute = existed
	w.begin(k, OpAdd, key, 8)
	k.delta = len(w.enc)
	w.enc = binary.LittleEndian.AppendUint64(w.enc, uint64(delta))
}

// begin encodes the head of an operation and makes it the one k stands for.
func (w *writes) begin(k *write, kind OpKind, key []byte, size int) {
	w.grow(len(key) + size + 2*binary.MaxVarintLen32)
	k.kind = kind
	w.enc = append(w.enc, byte(kind))
	w.enc = binary.AppendUvarint(w.enc, uint64(len(key)))
	k.key.off = len(w.enc)
	w.enc = append(w.enc, key...)
	k.key.end = len(w.enc)
}

// grow makes room without doubling a buffer that is already large.
func (w *writes) grow(n int) {
	if n <= cap(w.enc)-len(w.enc) {
		return
	}
	w.enc = slices.Grow(w.enc, max(n, min(len(w.enc), largeBatch))+stateOp)
}

func (w *writes) delta(k *write) int64 {
	return int64(binary.LittleEndian.Uint64(w.enc[k.delta:]))
}

func (w *writes) admit(key []byte, size int) bool {
	switch {
	case w.err != nil:
		return false
	case !validKey(key):
		w.err = errKey(key)
	case size > MaxValue:
		w.err = fsapi.Errorf(fsapi.TooBig, "kv: value of %d bytes is over the limit of %d", size, MaxValue)
	case len(w.enc)+len(key)+size > MaxBatch:
		w.err = fsapi.Errorf(fsapi.TooBig, "kv: transaction writes more than %d bytes; split it", MaxBatch)
	}
	return w.err == nil
}

func (w *writes) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fsapi.Errorf(fsapi.Invalid, format, args...)
	}
}

// sortKeys brings order up to date: what was written since is sorted by itself
// and merged in, so that a transaction which scans after every few writes does
// not sort all of them each time.
func (w *writes) sortKeys() {
	old := len(w.order)
	if old == len(w.keys) {
		return
	}
	key := func(i int32) []byte { return w.keys[i].key.of(w.enc) }
	w.fresh = w.fresh[:0]
	for i := old; i < len(w.keys); i++ {
		w.fresh = append(w.fresh, int32(i))
	}
	slices.SortFunc(w.fresh, func(a, b int32) int { return bytes.Compare(key(a), key(b)) })
	w.order = append(w.order, w.fresh...)
	// Merge from the end: the old ones move up into the room just made.
	at := len(w.order) - 1
	for i, j := old-1, len(w.fresh)-1; j >= 0; at-- {
		if i >= 0 && bytes.Compare(key(w.order[i]), key(w.fresh[j])) > 0 {
			w.order[at] = w.order[i]
			i--
		} else {
			w.order[at] = w.fresh[j]
			j--
		}
	}
}

// window is the sorted writes with keys in [from, to): indexes into w.keys.
func (w *writes) window(from, to []byte) []int32 {
	if len(w.keys) == 0 {
		return nil
	}
	w.sortKeys()
	lo, hi := w.lowerBound(from), len(w.order)
	if to != nil {
		hi = w.lowerBound(to)
	}
	return w.order[lo:max(lo, hi)]
}

func (w *writes) lowerBound(key []byte) int {
	i, _ := slices.BinarySearchFunc(w.order, key, func(i int32, key []byte) int {
		return bytes.Compare(w.keys[i].key.of(w.enc), key)
	})
	return i
}

func validKey(key []byte) bool {
	return len(key) > 0 && len(key) <= MaxKey && key[0] != Reserved
}

func errKey(key []byte) error {
	return fsapi.Errorf(fsapi.Invalid, "kv: key %.32q of %d bytes is empty, over %d bytes or in the reserved range", key, len(key), MaxKey)
}

// take hands the encoding over for good, with room for the state operation.
func (w *writes) take() []byte {
	if len(w.enc) >= largeBatch {
		enc := w.enc
		w.enc = nil
		return enc
	}
	return append(make([]byte, 0, len(w.enc)+stateOp), w.enc...)
}
