package pebble

import (
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// A value as stored starts with a tag that says what it is; the rest is the
// value, or the eight bytes of kv.AppendCounter: an operand to be summed or a
// sum, or the total of a counter followed by the addition that led to it (which
// the log is read back for). The tag is there because a
// counter of zero must read as no counter, but Pebble cannot drop one: its
// deletable mergers forget, in a compaction, that the merged key shadows older
// ones below (and panic where it ends at a deletion).
const (
	tagValue   = 'v'
	tagCounter = 'c'
	tagTotal   = 't'
	counterLen = 9
	totalLen   = 17
)

// decodeValue takes the tag off. ok is false for a counter of zero.
func decodeValue(v []byte) (value []byte, ok bool, err error) {
	switch {
	case len(v) > 0 && v[0] == tagValue:
		return v[1:], true, nil
	case isCounter(v):
		return v[1:counterLen], operand(v) != 0, nil
	}
	return nil, false, fsapi.Errorf(fsapi.Corrupt, "kv: stored value of %d bytes has no known tag", len(v))
}

// mergerName is stored in the database and names the operand's format too.
const mergerName = "strake.sum.v1"

func counterMerger() *pebble.Merger {
	return &pebble.Merger{
		Name: mergerName,
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			return &sum{n: operand(value)}, nil
		},
	}
}

// operand is the number in a stored counter. Anything else counts nothing: a
// merge that fails would end every compaction it is part of.
func operand(v []byte) int64 {
	if !isCounter(v) {
		return 0
	}
	return kv.DecodeCounter(v[1:counterLen])
}

func isCounter(v []byte) bool {
	return len(v) == counterLen && v[0] == tagCounter || len(v) == totalLen && v[0] == tagTotal
}

// sum adds counters.
type sum struct{ n int64 }

var _ pebble.ValueMerger = (*sum)(nil)

// MergeNewer implements pebble.ValueMerger.
func (s *sum) MergeNewer(value []byte) error {
	s.n += operand(value)
	return nil
}

// MergeOlder implements pebble.ValueMerger.
func (s *sum) MergeOlder(value []byte) error { return s.MergeNewer(value) }

// Finish implements pebble.ValueMerger.
func (s *sum) Finish(bool) ([]byte, io.Closer, error) {
	return kv.AppendCounter(append(make([]byte, 0, counterLen), tagCounter), s.n), nil, nil
}
