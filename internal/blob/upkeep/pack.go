package upkeep

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/fsapi"
)

// packFrames bounds the journal frames read at once.
const packFrames = 8192

// PackReport is what Pack did.
type PackReport struct {
	Frames int   // moved into segments
	Bytes  int64 // of these frames in the journal
	Bad    []Doubt
}

// Pack moves all journal frames that it finds into segments, compressed harder;
// what comes meanwhile may be left. Frames that do not verify stay where they
// are and are reported.
func (u *Upkeep) Pack(ctx context.Context) (PackReport, error) {
	var r PackReport
	give, err := u.packing.take(ctx)
	if err != nil {
		return r, err
	}
	defer give()
	vols, err := u.o.Meta.Volumes(ctx)
	if err != nil {
		return r, err
	}
	for _, v := range vols {
		if err := u.packVolume(ctx, v.ID, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (u *Upkeep) packVolume(ctx context.Context, vol fsapi.VolumeID, r *PackReport) error {
	class, err := u.classOf(ctx, vol)
	if err != nil {
		return err
	}
	for {
		bad := r.Bad
		n, more, err := u.packSome(ctx, u.rewriter(vol, class), r)
		// Where nothing moved, what is left is bad, or changes under our hands:
		// later. Where all was listed, what came since is too little for another
		// segment, and to look for it passes over all that was just deleted.
		if err != nil || n == 0 || !more {
			return err
		}
		r.Bad = bad // the bad ones come again in the next round
	}
}

// packSome packs up to a batch of a volume's oldest frames and says how many
// moved, and whether there were more.
func (u *Upkeep) packSome(ctx context.Context, w *rewriter, r *PackReport) (moved int, more bool, err error) {
	defer w.abort()
	frames, err := u.o.Meta.JournalFrames(ctx, w.vol, packFrames, u.o.BatchBytes)
	if err != nil {
		return 0, false, err
	}
	var held, bytes int64
	for _, f := range frames {
		held += int64(len(f.Data))
		data, err := u.o.Store.OpenFrame(w.vol, f.Chunk, f.Loc.Segment, f.Data)
		if errors.Is(err, fsapi.Corrupt) {
			u.doubt(&r.Bad, Doubt{Segment: f.Loc.Segment, Err: err})
			continue
		}
		if err == nil {
			err = w.add(ctx, f.Chunk, f.Loc, 0, 0, data)
		}
		if err != nil {
			return 0, false, err
		}
		bytes += int64(len(f.Data))
	}
	if err := w.flush(ctx); err != nil {
		return 0, false, err
	}
	r.Frames += w.moved
	r.Bytes += bytes
	u.count.framesPacked.Add(uint64(w.moved))
	return w.moved, len(frames) >= packFrames || held >= u.o.BatchBytes, nil
}

// patience is how many times its bound a journal may grow while writers are at
// it, who have priority over packing.
const patience = 4

// packLarge packs a journal that has outgrown its bound, when it no longer grows
// fast or is far over it.
func (u *Upkeep) packLarge(ctx context.Context) error {
	n, err := u.o.Meta.JournalBytes(ctx)
	if err != nil {
		return err
	}
	busy := n-u.journal > u.o.JournalMax/64
	u.journal = n
	if n < u.o.JournalMax || busy && n < patience*u.o.JournalMax {
		return nil
	}
	_, err = u.Pack(ctx)
	u.journal = 0
	return err
}
