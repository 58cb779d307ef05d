package meta

import (
	"context"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Whatever refers to a segment is found; an extent whose chunk has moved does not.
func TestReferred(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	of := map[fsapi.SegmentID]bool{segID(1): true, segID(9): true}
	want := func(when, what string) {
		t.Helper()
		found, err := f.s.Referred(ctx, of)
		if err != nil || !strings.Contains(found[segID(1)], what) || what == "" && len(found) > 0 {
			t.Errorf("%s: %v, %v; want %q", when, found, err, what)
		}
		if _, ok := found[segID(9)]; ok {
			t.Errorf("%s: something refers to a segment that never was", when)
		}
	}
	chunk := chunkKey(nil, tabChunk, f.vol, &fsapi.ChunkID{1, 1})
	var lies, moved []byte
	take := func(to *[]byte) {
		t.Helper()
		err := f.s.e.View(ctx, func(r kv.Reader) (err error) {
			*to, _, err = r.Get(chunk)
			*to = append([]byte(nil), *to...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(v []byte) {
		t.Helper()
		err := f.s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
			if v == nil {
				w.Delete(chunk)
			} else {
				w.Put(chunk, v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	a := f.make(fsapi.RootIno, "a", fsapi.TypeRegular)
	f.write(a, 0, 4096, 1)
	take(&lies)
	want("a chunk lies there", "chunk")
	moves := []fsapi.Moved{{Chunk: fsapi.ChunkID{1, 1}, From: fsapi.Location{Segment: segID(1), Offset: 64, Length: 1000}, To: fsapi.Location{Segment: segID(2), Offset: 64, Length: 1000}}}
	if n, err := f.s.Relocate(ctx, f.vol, []fsapi.Segment{testSegment(f.vol, 2)}, moves); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	take(&moved)
	want("the chunk has moved", "")
	put(nil)
	want("the chunk is not on record", "inode")
	put(moved)
	f.snapshot("before")
	f.write(a, 0, 4096, 3)
	put(nil)
	want("for a snapshot the chunk is not on record", "inode")
	put(moved)
	want("for a snapshot the chunk has moved", "")
	put(lies[:len(lies)-1])
	if found, err := f.s.Referred(ctx, of); err == nil {
		t.Errorf("a damaged record of a chunk says nothing: %v", found)
	}
}
