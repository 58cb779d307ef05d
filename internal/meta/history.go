package meta

import (
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// versionedTables are the tables that snapshots see: what a reader of the tree
// needs. Counters, queues and chunks are of the present only.
const versionedTables = "DILdEXYq"

func versioned(tab byte) bool { return strings.IndexByte(versionedTables, tab) >= 0 }

// The forms of a history entry.
const (
	historyAbsent = 0 // the key was not there
	historyValue  = 1 // rest: its value
)

func decodeHistory(key, v []byte) (value []byte, there bool, err error) {
	switch {
	case len(v) == 1 && v[0] == historyAbsent:
		return nil, false, nil
	case len(v) >= 1 && v[0] == historyValue:
		return v[1:], true, nil
	}
	return nil, false, corrupt(key, "unknown form")
}

// history is a kv.Tx of a volume with snapshots. Before a key is first changed
// after a snapshot it keeps what it held, for the newest snapshot alone: an
// older one finds it there. What was kept once stays, so a key costs one entry
// a snapshot however often it changes.
//
// What it looks at it does not track: a transaction that changes a key which
// another changed meanwhile, without having read it, keeps the same value as
// that one did.
type history struct {
	kv.Tx
	snaps []snapRef
	at    int // the snapshot to keep for; -1: none
	err   error

	last     fsapi.ChunkID // of the extent kept last
	haveLast bool
	key, val []byte // scratch
}

// begin readies h for one run of a transaction and reports whether it is
// needed.
func (h *history) begin(w kv.Tx, snaps []snapRef) bool {
	h.Tx, h.snaps, h.err, h.haveLast = w, snaps, nil, false
	h.at = newestLive(snaps)
	return h.at >= 0
}

func newestLive(snaps []snapRef) int {
	for i := len(snaps) - 1; i >= 0; i-- {
		if !snaps[i].deleting {
			return i
		}
	}
	return -1
}

// Put implements kv.Tx.
func (h *history) Put(key, value []byte) {
	h.keep(key)
	h.Tx.Put(key, value)
}

// Delete implements kv.Tx.
func (h *history) Delete(key []byte) {
	h.keep(key)
	h.Tx.Delete(key)
}

// keep saves what a key holds for the snapshot at h.at, unless that or a later
// one has it saved already, or cannot see the key because its inode is younger.
func (h *history) keep(key []byte) {
	if h.at < 0 || h.err != nil || !versioned(key[0]) || keyIno(key) >= h.snaps[h.at].limit {
		return
	}
	for i := len(h.snaps) - 1; i >= h.at; i-- {
		h.key = historyKey(h.key, h.snaps[i].id, key)
		_, kept, err := h.Peek(h.key)
		if err != nil || kept {
			h.err = err
			return
		}
	}
	old, there, err := h.Peek(key)
	switch {
	case err != nil:
		h.err = err
	case !there:
		h.Tx.Put(h.key, []byte{historyAbsent})
	default:
		h.val = append(append(h.val[:0], historyValue), old...)
		h.Tx.Put(h.key, h.val)
		if key[0] == tabExtent {
			h.keepExtent(key, h.val[1:])
		}
	}
}

// keepExtent counts an extent that the history now has, besides the present
// one, which is about to lose it.
func (h *history) keepExtent(key, v []byte) {
	e, err := decodeExtent(key, v)
	if err != nil {
		h.err = err
		return
	}
	vol := keyVolume(key)
	h.Add(snapKey(nil, tabHeld, vol, h.snaps[h.at].id), e.Len)
	if e.Kind == fsapi.ExtentData {
		h.Add(chunkKey(nil, tabRefs, vol, &e.Chunk), 1)
		h.last, h.haveLast = e.Chunk, true
	}
}

// holds reports whether this transaction has just kept an extent of a chunk, so
// that it certainly has references.
func (h *history) holds(id *fsapi.ChunkID) bool { return h.haveLast && h.last == *id }

// keepFor makes h keep what follows for another snapshot than the newest, until
// the result is called. at is a place in snaps; -1: nothing is kept.
func (h *history) keepFor(at int) (restore func()) {
	was := h.at
	h.at = at
	return func() { h.at = was }
}
