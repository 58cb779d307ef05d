package meta

import (
	"context"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Inode numbers and cookies come from one counter per volume. Blocks of it are
// reserved durably, so that a crash never makes a number come twice.
const (
	firstNumber = 16
	numberBlock = 1 << 16
	numbersLow  = 1 << 10 // reserved numbers with which a transaction may start
)

// errStarved ends an attempt that ran out of reserved numbers.
var errStarved = errors.New("out of reserved numbers")

// numbers are the reserved ones of a volume.
type numbers struct {
	refill sync.Mutex // held while a block is reserved; before mu

	mu          sync.Mutex
	next, limit uint64 // guarded by mu
}

// take is a number, or ok false where all reserved ones are used.
func (n *numbers) take() (uint64, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next >= n.limit {
		return 0, false
	}
	n.next++
	return n.next - 1, true
}

// peek is the number that will be given out next, which is above all that were.
func (n *numbers) peek() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.next
}

func (n *numbers) left() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return int(n.limit - n.next)
}

// extend adds a reserved block.
func (n *numbers) extend(from, to uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.limit != from {
		n.next = from
	}
	n.limit = to
}

// reserve makes sure that a volume has some numbers. One caller reserves
// ahead while others go on with what is left.
func (s *Store) reserve(ctx context.Context, v *volumeState, need int) error {
	n := &v.numbers
	left := n.left()
	if left >= need {
		return nil
	}
	if left > numbersLow/4 && need == numbersLow {
		if !n.refill.TryLock() {
			return nil
		}
	} else {
		n.refill.Lock()
	}
	defer n.refill.Unlock()
	if n.left() >= need {
		return nil
	}
	var from, to uint64
	err := s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		key := volKey(nil, tabNumber, v.id)
		val, ok, err := w.Get(key)
		if err != nil {
			return err
		}
		from = firstNumber
		if ok {
			d := dec{b: val}
			if from = d.uint(); !d.done() || from < firstNumber {
				return corrupt(key, "bad number")
			}
		}
		to = from + uint64(max(numberBlock, need))
		if to >= uint64(fsapi.VirtualIno) {
			return fsapi.Errorf(fsapi.NoSpace, "volume %d has used up its inode numbers", v.id)
		}
		w.Put(key, putUint(nil, to))
		return nil
	})
	if err == nil {
		n.extend(from, to)
	}
	return err
}

// NewIno reserves an inode number, never given out again.
func (s *Store) NewIno(ctx context.Context, vol fsapi.VolumeID) (fsapi.Ino, error) {
	v, err := s.state(ctx, vol)
	if err != nil {
		return 0, err
	}
	for {
		if n, ok := v.numbers.take(); ok {
			return fsapi.Ino(n), nil
		}
		if err := s.reserve(ctx, v, numbersLow); err != nil {
			return 0, err
		}
	}
}

// number takes one for this transaction.
func (tx *Tx) number() (uint64, error) {
	n, ok := tx.numbers.take()
	if !ok {
		tx.starved = true
		return 0, errStarved
	}
	return n, nil
}
