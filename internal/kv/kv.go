// Package kv keeps ordered transactional keys. An Engine is one state machine
// fed by a log of batches; what differs between engines is only where that log
// is made durable.
//
// It owns: the Engine seam, batches and their encoding, the transaction layer
// that all engines share (optimistic concurrency control over a Store), the
// tail of committed batches. It must not know inodes, chunks or nodes.
//
// A transaction reads one view of the Store, remembers hashes of the keys and
// the ranges it read, and buffers its writes already encoded. To commit it
// compares what it read with the batches that came since: a table of the newest
// write per hash answers nearly always, else the batches themselves, which the
// history keeps for tails anyway. Most of that happens before the commit lock.
//
// Keys that start with Reserved belong to the engine.
//
// Locks, outermost first:
//
//	engine.ticket    one of the transactions that lost several times
//	  engine.commit  order of batches; held for the last comparison, Store.Apply and Recover
//	    engine.flushing  held for Store.Sync and Recover
//	      history.mu     trimming, and who waits for the next batch
//	flushes.mu       who waits for which flush; never held during one
//
// Goroutines: a flush that somebody waited for while another ran has one of its
// own, and the recovery of a log that failed; Close waits for them.
package kv

import (
	"context"

	"github.com/strakefs/strake/internal/clock"
)

// Engine is ordered keys with serializable transactions. Keys order as bytes.
// Every method may be called concurrently. Implementations pass kvtest.
//
// Errors: fsapi.Closed after Close; fsapi.IO, NoSpace while the log cannot be
// written, see below; Busy where a directory is open elsewhere; fsapi.Fenced
// where another writer took over; fsapi.Interrupted where ctx ended before
// commit.
//
// Where the log fails, every Update is refused at once with the cause, and so is
// a Sync that would have to write; views go on, and show what they showed. The
// engine then tries to begin the log anew, after growing pauses, for as long as
// the cause lasts. Before it takes an Update again, everything that was
// committed is durable: nothing that was visible is taken back, unless the
// process ends before. Only fsapi.Fenced is for good.
type Engine interface {
	// View runs fn on one consistent snapshot. fn must not keep r.
	View(ctx context.Context, fn func(r Reader) error) error
	// Update runs fn, which reads a snapshot and buffers writes, and commits
	// them as one batch if nothing fn read with Get or Scan was changed since;
	// otherwise fn runs again after a jittered pause, so it must have no
	// effect but through tx. An error of fn aborts. When Update returns, the
	// batch is visible to every later View and Update and has its place in the
	// log, but it is durable only after Sync (or with opts.Sync). The result
	// is the batch's sequence number, or 0 where fn wrote nothing. An error
	// says that nothing was committed, but beside a sequence number that the
	// batch was, and is not durable yet.
	Update(ctx context.Context, opts UpdateOptions, fn func(tx Tx) error) (Seq, error)
	// Sync returns when every batch committed before the call is durable.
	// Concurrent callers share one flush of the log.
	Sync(ctx context.Context) error
	// LastSeq is the sequence number of the newest committed batch and
	// DurableSeq of the newest durable one.
	LastSeq() Seq
	DurableSeq() Seq
	// Tail follows committed batches from `from` (inclusive), in order,
	// without gaps. fsapi.NotExist says that `from` is no longer (or not yet
	// by more than one) retained: take a snapshot and follow from there.
	Tail(from Seq) (Tail, error)
	// Snapshot pins a consistent view together with the sequence number of
	// the last batch in it, until closed. For checkpoints and long scans.
	Snapshot() (Snapshot, error)
	// Stats are for people and metrics.
	Stats() Stats
	// Close makes everything durable and ends the engine.
	Close() error
}

// Seq numbers batches from 1 without gaps.
type Seq uint64

// UpdateOptions of one Update.
type UpdateOptions struct {
	// Sync makes the batch durable before Update returns.
	Sync bool
}

// Reader reads one snapshot. Returned slices are valid until the function that
// got the Reader returns, and must not be changed. Not for concurrent use.
type Reader interface {
	// Get is the value of a key, or ok false.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for keys in [from, to) in ascending order until fn
	// returns false. A nil to is the end. The slices are valid during the
	// call of fn only. fn may Get but not write.
	Scan(from, to []byte, fn func(key, value []byte) (more bool, err error)) error
	// Counter is the value of a counter kept with Tx.Add: 0 where none is.
	Counter(key []byte) (int64, error)
}

// Tx is a Reader that sees its own writes. Reads take part in conflict
// detection: a key, or a range as far as it was scanned.
type Tx interface {
	Reader
	// Put sets a key. key and value are copied.
	Put(key, value []byte)
	// Delete removes a key, or a counter, present or not.
	Delete(key []byte)
	// Add adds delta to a counter, blindly: it never conflicts with other
	// Adds. A counter and a plain key must not share a key. A counter of 0
	// does not exist for Get and Scan; Scan shows others as DecodeCounter
	// reads them. An engine may keep the key of one that came to 0: Delete
	// what is no longer needed.
	Add(key []byte, delta int64)
	// Peek and PeekCounter read without taking part in conflict detection.
	Peek(key []byte) (value []byte, ok bool, err error)
	PeekCounter(key []byte) (int64, error)
	// PeekScan is Scan without conflict detection.
	PeekScan(from, to []byte, fn func(key, value []byte) (more bool, err error)) error
}

// Snapshot is a pinned view.
type Snapshot interface {
	Reader
	Seq() Seq
	Stamp() clock.Stamp
	Close() error
}

// Tail is a subscription. Next waits for the next batch; the batch belongs to
// the caller. It returns fsapi.NotExist when the subscriber fell behind what
// is retained, fsapi.Closed when the engine ends. Keys and values may be shared
// with other subscribers and must not be changed.
type Tail interface {
	Next(ctx context.Context) (Batch, error)
	Close()
}

// OpKind is what an Op does. The numbers are stored.
type OpKind uint8

// The kinds of operation.
const (
	OpPut    OpKind = 1
	OpDelete OpKind = 2
	OpAdd    OpKind = 3
)

// Op is one change of a batch. Value is set for OpPut, Delta for OpAdd.
type Op struct {
	Kind  OpKind
	Key   []byte
	Value []byte
	Delta int64
}

// Batch is one committed transaction.
type Batch struct {
	Seq   Seq
	Stamp clock.Stamp
	Ops   []Op
}

// Stats of an engine. Bytes on disk, in the log, and of tail held in memory.
type Stats struct {
	DiskBytes, LogBytes, TailBytes int64
	Commits, Conflicts, Syncs      int64
	// LogFailures counts how often the log failed, and Failure is why Updates
	// are refused now; nil: they are not.
	LogFailures int64
	Failure     error
}
