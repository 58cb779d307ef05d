package pebble

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// readLogs reads the newest batches back from the write-ahead logs of a closed
// database: a run without gaps of at most limit bytes. Nothing depends on it
// but how far back a tail may start, so where a log does not read, what was
// read before is given up and the database itself decides whether that is
// corruption.
func readLogs(fs vfs.FS, dir string, limit int64) ([]kv.Batch, error) {
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: dir})
	if err != nil {
		return nil, err
	}
	w := window{limit: limit}
	for _, l := range logs {
		if err := readLog(l, &w); err != nil {
			return nil, err
		}
	}
	return w.batches, nil
}

func readLog(l wal.LogicalLog, w *window) (err error) {
	r := l.OpenForRead()
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		rec, _, err := r.NextRecord()
		switch {
		case errors.Is(err, io.EOF), record.IsInvalidRecord(err):
			return nil
		case err != nil:
			return err
		}
		repr, err := io.ReadAll(rec)
		if err != nil {
			return err
		}
		b, ok, err := decode(repr)
		switch {
		case err != nil:
			return err
		case ok:
			w.add(b, int64(len(repr)))
		}
	}
}

// decode makes a batch of a record. ok is false where it is not one of ours.
func decode(repr []byte) (b kv.Batch, ok bool, err error) {
	for r := batchrepr.Read(repr); ; {
		kind, key, value, more, err := r.Next()
		if err != nil {
			return b, false, err
		}
		if !more {
			return b, b.Seq != 0, nil
		}
		op := kv.Op{Key: key}
		switch kind {
		case pebble.InternalKeyKindSet:
			if len(value) == totalLen && value[0] == tagTotal {
				op.Kind, op.Delta = kv.OpAdd, kv.DecodeCounter(value[counterLen:])
				break
			}
			if value, _, err = decodeValue(value); err != nil {
				return b, false, err
			}
			if string(key) == string(kv.StateKey()) {
				p, err := kv.DecodePosition(value)
				if err != nil {
					return b, false, err
				}
				b.Seq, b.Stamp = p.Seq, p.Stamp
				continue
			}
			op.Kind, op.Value = kv.OpPut, value
		case pebble.InternalKeyKindDelete:
			op.Kind = kv.OpDelete
		case pebble.InternalKeyKindMerge:
			op.Kind, op.Delta = kv.OpAdd, operand(value)
		default:
			return b, false, fsapi.Errorf(fsapi.Corrupt, "kv: the log has an operation of unknown kind %d", kind)
		}
		b.Ops = append(b.Ops, op)
	}
}

// window is a run of consecutive batches, the newest of them, bounded in bytes.
type window struct {
	limit, bytes int64
	batches      []kv.Batch
	sizes        []int64
}

func (w *window) add(b kv.Batch, size int64) {
	if n := len(w.batches); n > 0 && w.batches[n-1].Seq+1 != b.Seq {
		w.batches, w.sizes, w.bytes = nil, nil, 0
	}
	w.batches, w.sizes = append(w.batches, b), append(w.sizes, size)
	w.bytes += size
	for w.bytes > w.limit && len(w.batches) > 1 {
		w.bytes -= w.sizes[0]
		w.batches[0] = kv.Batch{}
		w.batches, w.sizes = w.batches[1:], w.sizes[1:]
	}
}
