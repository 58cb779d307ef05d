package upkeep

import (
	"context"
	"fmt"
	"slices"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
)

// rewriter gathers chunks of one volume and class, writes them as new segments
// and points their records there.
type rewriter struct {
	u     *Upkeep
	vol   fsapi.VolumeID
	class blob.Class
	b     *blob.Batch
	bytes int64 // plaintext in b
	from  map[fsapi.ChunkID]fsapi.Location
	moved int

	// sure: the journal counts as a copy on each tier that is wanted: see cover.
	sure bool
}

func (u *Upkeep) rewriter(vol fsapi.VolumeID, class blob.Class) *rewriter {
	return &rewriter{u: u, vol: vol, class: class}
}

// add takes a chunk that lies at from. data is the rewriter's from then on.
func (w *rewriter) add(ctx context.Context, id fsapi.ChunkID, from fsapi.Location, ino fsapi.Ino, off int64, data []byte) error {
	if w.b == nil {
		w.b = w.u.o.Store.NewRepack(ctx, w.vol, w.class)
		w.from = make(map[fsapi.ChunkID]fsapi.Location)
	}
	if _, ok := w.from[id]; ok {
		return nil
	}
	if err := w.b.AddChunk(ctx, id, ino, off, data); err != nil {
		w.abort()
		return err
	}
	w.from[id] = from
	w.bytes += int64(len(data))
	w.u.count.bytesMoved.Add(uint64(len(data)))
	if w.bytes >= w.u.o.BatchBytes {
		return w.flush(ctx)
	}
	return nil
}

// flush makes what was gathered durable, as safe as it was, and relocates it. Where
// that cannot be now it stays where it lies, and the error is postponed.
func (w *rewriter) flush(ctx context.Context) error {
	if w.b == nil {
		return nil
	}
	b := w.b
	w.b, w.bytes = nil, 0
	st, err := b.Finish(ctx, blob.Segment)
	if err != nil {
		return err
	}
	moves := make([]fsapi.Moved, 0, len(st.Chunks))
	sources := map[fsapi.SegmentID][]fsapi.SegmentID{}
	for _, c := range st.Chunks {
		from := w.from[c.ID]
		moves = append(moves, fsapi.Moved{Chunk: c.ID, From: from, To: c.Loc})
		if to := c.Loc.Segment; !slices.Contains(sources[to], from.Segment) {
			sources[to] = append(sources[to], from.Segment)
		}
	}
	stay, err := w.stay(ctx, sources)
	if err == nil {
		err = w.u.cover(ctx, st.Segments, stay)
	}
	if err != nil {
		w.u.abandon(ctx, st.Segments)
		return err
	}
	n, err := w.u.o.Meta.Relocate(ctx, w.vol, st.Segments, moves)
	w.moved += n
	if err == nil {
		for to, from := range sources {
			w.u.o.Tiering.Heat.Inherit(to, from)
		}
	}
	return err
}

// stay are the tiers on which what a new segment is made of has copies that stay.
func (w *rewriter) stay(ctx context.Context, sources map[fsapi.SegmentID][]fsapi.SegmentID) (map[fsapi.SegmentID][]string, error) {
	known := map[fsapi.SegmentID][]string{}
	stay := make(map[fsapi.SegmentID][]string, len(sources))
	for to, from := range sources {
		for _, id := range from {
			tiers, ok := known[id]
			if !ok {
				var err error
				if tiers, err = w.tiers(ctx, id); err != nil {
					return nil, err
				}
				known[id] = tiers
			}
			stay[to] = union(stay[to], tiers)
		}
	}
	return stay, nil
}

// tiers are those on which one source has copies that stay.
func (w *rewriter) tiers(ctx context.Context, id fsapi.SegmentID) ([]string, error) {
	if id.IsJournal() {
		if w.sure {
			return pinnedTiers(w.class.Copies), nil
		}
		return nil, nil
	}
	s, err := w.u.o.Meta.Segment(ctx, id)
	if err != nil {
		return nil, notGone(err)
	}
	return w.u.stays(&s), nil
}

// union adds to a list what it has not.
func union(list, more []string) []string {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// abort drops what was gathered.
func (w *rewriter) abort() {
	if w.b != nil {
		w.b.Abort()
		w.b, w.bytes = nil, 0
	}
}

// classOf is how a volume wants data stored, or the default where it is gone
// already.
func (u *Upkeep) classOf(ctx context.Context, vol fsapi.VolumeID) (blob.Class, error) {
	p, err := u.o.Meta.VolumePolicy(ctx, vol)
	return blob.ClassOf(p), err
}

// Doubt is something that was kept because it could not be proven dead.
type Doubt struct {
	Segment fsapi.SegmentID // zero where the name is none of a segment
	Drive   fsapi.DriveID   // zero where it is not about one drive
	Name    string          // of the blob, where Segment is zero
	Err     error
}

// String says what was kept and why.
func (d Doubt) String() string {
	what := d.Name
	if !d.Segment.IsZero() {
		what = "segment " + d.Segment.String()
	}
	if d.Drive != 0 {
		what += fmt.Sprintf(" on drive %v", d.Drive)
	}
	return what + ": " + d.Err.Error()
}

func (u *Upkeep) doubt(list *[]Doubt, d Doubt) {
	u.count.doubts.Add(1)
	u.o.Log.Warn("kept because of a doubt", "what", d.String())
	*list = append(*list, d)
}
