package meta

import (
	"context"
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// TestSweepAndDuplicateConflict lets a sweep delete a chunk after a transaction
// has read its record in order to refer to it (D1).
func TestSweepAndDuplicateConflict(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	b := f.make(fsapi.RootIno, "b", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	if err := f.remove(fsapi.RootIno, "a", KeepNone); err != nil {
		t.Fatal(err)
	}
	f.reclaim()
	runs := 0
	err := f.try(func(tx *Tx) error {
		in, err := tx.Inode(b)
		if err != nil {
			return err
		}
		in.Size = 10
		err = tx.SetExtents(in, 0, 10, []fsapi.Extent{{Len: 10, Kind: fsapi.ExtentData, Chunk: fsapi.ChunkID{1, 1}}})
		if runs++; runs == 1 {
			if err != nil {
				return err
			}
			if n, _, err := f.s.SweepChunks(ctx, 10); n != 1 || err != nil {
				t.Errorf("swept %d, %v", n, err)
			}
		}
		return err
	})
	if !errors.Is(err, fsapi.Conflict) || runs != 2 {
		t.Errorf("after %d runs: %v", runs, err)
	}
	f.clean()
}

// TestSweepLosesAgainstNewReference is the other order.
func TestSweepLosesAgainstNewReference(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	if err := f.remove(fsapi.RootIno, "a", KeepNone); err != nil {
		t.Fatal(err)
	}
	f.reclaim()
	b := f.make(fsapi.RootIno, "b", fsapi.TypeRegular)
	candidate := chunkKey(nil, tabSweep, f.vol, &fsapi.ChunkID{1, 1})
	runs := 0
	err := f.s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		gone, err := sweepChunk(w, candidate)
		if runs++; runs == 1 {
			if !gone {
				t.Error("not swept in the first run")
			}
			f.write(b, 0, 10, 1)
		} else if gone {
			t.Error("swept with a reference")
		}
		return err
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
	f.clean()
}

func TestSegmentGoesOnlyWhenNothingLives(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	id := segID(1)
	if err := f.s.Condemn(ctx, id); !errors.Is(err, fsapi.Busy) {
		t.Errorf("condemning a live segment: %v", err)
	}
	var uses []SegmentUse
	if err := f.s.Segments(ctx, fsapi.SegmentID{}, func(u SegmentUse) bool { uses = append(uses, u); return true }); err != nil || len(uses) != 1 || uses[0].Live != 1000 {
		t.Errorf("segments: %+v, %v", uses, err)
	}
	to := fsapi.Location{Segment: segID(2), Offset: 3, Length: 900}
	chunk := fsapi.ChunkID{1, 1}
	moves := []fsapi.Moved{{Chunk: chunk, From: fsapi.Location{Segment: id, Offset: 64, Length: 1000}, To: to}, {Chunk: fsapi.ChunkID{5}, To: to}}
	if n, err := f.s.Relocate(ctx, f.vol, []fsapi.Segment{testSegment(f.vol, 2)}, moves); n != 1 || err != nil {
		t.Errorf("relocated %d, %v", n, err)
	}
	// Another moved it first: it stays there.
	late := []fsapi.Moved{{Chunk: chunk, From: moves[0].From, To: fsapi.Location{Segment: segID(3), Offset: 3, Length: 900}}}
	if n, err := f.s.Relocate(ctx, f.vol, nil, late); n != 0 || err != nil {
		t.Errorf("relocated %d from where it lay, %v", n, err)
	}
	if c, err := f.s.Chunk(ctx, f.vol, chunk); err != nil || c.Loc != to {
		t.Errorf("chunk: %+v, %v", c, err)
	}
	if err := f.s.DropSegment(ctx, id, []fsapi.ChunkID{chunk}); !errors.Is(err, fsapi.Busy) {
		t.Errorf("dropping what is not condemned: %v", err)
	}
	if err := f.s.Condemn(ctx, id); err != nil {
		t.Fatal(err)
	}
	if s, err := f.s.Segment(ctx, id); err != nil || s.Condemned.IsZero() {
		t.Errorf("condemned: %+v, %v", s, err)
	}
	if err := f.s.Absolve(ctx, id); err != nil {
		t.Error(err)
	}
	if err := f.s.DropSegment(ctx, id, nil); !errors.Is(err, fsapi.Busy) {
		t.Errorf("dropping an absolved one: %v", err)
	}
	if err := f.s.Condemn(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := f.s.PutHeats(ctx, []fsapi.Heat{{Segment: id, Count: 1}, {Segment: segID(77), Count: 2}}); err != nil {
		t.Fatal(err)
	}
	heats := func() (list []fsapi.Heat) {
		if err := f.s.Heats(ctx, func(h fsapi.Heat) bool { list = append(list, h); return true }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := heats(); len(got) != 1 || got[0].Segment != id || got[0].Count != 1 {
		t.Errorf("accesses of one segment there is: %+v", got)
	}
	defer func() {
		if got := heats(); len(got) != 0 {
			t.Errorf("accesses of a dropped segment: %+v", got)
		}
	}()
	count := func(n int64) {
		if err := f.s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error { w.Add(segmentKey(nil, tabLive, id), n); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	count(5)
	if err := f.s.DropSegment(ctx, id, nil); !errors.Is(err, fsapi.Busy) {
		t.Errorf("dropping one in which something is counted live: %v", err)
	}
	count(-5)
	if err := f.s.DropSegment(ctx, id, []fsapi.ChunkID{chunk}); err != nil {
		t.Error(err)
	}
	if _, err := f.s.Segment(ctx, id); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("dropped: %v", err)
	}
	f.clean()
}

func TestJournalFramesUntilPacked(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.furnish()
	list, err := f.s.JournalFrames(ctx, f.vol, 10, 0)
	if err != nil || len(list) != 1 || string(list[0].Data) != "12345" || list[0].Chunk != (fsapi.ChunkID{77}) {
		t.Fatalf("frames: %+v, %v", list, err)
	}
	if n, err := f.s.JournalBytes(ctx); n != 5 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if data, err := f.s.JournalFrame(ctx, f.vol, list[0].Loc); err != nil || string(data) != "12345" {
		t.Errorf("frame: %q, %v", data, err)
	}
	_, err = f.s.Relocate(ctx, f.vol, []fsapi.Segment{testSegment(f.vol, 9)}, []fsapi.Moved{{Chunk: list[0].Chunk, From: list[0].Loc, To: fsapi.Location{Segment: segID(9), Length: 5}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.s.JournalFrame(ctx, f.vol, list[0].Loc); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("packed frame: %v", err)
	}
	if n, err := f.s.JournalBytes(ctx); n != 0 || err != nil {
		t.Errorf("%d bytes after packing, %v", n, err)
	}
	f.clean()
}

// TestUnusedChunkIsSwept: a file may be truncated while its data is stored.
func TestUnusedChunkIsSwept(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.do(func(tx *Tx) error {
		return tx.Record(&fsapi.Stored{
			Segments: []fsapi.Segment{testSegment(f.vol, 1)},
			Chunks:   []fsapi.Chunk{{ID: fsapi.ChunkID{3}, Len: 4, Loc: fsapi.Location{Segment: segID(1), Length: 10}}},
		})
	})
	f.clean()
	if n, more, err := f.s.SweepChunks(ctx, 10); n != 1 || more || err != nil {
		t.Errorf("swept %d, %v, %v", n, more, err)
	}
	f.clean()
}
