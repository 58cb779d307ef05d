package upkeep

import (
	"context"
	"errors"
	"slices"

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
	// Waiting is how many frames, at least, stay in the journal, since in segments
	// they would be less safe now; Why is the reason for one.
	Waiting int
	Why     error
	Bad     []Doubt
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
	u.keeping.Store(r.Waiting > 0)
	return r, nil
}

func (u *Upkeep) packVolume(ctx context.Context, vol fsapi.VolumeID, r *PackReport) error {
	class, err := u.classOf(ctx, vol)
	if err != nil {
		return err
	}
	sure, err := u.o.Meta.AcksRemote(ctx, vol)
	if err != nil {
		return err
	}
	if sure {
		u.keeping.Store(true) // however long it takes
	}
	stay := map[string]error{}
	for {
		bad := r.Bad
		p := packer{u: u, vol: vol, class: class, r: r, sure: sure, stay: stay}
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

	sure bool             // the journal is in a bucket: see cover
	stay map[string]error // why frames stay in the journal, by the text of the copies
}

// home is where frames that want some copies go, key being their text; nil where
// they stay.
func (p *packer) home(key string, want []fsapi.CopySpec) *rewriter {
	if p.stay[key] != nil {
		return nil
	}
	w := p.homes[key]
	if w == nil {
		if p.sure && slices.ContainsFunc(pinnedTiers(want), func(t string) bool { return !p.u.takes(t) }) {
			p.stay[key] = postponed{fsapi.Errorf(fsapi.Busy, "a tier of %s takes nothing now: its drives are away or not to be written", key)}
			return nil
		}
		class := p.class
		class.Copies = want
		w = p.u.rewriter(p.vol, class)
		w.sure = p.sure
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
	for key, w := range p.homes {
		if err := p.postponed(key, len(w.from), w.flush(ctx)); err != nil {
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
	key := policy.Copies(f.Want).String()
	w := p.home(key, f.Want)
	if w == nil {
		return p.postponed(key, 1, p.stay[key])
	}
	p.r.Bytes += int64(len(f.Data))
	err = w.add(ctx, f.Chunk, f.Loc, f.Ino, f.Off, data)
	return p.postponed(key, len(w.from), err)
}

// postponed takes note that n frames which want some copies stay for now; another
// error is passed on.
func (p *packer) postponed(copies string, n int, err error) error {
	if !isPostponed(err) {
		return err
	}
	if p.stay[copies] == nil {
		p.u.o.Log.Warn("data stays in the journal for now", "copies", copies, "err", err)
	}
	p.stay[copies] = err
	p.r.Waiting += n
	p.r.Why = err
	return nil
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
	err = u.packAgain(ctx)
	u.journal = 0
	return err
}

// packAgain is Pack as a step of Run: where frames had to stay, not again at once.
func (u *Upkeep) packAgain(ctx context.Context) error {
	now := u.o.Clock.Now()
	if age := now.Sub(u.kept); u.keeping.Load() && age >= 0 && age < postponedAgain {
		return nil
	}
	_, err := u.Pack(ctx)
	u.kept = u.o.Clock.Now()
	return err
}

// fullJournal is how many times its bound a journal may grow in which frames must
// stay, before those who store data wait.
const fullJournal = 16

// lookAtJournal notes whether there is room in the journal.
func (u *Upkeep) lookAtJournal(ctx context.Context) error {
	full := false
	if u.keeping.Load() {
		n, err := u.o.Meta.JournalBytes(ctx)
		if err != nil {
			return err
		}
		full = n >= fullJournal*u.o.JournalMax
	}
	u.full.Store(full)
	return nil
}
