package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// adopt takes what the metadata does not know from the drives: drives that
// moved, and segments written after the last batch that was restored.
func (r *rebuild) adopt(ctx context.Context, n *Node) error {
	if err := r.moveDrives(ctx, n); err != nil {
		return err
	}
	present, err := findParts(ctx, n.blobDrives())
	if err != nil {
		return err
	}
	a := newAdoption(n, present, func(text string) error { return r.emit(api.FsckEvent{Problem: text}) })
	done := int64(0)
	for id, on := range present {
		done++
		if err := r.emit(api.FsckEvent{Phase: "read segments' directories", Done: done, Total: int64(len(present))}); err != nil {
			return err
		}
		if _, err := n.meta.Segment(ctx, id); !errors.Is(err, fsapi.NotExist) {
			if err != nil {
				return err
			}
			continue
		}
		if err := a.segment(ctx, id, on); err != nil {
			if err := a.problem(fmt.Sprintf("segment %v, which no restored record knows: %v", id, err)); err != nil {
				return err
			}
		}
	}
	return n.meta.Sync(ctx)
}

// adoption records unknown segments.
type adoption struct {
	n       *Node
	present map[fsapi.SegmentID]*foundParts
	made    map[fsapi.SegmentID]bool // by salvage
	opens   map[fsapi.SegmentID]bool // whether what was found of it does, as far as somebody asked
	problem func(text string) error  // says what is damaged
}

func newAdoption(n *Node, present map[fsapi.SegmentID]*foundParts, problem func(string) error) *adoption {
	return &adoption{n: n, present: present, made: map[fsapi.SegmentID]bool{}, opens: map[fsapi.SegmentID]bool{}, problem: problem}
}

// segment records one segment with what is needed of it: chunks whose recorded
// place is gone are pointed here; chunks that are new go to lost+found, by the
// inode and offset that the directory names. The copies it should have are those
// found, with the shards that are missing: what its policy said is not known, and
// 'strake job start relayout' makes it hold again. The error of a segment that was
// recorded is of parts that do not say what they are, and so are not on record.
func (a *adoption) segment(ctx context.Context, id fsapi.SegmentID, parts *foundParts) error {
	copies, bad := parts.copies(ctx, a.n.blob)
	r, err := parts.open(ctx, a.n.blob, id, copies)
	if err != nil {
		copies = parts.widened(copies)
		if again, werr := parts.open(ctx, a.n.blob, id, copies); werr == nil {
			r, err = again, nil
		}
	}
	if err != nil && fsapi.KindOf(err) != fsapi.NotSupported && ctx.Err() == nil {
		err = errors.Join(err, a.salvage(ctx, id, parts, copies))
	}
	if err != nil {
		return errors.Join(err, bad)
	}
	rec := r.Record()
	for i := range copies {
		c := &copies[i]
		if c.Sharded() && c.size != rec.Size {
			continue // of something else
		}
		rec.Copies, rec.Want = append(rec.Copies, c.CopyPlace), append(rec.Want, c.want())
	}
	var moves []fsapi.Moved
	fresh := map[fsapi.Ino][]blob.DirEntry{}
	for _, e := range r.Directory() {
		from, lost, err := a.lost(ctx, rec.Volume, e.Chunk)
		switch {
		case err != nil:
			return err
		case lost && from == fsapi.Location{}:
			fresh[e.Ino] = append(fresh[e.Ino], e)
		case lost:
			moves = append(moves, fsapi.Moved{Chunk: e.Chunk, From: from, To: r.Location(e)})
		}
	}
	if len(moves) == 0 && len(fresh) == 0 {
		return nil // nothing needs it: the orphan sweep will look again
	}
	if _, err := a.n.meta.Relocate(ctx, rec.Volume, []fsapi.Segment{rec}, moves); err != nil {
		return err
	}
	for ino, entries := range fresh {
		if err := a.found(ctx, rec.Volume, fmt.Sprintf("inode-%d-%s", ino, id), entries, r.Location); err != nil {
			return err
		}
	}
	return bad
}

// lost reports whether a chunk is known nowhere, or only at a place, from, that is
// gone.
func (a *adoption) lost(ctx context.Context, vol fsapi.VolumeID, id fsapi.ChunkID) (from fsapi.Location, lost bool, err error) {
	c, err := a.n.meta.Chunk(ctx, vol, id)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return from, true, nil
	case err != nil:
		return from, false, err
	}
	if c.Loc.Segment.IsJournal() {
		return c.Loc, false, nil
	}
	there, err := a.there(ctx, c.Loc.Segment)
	return c.Loc, !there, err
}

// there reports whether a segment can be read from what was found of it: whether its
// header and directory can, from one of its copies. That is looked for once, which
// takes a few requests, of the segments that share chunks with those that are
// adopted. One of which that is not known now is there.
func (a *adoption) there(ctx context.Context, id fsapi.SegmentID) (bool, error) {
	if a.made[id] {
		return true, nil
	}
	parts := a.present[id]
	if parts == nil {
		return false, nil
	}
	if opens, known := a.opens[id]; known {
		return opens, nil
	}
	copies, _ := parts.copies(ctx, a.n.blob)
	_, err := parts.open(ctx, a.n.blob, id, copies)
	if err != nil && ctx.Err() != nil {
		return false, err
	}
	kind := fsapi.KindOf(err)
	a.opens[id] = err == nil || kind != fsapi.Corrupt && kind != fsapi.NotExist
	if a.opens[id] {
		return true, nil
	}
	return false, a.problem(fmt.Sprintf("segment %v does not open: what newer segments have of it is read from them: %v", id, err))
}

// found makes a file in lost+found of chunks, by their places in it. Its name has
// the inode number, where that is known, and the segment, so that two versions of a
// file are never mixed.
func (a *adoption) found(ctx context.Context, vol fsapi.VolumeID, name string, entries []blob.DirEntry, at func(blob.DirEntry) fsapi.Location) error {
	stored := &fsapi.Stored{}
	var exts []fsapi.Extent
	end := int64(0)
	for _, e := range entries {
		stored.Chunks = append(stored.Chunks, fsapi.Chunk{ID: e.Chunk, Len: e.Len, Loc: at(e)})
		if e.FileOff < end { // a chunk stored twice over: the first stays
			continue
		}
		exts = append(exts, fsapi.Extent{Off: e.FileOff, Len: int64(e.Len), Kind: fsapi.ExtentData, Chunk: e.Chunk, ChunkLen: e.Len, Loc: at(e)})
		end = e.FileOff + int64(e.Len)
	}
	_, err := a.n.meta.Update(ctx, vol, kv.UpdateOptions{}, func(tx *meta.Tx) error {
		dir, err := lostAndFound(tx)
		if err != nil {
			return err
		}
		in, err := tx.Create(dir, name, meta.NewInode{Type: fsapi.TypeRegular, Mode: 0o600})
		if err != nil {
			return err
		}
		if err := tx.Record(stored); err != nil {
			return err
		}
		in.Size = end
		if err := tx.SetExtents(in, 0, end, exts); err != nil {
			return err
		}
		return tx.SetInode(in)
	})
	return err
}

// lostAndFound finds or makes the directory of that name in the root.
func lostAndFound(tx *meta.Tx) (*meta.Inode, error) {
	const name = "lost+found"
	in, err := tx.Lookup(fsapi.RootIno, name)
	if !errors.Is(err, fsapi.NotExist) {
		return in, err
	}
	root, err := tx.Inode(fsapi.RootIno)
	if err != nil {
		return nil, err
	}
	return tx.Create(root, name, meta.NewInode{Type: fsapi.TypeDirectory, Mode: 0o700})
}
