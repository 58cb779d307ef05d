package kv

import (
	"context"
	"encoding/binary"
	"iter"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// Reserved is the first byte of the keys that belong to the engine. A user key
// is 1 to MaxKey bytes and does not start with it; Scan never shows such keys.
const Reserved = 0xff

// Bounds of what one transaction may write, in bytes.
const (
	MaxKey   = 16 << 10
	MaxValue = 32 << 20
	MaxBatch = 64 << 20
)

// Store is what an engine adds to the transaction layer: a place where batches
// are applied in order and read back. NewEngine makes an Engine of it. A Store
// knows nothing of transactions, conflicts or subscribers.
type Store interface {
	// NewReader pins a consistent view: it holds every batch whose Apply
	// returned before the call, and of any other batch all or nothing.
	// Concurrent.
	NewReader() (StoreReader, error)
	// Apply appends one batch to the log and makes it visible to every later
	// NewReader. The engine calls it for one batch at a time, in Seq order;
	// it should not wait for a disk. After an error nothing of the batch is
	// or becomes visible, also not in what is opened later, and the engine
	// does not call Apply again unless the store recovers (see Recoverer).
	// c.Ops may be kept but not changed.
	Apply(c Commit) error
	// Admit waits while the store is too far behind to take more writes.
	// Called before Apply without any lock. Concurrent.
	Admit(ctx context.Context) error
	// Sync returns when every batch whose Apply returned before the call is
	// durable. One call at a time, concurrent with Apply. After an error the
	// engine does not call Sync again unless the store recovers.
	Sync() error
	// Stats fills DiskBytes and LogBytes. Concurrent.
	Stats() Stats
	// Close ends the store. Called once, when no reader is open and no other
	// call runs; everything was synced unless the engine failed.
	Close() error
}

// Recoverer is a Store that can go on after its log failed. An engine of one
// that is not stays closed for writing.
type Recoverer interface {
	// Recover makes the store fit for Apply and Sync again, after one of them
	// failed. When it returns nil the store holds every batch up to the newest,
	// all of them durable. What a log that failed seems to hold proves nothing:
	// a flush that failed may have dropped what it was to write, and the next
	// one say that all is well (Rebello et al., "Can Applications Recover from
	// fsync Failures?", 2020). So what the old log holds and what it lacks is
	// written anew, elsewhere.
	//
	// missing walks the batches that follow one, in order, up to the newest.
	// Readers that are open stay valid, and new ones see what they saw before.
	// After an error the store is as before the call, but may have kept more
	// of the batches; Recover is then called again. No other call but
	// NewReader, Admit and Stats is under way.
	Recover(missing func(after Seq) iter.Seq2[Commit, error]) error
}

// StoreReader reads one view of a Store. Not for concurrent use, except that
// the function given to Scan may call Get and Scan.
type StoreReader interface {
	// Get is the value of a key, valid until the next call of Get or Close.
	// A counter's value is as AppendCounter writes it.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan is Reader.Scan. to is never nil.
	Scan(from, to []byte, fn func(key, value []byte) (more bool, err error)) error
	Close() error
}

// Commit is one batch on its way into a Store. Ops are encoded as in a batch
// (see AppendBatch); OpReader walks them. The last of them writes StateKey.
type Commit struct {
	Seq   Seq
	Stamp clock.Stamp
	Ops   []byte
}

// Position is how far a log has come: the newest batch and its stamp.
type Position struct {
	Seq   Seq
	Stamp clock.Stamp
}

// StateKey is the reserved key that every batch sets to its own Position, so
// that a store that holds a prefix of the log also knows which.
func StateKey() []byte { return []byte(stateKey) }

const (
	stateKey  = "\xffseq"
	stateSize = 16
	// stateOp is the size of the encoded operation that writes the state.
	stateOp = 1 + 1 + len(stateKey) + 1 + stateSize
)

func appendPosition(dst []byte, p Position) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Seq))
	return binary.BigEndian.AppendUint64(dst, uint64(p.Stamp))
}

// DecodePosition reads the value of StateKey.
func DecodePosition(v []byte) (Position, error) {
	if len(v) != stateSize {
		return Position{}, fsapi.Errorf(fsapi.Corrupt, "kv: position record of %d bytes instead of %d", len(v), stateSize)
	}
	return Position{Seq: Seq(binary.BigEndian.Uint64(v)), Stamp: clock.Stamp(binary.BigEndian.Uint64(v[8:]))}, nil
}

// AppendCounter writes a counter as stores keep it and as Scan shows it: eight
// bytes, little-endian two's complement.
func AppendCounter(dst []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(n))
}

// DecodeCounter reads a counter shown by Scan. A value that is no counter is 0.
func DecodeCounter(v []byte) int64 {
	if len(v) != 8 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(v))
}
