package meta

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

const heatForm = 1

func appendHeat(b []byte, h *fsapi.Heat) []byte {
	b = putTime(append(b, heatForm), 0, h.Last)
	b = putTime(b, h.Last.Unix(), h.Visit)
	return be64(b, math.Float64bits(h.Count))
}

func decodeHeat(key, v []byte) (fsapi.Heat, error) {
	var h fsapi.Heat
	if len(key) != segmentKeyLen {
		return h, corrupt(key, "bad key")
	}
	copy(h.Segment[:], key[1:])
	d := dec{b: v}
	if d.byte() != heatForm {
		return h, corrupt(key, "unknown form")
	}
	h.Last = d.time(0)
	h.Visit = d.time(h.Last.Unix())
	if b := d.take(8); len(b) == 8 {
		h.Count = math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	if !d.done() || !(h.Count >= 0 && h.Count <= math.MaxFloat32) {
		return h, corrupt(key, "bad accesses")
	}
	return h, nil
}

// PutHeats keeps what is remembered of accesses to segments; what there is no
// segment of is left out. It is durable after Sync: the newest may be lost.
func (s *Store) PutHeats(ctx context.Context, list []fsapi.Heat) error {
	return s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		for i := range list {
			_, ok, err := w.Get(segmentKey(nil, tabSegment, list[i].Segment))
			if err != nil {
				return err
			}
			if ok {
				w.Put(segmentKey(nil, tabHeat, list[i].Segment), appendHeat(nil, &list[i]))
			}
		}
		return nil
	})
}

// Heats calls fn for what was kept of accesses, by segment, until fn returns
// false.
func (s *Store) Heats(ctx context.Context, fn func(fsapi.Heat) bool) error {
	from := []byte{tabHeat}
	for more := true; more; {
		var page []fsapi.Heat
		err := s.e.View(ctx, func(r kv.Reader) error {
			page = page[:0]
			return r.Scan(from, []byte{tabHeat + 1}, func(k, v []byte) (bool, error) {
				h, err := decodeHeat(k, v)
				page = append(page, h)
				return len(page) < segmentPage, err
			})
		})
		if err != nil {
			return err
		}
		for _, h := range page {
			if !fn(h) {
				return nil
			}
		}
		if more = len(page) == segmentPage; more {
			from = append(segmentKey(nil, tabHeat, page[len(page)-1].Segment), 0)
		}
	}
	return nil
}
