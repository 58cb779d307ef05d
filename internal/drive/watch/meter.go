package watch

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Op names a class of calls.
type Op int

// The classes. Close is not counted among what a drive is judged by.
const (
	Create Op = iota
	Write
	Commit
	Read
	Stat
	List // from one blob to the next
	Delete
	Replace
	Capacity
	Close
	opCount
)

// String is the class's name.
func (o Op) String() string {
	return [...]string{"create", "write", "commit", "read", "stat", "list", "delete", "replace", "measure", "close"}[o]
}

// Buckets of latencies: the n-th counts calls of at most FirstBucket·2^n, the
// last all that took longer.
const (
	Buckets     = 22
	FirstBucket = 64 * time.Microsecond
)

// Stats are what one class of calls took since the drive was decorated.
type Stats struct {
	Calls  int64 // that ended or were left behind
	Errors int64 // those among them that a drive is not to have: not NotExist, Exist, nor a caller's going away
	Bytes  int64 // read or written
	// Latency is the exponentially weighted moving average, the last call
	// counting an eighth, as TCP does its round trips (RFC 6298).
	Latency time.Duration
	Took    [Buckets]int64 // calls, by latency
}

// Stats are those of a class.
func (d *Drive) Stats(o Op) Stats {
	d.ops[o].mu.Lock()
	defer d.ops[o].mu.Unlock()
	return d.ops[o].stats
}

// Ops are all classes.
func Ops() (ops []Op) {
	for o := range opCount {
		ops = append(ops, o)
	}
	return ops
}

// meter measures a class of calls.
type meter struct {
	mu    sync.Mutex
	stats Stats // guarded by mu
}

func (m *meter) add(took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.stats
	s.Calls++
	if fault(err) {
		s.Errors++
	}
	if s.Calls == 1 {
		s.Latency = took
	} else {
		s.Latency += (took - s.Latency) / 8
	}
	n := 0
	for limit := FirstBucket; n < Buckets-1 && took > limit; n++ {
		limit *= 2
	}
	s.Took[n]++
}

func fault(err error) bool {
	if err == nil || errors.Is(err, io.EOF) {
		return false
	}
	switch fsapi.KindOf(err) {
	case fsapi.NotExist, fsapi.Exist, fsapi.Interrupted:
		return false
	}
	return true
}

func (m *meter) addBytes(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Bytes += int64(n)
}
