package checkpoint

import (
	"context"
	"slices"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Span is a time as of any moment of which a drive can restore the metadata.
type Span struct {
	Epoch    uint64
	From, To clock.Stamp // of its first checkpoint and of its last batch
	Seq      kv.Seq      // the last batch
	Bytes    int64       // of the blobs it takes
}

// History is what a drive can restore, oldest first. Only headers are read, so
// that a blob which is damaged further inside is found by Restore alone.
func History(ctx context.Context, d drive.Drive, storeKey []byte) ([]Span, error) {
	c := catalogue(ctx, []drive.Drive{d})
	if len(c.errs) > 0 {
		return nil, c.errs[0]
	}
	var bases []object
	for o := range c.places {
		if o.kind == kindCheckpoint {
			bases = append(bases, o)
		}
	}
	slices.SortFunc(bases, order)
	var spans []Span
	for _, o := range bases {
		b, err := open(ctx, d, o, storeKey)
		if fsapi.KindOf(err) == fsapi.Corrupt {
			continue
		}
		if err != nil {
			return nil, err
		}
		// One that goes on where a former one reaches is part of its span.
		if n := len(spans); n > 0 && spans[n-1].Epoch == o.epoch && spans[n-1].Seq >= o.last {
			spans[n-1].Bytes += c.sizes[o]
			continue
		}
		s := Span{Epoch: o.epoch, From: b.stamp, To: b.stamp, Seq: o.last, Bytes: c.sizes[o]}
		chain, _ := cover(o.last, c.groups(o.epoch))
		for _, g := range chain {
			r, err := open(ctx, d, g, storeKey)
			if fsapi.KindOf(err) == fsapi.Corrupt {
				break
			}
			if err != nil {
				return nil, err
			}
			s.To, s.Seq, s.Bytes = r.stamp, g.last, s.Bytes+c.sizes[g]
		}
		spans = append(spans, s)
	}
	return spans, nil
}
