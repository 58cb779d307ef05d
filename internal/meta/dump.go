package meta

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// dumpLine is one record of a dump. Key and Value are in base64, as KEYS.md
// describes them; Table is the key's first byte. A counter has N instead of
// Value. The last line has End, the number of records before it, and the
// batch the dump is as of.
type dumpLine struct {
	Table string  `json:"table,omitempty"`
	Key   []byte  `json:"key,omitempty"`
	Value []byte  `json:"value,omitempty"`
	N     *int64  `json:"n,omitempty"`
	End   *int64  `json:"end,omitempty"`
	Seq   *kv.Seq `json:"seq,omitempty"`
}

// Dump writes all records of all volumes, as of one moment, as lines of JSON
// that Load reads into any engine.
func (s *Store) Dump(ctx context.Context, w io.Writer) (err error) {
	snap, err := s.e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	out := bufio.NewWriterSize(w, 1<<16)
	enc := json.NewEncoder(out)
	var n int64
	err = snap.Scan([]byte{0}, nil, func(k, v []byte) (bool, error) {
		if k[0] == tabChanges {
			return true, nil
		}
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line := dumpLine{Table: string(k[:1]), Key: k}
		if IsCounter(k) {
			count := kv.DecodeCounter(v)
			line.N = &count
		} else {
			line.Value = v
		}
		return true, enc.Encode(&line)
	})
	if err != nil {
		return err
	}
	seq := snap.Seq()
	if err := enc.Encode(&dumpLine{End: &n, Seq: &seq}); err != nil {
		return err
	}
	return out.Flush()
}

// loadBatch bounds what one transaction of Load writes, in bytes.
const loadBatch = 4 << 20

// Load fills an empty engine from what Dump wrote, before it is opened.
// fsapi.Exist where the engine holds metadata; Corrupt where the dump is
// damaged or cut short: what was loaded by then is to be thrown away. The
// format record comes last, so that a store loaded in part does not open as
// one.
func Load(ctx context.Context, e kv.Engine, r io.Reader) error {
	if err := mustBeEmpty(ctx, e); err != nil {
		return err
	}
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<16))
	var format []byte
	var held []dumpLine
	size, n := 0, int64(0)
	for {
		var line dumpLine
		if err := dec.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fsapi.Errorf(fsapi.Corrupt, "the dump is cut short after %d records", n)
			}
			kind := fsapi.KindOf(err)
			if kind == fsapi.Other { // of the decoder
				kind = fsapi.Corrupt
			}
			return fsapi.Wrap(kind, err, "read the dump")
		}
		if line.End != nil {
			if *line.End != n || format == nil {
				return fsapi.Errorf(fsapi.Corrupt, "the dump has %d records and should have %d, the format among them", n, *line.End)
			}
			if err := loadLines(ctx, e, held); err != nil {
				return err
			}
			_, err := e.Update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
				w.Put([]byte{tabFormat}, format)
				return nil
			})
			return err
		}
		n++
		switch {
		case len(line.Key) == 0 || line.Key[0] == kv.Reserved || line.Table != string(line.Key[:1]) || IsCounter(line.Key) != (line.N != nil):
			return fsapi.Errorf(fsapi.Corrupt, "record %d of the dump is damaged", n)
		case bytes.Equal(line.Key, []byte{tabFormat}):
			if err := checkFormat(line.Key, line.Value); err != nil {
				return err
			}
			format = line.Value
			continue
		}
		held = append(held, line)
		if size += len(line.Key) + len(line.Value); size >= loadBatch {
			if err := loadLines(ctx, e, held); err != nil {
				return err
			}
			held, size = held[:0], 0
		}
	}
}

func mustBeEmpty(ctx context.Context, e kv.Engine) error {
	return e.View(ctx, func(r kv.Reader) error {
		return r.Scan([]byte{0}, nil, func(k, _ []byte) (bool, error) {
			return false, fsapi.Errorf(fsapi.Exist, "the store to load into is not empty: it holds %s", keyText(k))
		})
	})
}

func loadLines(ctx context.Context, e kv.Engine, lines []dumpLine) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := e.Update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		for i := range lines {
			if l := &lines[i]; l.N != nil {
				w.Add(l.Key, *l.N)
			} else {
				w.Put(l.Key, l.Value)
			}
		}
		return nil
	})
	return err
}
