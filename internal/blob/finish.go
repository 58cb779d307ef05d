package blob

import (
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// Finish makes everything durable on its copies, or returns journal frames and
// inline extents that become durable with the caller's transaction. After an
// error nothing may be recorded; what was written is swept later. The result's
// slices belong to the caller. The batch is done either way.
func (b *Batch) Finish(ctx context.Context, mode Mode) (*fsapi.Stored, error) {
	if err := b.ready(ctx); err != nil {
		b.Abort()
		return nil, err
	}
	unhook := context.AfterFunc(ctx, b.cancel)
	defer unhook()
	defer b.Abort()
	b.drain()
	st := &fsapi.Stored{}
	if err := b.settle(mode, st); err != nil {
		if e := ctx.Err(); e != nil {
			err = fsapi.Wrap(fsapi.KindOf(e), e, "store data")
		}
		return nil, err
	}
	b.collect(st)
	return st, nil
}

// drain runs the deferred items and waits for those under way.
func (b *Batch) drain() {
	if len(b.deferred) > 0 {
		b.run(b.takeDeferred())
	}
	b.wg.Wait()
}

// settle sends what is staged to the journal or to a segment, and waits for
// all segments.
func (b *Batch) settle(mode Mode, st *fsapi.Stored) error {
	if err := b.failed(); err != nil {
		return err
	}
	if b.out.cur == nil && mode == Auto {
		return b.toJournal(st)
	}
	if err := b.out.unstage(); err != nil {
		return err
	}
	if err := b.out.close(); err != nil {
		return err
	}
	for _, w := range b.out.segs {
		err := w.wait()
		if err != nil {
			if w, err = b.rewrite(w, err); err != nil {
				return err
			}
		}
		seg := w.record()
		b.honour(w, &seg)
		st.Segments = append(st.Segments, seg)
	}
	return nil
}

// honour makes what was acknowledged before, and moves to a new segment since it
// is shared now, as safe there as it was acknowledged with: what the batch itself
// must write may be less. Where that cannot be it is owed, as the rest is: what
// must be written for another file does not fail this one.
func (b *Batch) honour(w *segWriter, seg *fsapi.Segment) {
	for _, had := range w.had {
		i := slices.IndexFunc(seg.Want, func(c fsapi.CopySpec) bool { return c.Tier == had.Tier })
		if i < 0 || honoured(seg, w.had) {
			return
		}
		added, err := b.st.FillCopy(b.ctx, seg, seg.Want[i], nil)
		if err != nil {
			b.st.o.Log.Warn("data that another file shares is less safe than that file asks until what is owed is written", "segment", seg.ID, "err", err)
		}
		if added.Count() > 0 {
			addParts(seg, seg.Want[i], added)
		}
	}
}

// honoured reports whether a segment is as safe as writing one of the wanted
// copies makes it.
func honoured(seg *fsapi.Segment, want []fsapi.CopySpec) bool {
	for i := range seg.Copies {
		c := &seg.Copies[i]
		spare := c.Count() - max(1, c.K)
		if slices.ContainsFunc(want, func(w fsapi.CopySpec) bool { return spare >= w.Need()-max(1, w.K) }) {
			return true
		}
	}
	return len(want) == 0
}

// addParts puts what FillCopy wrote into the record that it was given.
func addParts(seg *fsapi.Segment, spec fsapi.CopySpec, added fsapi.CopyPlace) {
	c := seg.Copy(spec)
	switch {
	case c == nil:
		seg.Copies = append(seg.Copies, added)
	case c.Sharded():
		for n, d := range added.Drives {
			if d != 0 {
				c.Drives[n] = d
			}
		}
	default:
		c.Drives = append(c.Drives, added.Drives...)
	}
}

func (b *Batch) toJournal(st *fsapi.Stored) error {
	for _, it := range b.out.staged {
		data, err := b.sealJournal(it)
		if err != nil {
			return err
		}
		st.Journal = append(st.Journal, fsapi.JournalFrame{Loc: it.loc, Data: data, Want: b.class.Copies, Ino: it.ino, Off: it.off})
		b.st.stats.bytesJournal.Add(uint64(len(data)))
	}
	return nil
}

// rewrite writes the chunks of a failed segment again, once, as a new segment
// with a new id, without the drives that failed.
func (b *Batch) rewrite(old *segWriter, cause error) (*segWriter, error) {
	if b.ctx.Err() != nil || errors.Is(cause, fsapi.Fenced) {
		return nil, cause
	}
	var bad []fsapi.DriveID
	for _, r := range old.reps {
		if r != nil && r.err != nil {
			bad = append(bad, r.d.Info().ID)
		}
	}
	b.st.o.Log.Warn("a drive failed while a segment was written; writing it again elsewhere", "segment", old.id, "err", cause)
	w, err := b.beginSegment(old.off, bad)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	for _, it := range old.items {
		b.compress(it)
		w.reserve(it, b.frameSize(it)).seal(it)
		b.release(it)
	}
	if err = w.close(); err == nil {
		err = w.wait()
	}
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	b.discard(old)
	return w, nil
}

// discard deletes what a failed segment left on the drives that did commit it.
// What cannot be deleted is an orphan, swept later.
func (b *Batch) discard(w *segWriter) {
	for i, r := range w.reps {
		if r != nil && r.err == nil {
			if err := r.d.Delete(b.ctx, blobName(w.id, w.to.spec.K > 0, i)); err != nil {
				b.st.o.Log.Info("a replica without a record is left to the sweep", "segment", w.id, "err", err)
			}
		}
	}
}

// collect lists chunks and extents in the order in which they were added.
func (b *Batch) collect(st *fsapi.Stored) {
	for _, it := range b.items {
		loc := it.loc
		switch {
		case it.same != nil:
			loc = it.same.loc
		case it.inline == nil && !it.stored && !it.from.IsZero():
			st.Moves = append(st.Moves, fsapi.Moved{Chunk: it.id, From: it.from, To: loc})
		case it.inline == nil && !it.stored:
			st.Chunks = append(st.Chunks, fsapi.Chunk{ID: it.id, Len: uint32(len(it.data)), Loc: loc})
		}
		if it.bare {
			continue
		}
		e := fsapi.FileExtent{Ino: it.ino, Extent: fsapi.Extent{
			Off: it.off, Len: int64(len(it.data)), Kind: fsapi.ExtentData,
			Chunk: it.id, ChunkLen: uint32(len(it.data)), Loc: loc,
		}}
		if it.inline != nil {
			e.Kind, e.Inline = fsapi.ExtentInline, it.inline
		}
		st.Extents = append(st.Extents, e)
	}
}

// Abort drops what was added. It may be called after Finish, and does nothing
// then.
func (b *Batch) Abort() {
	if b.done {
		return
	}
	b.done = true
	b.cancel()
	b.unhook()
	b.fail(fsapi.Errorf(fsapi.Interrupted, "store data: the batch was aborted"))
	b.wg.Wait()
	if b.out.cur != nil {
		b.out.cur.abort()
	}
	for _, w := range b.out.segs {
		w.abort()
		w.wg.Wait()
	}
	for _, it := range b.items {
		b.release(it)
	}
}
