package upkeep

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
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
		p := packer{u: u, vol: vol, class: class, r: r}
		n, more, err := p.some(ctx)
		// Where nothing moved, what is left is bad, or changes under our hands:
		// later. Where all was listed, what came since is too little for another
		// segment, and to look for it passes over all that was just deleted.
		if err != nil || n == 0 || !more {
			return err
		}
		r.Bad = bad // the bad ones come again in the next round
	}
}

// packer packs frames of one volume, those that want the same copies together.
type packer struct {
	u     *Upkeep
	vol   fsapi.VolumeID
	class blob.Class // all of it but the copies holds for every frame
	r     *PackReport
	homes map[string]*rewriter // by the text of the copies
}

// home is where frames that want some copies go.
func (p *packer) home(want []fsapi.CopySpec) *rewriter {
	key := policy.Copies(want).String()
	w := p.homes[key]
	if w == nil {
		class := p.class
		class.Copies = want
		w = p.u.rewriter(p.vol, class)
		if p.homes == nil {
			p.homes = make(map[string]*rewriter)
		}
		p.homes[key] = w
	}
	return w
}

// some packs up to a batch of the volume's oldest frames and says how many
// moved, and whether there were more.
func (p *packer) some(ctx context.Context) (moved int, more bool, err error) {
	u := p.u
	defer func() {
		for _, w := range p.homes {
			w.abort()
		}
	}()
	frames, err := u.o.Meta.JournalFrames(ctx, p.vol, packFrames, u.o.BatchBytes)
	if err != nil {
		return 0, false, err
	}
	var held int64
	for i := range frames {
		held += int64(len(frames[i].Data))
		if err := p.frame(ctx, &frames[i]); err != nil {
			return 0, false, err
		}
	}
	for _, w := range p.homes {
		if err := w.flush(ctx); err != nil {
			return 0, false, err
		}
		moved += w.moved
	}
	p.r.Frames += moved
	u.count.framesPacked.Add(uint64(moved))
	return moved, len(frames) >= packFrames || held >= u.o.BatchBytes, nil
}

// frame hands one frame on, unless it is bad.
func (p *packer) frame(ctx context.Context, f *meta.JournalChunk) error {
	data, err := p.u.o.Store.OpenFrame(p.vol, f.Chunk, f.Loc.Segment, f.Data)
	if errors.Is(err, fsapi.Corrupt) {
		p.u.doubt(&p.r.Bad, Doubt{Segment: f.Loc.Segment, Err: err})
		return nil
	}
	if err != nil {
		return err
	}
	p.r.Bytes += int64(len(f.Data))
	return p.home(f.Want).add(ctx, f.Chunk, f.Loc, f.Ino, f.Off, data)
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
