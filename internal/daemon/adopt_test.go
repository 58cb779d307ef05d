package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// TestAdoptsWhatReplacesTheDamaged: of a chunk that lies in a recorded segment and in
// one that no record knows the record stays as it is, unless the recorded segment is
// there by its name only.
func TestAdoptsWhatReplacesTheDamaged(t *testing.T) {
	r := newClaimRig(t)
	ctx := t.Context()
	r.open(func(n *Node) {
		vol := n.volumes.all()[0].id
		p, err := n.meta.VolumePolicy(ctx, vol)
		r.must(err)
		data := bytes.Repeat([]byte("data"), 10_000) // one chunk
		store := func(add func(*blob.Batch) error) *fsapi.Stored {
			b := n.blob.NewBatch(ctx, vol, blob.ClassOf(p))
			r.must(add(b))
			st, err := b.Finish(ctx, blob.Segment)
			r.must(err)
			return st
		}
		st := store(func(b *blob.Batch) error { _, err := b.AddNew(ctx, 0, 0, data, false); return err })
		chunk, was := st.Chunks[0].ID, st.Segments[0].ID
		ext := fsapi.Extent{Len: int64(len(data)), Kind: fsapi.ExtentData, Chunk: chunk, ChunkLen: uint32(len(data)), Loc: st.Chunks[0].Loc}
		_, err = n.meta.Update(ctx, vol, kv.UpdateOptions{}, func(tx *meta.Tx) error {
			root, err := tx.Inode(fsapi.RootIno)
			if err != nil {
				return err
			}
			in, err := tx.Create(root, "file", meta.NewInode{Type: fsapi.TypeRegular, Mode: 0o600})
			if err != nil {
				return err
			}
			if err := tx.Record(st); err != nil {
				return err
			}
			in.Size = ext.Len
			if err := tx.SetExtents(in, 0, ext.Len, []fsapi.Extent{ext}); err != nil {
				return err
			}
			return tx.SetInode(in)
		})
		r.must(err)
		next := store(func(b *blob.Batch) error { return b.AddChunk(ctx, chunk, 0, 0, data) }).Segments[0].ID

		adopt := func() (lies fsapi.SegmentID, said []string) {
			t.Helper()
			present, err := findParts(ctx, n.blobDrives())
			r.must(err)
			a := newAdoption(n, present, func(text string) error { said = append(said, text); return nil })
			r.must(a.segment(ctx, next, present[next]))
			c, err := n.meta.Chunk(ctx, vol, chunk)
			r.must(err)
			return c.Loc.Segment, said
		}
		if lies, said := adopt(); lies != was || len(said) != 0 {
			t.Errorf("the chunk is recorded in segment %v, not %v; %q", lies, was, said)
		}
		path := filepath.Join(r.cfg.Drives[0].Path, blob.SegmentName(was))
		r.must(os.Truncate(path, 100))
		lies, said := adopt()
		if lies != next {
			t.Errorf("the chunk is recorded in segment %v, which does not open, not in %v", lies, next)
		}
		if len(said) != 1 || !strings.Contains(said[0], was.String()) {
			t.Errorf("of the segment that does not open it is said %q", said)
		}
		got := make([]byte, len(data))
		if err := n.blob.ReadExtent(ctx, vol, &ext, 0, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the file cannot be read: %v", err)
		}
	})
}
