package pebble

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strakefs/strake/internal/kv"
)

// counters keeps what hot counters stand at, so that adding to one writes its
// total instead of one more operand: a read would have to sum every operand
// since the last compaction, and volume usage is read and added to by nearly
// every transaction. Used by Apply alone, one call at a time; it may read the
// database, once for a counter that has become hot.
type counters struct {
	db     *pebble.DB
	totals map[string]int64
	heat   map[string]uint8 // adds since a counter was seen first
}

// Bounds of counters: entries, and the adds that make a counter hot.
const (
	maxTotals = 4096
	maxHeat   = 4096
	hotAfter  = 8
)

func newCounters(db *pebble.DB) *counters {
	return &counters{db: db, totals: map[string]int64{}, heat: map[string]uint8{}}
}

// add is what a counter stands at after delta, where that is known.
func (c *counters) add(key []byte, delta int64) (total int64, known bool) {
	if total, known = c.totals[string(key)]; known {
		total += delta
		c.totals[string(key)] = total
		return total, true
	}
	if c.heat[string(key)] < hotAfter {
		if len(c.heat) >= maxHeat {
			clear(c.heat)
		}
		c.heat[string(key)]++
		return 0, false
	}
	delete(c.heat, string(key))
	if total, known = c.stored(key); !known {
		return 0, false
	}
	if len(c.totals) >= maxTotals {
		clear(c.totals)
	}
	c.totals[string(key)] = total + delta
	return total + delta, true
}

// stored is what the database holds. Where that does not read, one adds to it
// blindly as before.
func (c *counters) stored(key []byte) (total int64, known bool) {
	v, closer, err := c.db.Get(key)
	if err != nil {
		return 0, errors.Is(err, pebble.ErrNotFound)
	}
	total = operand(v)
	return total, closer.Close() == nil
}

// forget a key that was written otherwise. It is cold again too: what the
// database holds is not what it stands at before the batch is applied.
func (c *counters) forget(key []byte) {
	if len(c.totals) > 0 {
		delete(c.totals, string(key))
	}
	if len(c.heat) > 0 {
		delete(c.heat, string(key))
	}
}

// appendTotal writes a counter's total and the delta that led to it.
func appendTotal(dst []byte, total, delta int64) {
	dst[0] = tagTotal
	binary.LittleEndian.PutUint64(dst[1:], uint64(total))
	binary.LittleEndian.PutUint64(dst[9:], uint64(delta))
}

// fill copies encoded operations into a batch of Pebble.
func (c *counters) fill(b *pebble.Batch, enc []byte) error {
	ops := kv.ReadOps(enc)
	for ops.Next() {
		op := &ops.Op
		var d *pebble.DeferredBatchOp
		switch op.Kind {
		case kv.OpPut:
			c.forget(op.Key)
			d = b.SetDeferred(len(op.Key), 1+len(op.Value))
			d.Value[0] = tagValue
			copy(d.Value[1:], op.Value)
		case kv.OpDelete:
			c.forget(op.Key)
			d = b.DeleteDeferred(len(op.Key))
		case kv.OpAdd:
			d = c.addOp(b, op)
		}
		copy(d.Key, op.Key)
		if err := d.Finish(); err != nil {
			return err
		}
	}
	return ops.Err()
}

func (c *counters) addOp(b *pebble.Batch, op *kv.Op) *pebble.DeferredBatchOp {
	if total, known := c.add(op.Key, op.Delta); known {
		d := b.SetDeferred(len(op.Key), totalLen)
		appendTotal(d.Value, total, op.Delta)
		return d
	}
	d := b.MergeDeferred(len(op.Key), counterLen)
	d.Value[0] = tagCounter
	kv.AppendCounter(d.Value[:1], op.Delta)
	return d
}
