package meta

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Tx is a transaction on one volume. Not for concurrent use.
type Tx struct {
	s   *Store
	vol fsapi.VolumeID
	r   kv.Reader
	w   kv.Tx // nil in a View; tx.hist where the volume has snapshots

	hist history
	past bool // reads the volume as it was

	now  time.Time // of the transaction; zero until asked for
	door string

	volume     volumeRecord
	haveVolume bool
	numbers    *numbers
	starved    bool // ran out of numbers: Update reserves more and runs again
	alone      bool // has the volume's gate alone
	wantGate   bool // changes the volume's record

	few    []*Inode             // inodes read or made, while they are few
	many   map[fsapi.Ino]*Inode // beyond that
	missed missing              // the last name Lookup did not find: its dentry is certainly not there

	changes []fsapi.Change
	fresh   []freshChunk // chunks recorded in this transaction
	freshAt int          // where the last one used is

	// For the caches of Store; published when the transaction has committed.
	foundChains   []foundChain
	foundPolicies []foundPolicy
	foundTops     []foundTop
	moves         bool // changes what other inodes inherit
	movedAt       int64

	key, end, val []byte // scratch
	olds          []fsapi.Extent
}

const fewInodes = 12

// begin readies tx for one run of its function.
func (tx *Tx) begin(vol fsapi.VolumeID, r kv.Reader, w kv.Tx) {
	tx.vol, tx.r, tx.w, tx.past = vol, r, w, false
	tx.now, tx.door = time.Time{}, ""
	tx.volume, tx.haveVolume, tx.numbers = volumeRecord{}, false, nil
	clear(tx.few)
	tx.few, tx.many, tx.missed = tx.few[:0], nil, missing{}
	clear(tx.changes)
	tx.changes, tx.fresh, tx.freshAt = tx.changes[:0], tx.fresh[:0], 0
	clear(tx.foundChains)
	clear(tx.foundPolicies)
	tx.foundChains, tx.foundPolicies, tx.foundTops = tx.foundChains[:0], tx.foundPolicies[:0], tx.foundTops[:0]
	tx.moves, tx.movedAt = false, tx.s.moved.Load()
	clear(tx.olds)
	tx.olds = tx.olds[:0]
}

// finish writes what accumulated during the transaction.
func (tx *Tx) finish() error {
	tx.doomFresh()
	tx.putChanges()
	return nil
}

// publish gives what the transaction found out to the caches.
func (tx *Tx) publish() {
	if tx.moves {
		tx.s.moved.Add(1)
	}
	tx.publishChains()
	tx.publishPolicies()
	tx.publishTops()
}

// Now is the transaction's timestamp: one for all it changes, and never before
// that of an earlier transaction.
func (tx *Tx) Now() time.Time {
	if tx.now.IsZero() {
		tx.now = tx.s.now()
	}
	return tx.now
}

// SetDoor names the door that asks, for the changes noted from now on.
func (tx *Tx) SetDoor(name string) { tx.door = name }

func (tx *Tx) writable() error {
	if tx.w == nil {
		return fsapi.Errorf(fsapi.Invalid, "a change of metadata inside a View; use Update")
	}
	return nil
}

// known is the inode as this transaction has it already.
func (tx *Tx) known(ino fsapi.Ino) *Inode {
	if tx.many != nil {
		return tx.many[ino]
	}
	for _, in := range tx.few {
		if in.Ino == ino {
			return in
		}
	}
	return nil
}

func (tx *Tx) know(in *Inode) {
	switch {
	case tx.many != nil:
		tx.many[in.Ino] = in
	case len(tx.few) < fewInodes:
		tx.few = append(tx.few, in)
	default:
		tx.many = make(map[fsapi.Ino]*Inode, 4*fewInodes)
		for _, f := range tx.few {
			tx.many[f.Ino] = f
		}
		tx.many[in.Ino] = in
	}
}

// forget drops an inode that is no more.
func (tx *Tx) forget(ino fsapi.Ino) {
	delete(tx.many, ino)
	for i, in := range tx.few {
		if in.Ino == ino {
			tx.few[i] = tx.few[len(tx.few)-1]
			tx.few = tx.few[:len(tx.few)-1]
			return
		}
	}
}

// peek reads a key without taking part in conflict detection.
func (tx *Tx) peek(key []byte) ([]byte, bool, error) {
	if tx.w != nil {
		return tx.w.Peek(key)
	}
	return tx.r.Get(key)
}

func (tx *Tx) peekCounter(key []byte) (int64, error) {
	if tx.w != nil {
		return tx.w.PeekCounter(key)
	}
	return tx.r.Counter(key)
}

func (tx *Tx) peekScan(from, to []byte, fn func(k, v []byte) (bool, error)) error {
	if tx.w != nil {
		return tx.w.PeekScan(from, to, fn)
	}
	return tx.r.Scan(from, to, fn)
}

// scan peeks at all keys with a prefix, which fn must leave alone.
func (tx *Tx) scan(prefix []byte, fn func(k, v []byte) (bool, error)) error {
	return tx.peekScan(prefix, after(nil, prefix), fn)
}
