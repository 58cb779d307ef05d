package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

const vol fsapi.VolumeID = 7

// rig is a store over drives and an index in memory.
type rig struct {
	*blob.Store
	x      *blobtest.Index
	keys   blobtest.Keys
	set    *blob.DriveSet
	drives []*blobtest.Drive
	bad    chan blob.BadReplica
}

func newRig(t testing.TB, cipher fsapi.Cipher, drives int, change func(*blob.Options)) *rig {
	t.Helper()
	r := &rig{x: blobtest.NewIndex(), keys: blobtest.Keys{Cipher: cipher}, set: blob.NewDriveSet(), bad: make(chan blob.BadReplica, 1000)}
	for i := range drives {
		d := blobtest.NewDrive(fsapi.DriveID(i + 1))
		r.drives = append(r.drives, d)
		r.set.Add(d)
	}
	o := blob.Options{Index: r.x, Keys: r.keys, Drives: r.set, Workers: 4, Bad: func(b blob.BadReplica) {
		select {
		case r.bad <- b:
		default:
		}
	}}
	if change != nil {
		change(&o)
	}
	s, err := blob.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Store = s
	t.Cleanup(func() { s.Close() })
	return r
}

func class(replicas int, compression policy.Compression, c policy.Chunking) blob.Class {
	return blob.Class{Copies: []policy.Copy{{Tier: "hot", Replicas: replicas}}, Compression: compression, Chunking: c}
}

var cdc = policy.Default().Chunking

// bytesOf makes n bytes: random, text-like, zero.
func bytesOf(seed uint64, n int, kind string) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	switch kind {
	case "random":
		r.Read(b)
	case "text":
		rr := rand.New(r)
		for i := 0; i < n; {
			i += copy(b[i:], fmt.Sprintf("line %d of some text that repeats itself\n", rr.IntN(1000)))
		}
	}
	return b
}

// store puts data as a file and records it.
func (r *rig) store(t testing.TB, c blob.Class, mode blob.Mode, data []byte) *fsapi.Stored {
	t.Helper()
	b := r.NewBatch(t.Context(), vol, c)
	if n, err := b.Add(t.Context(), 5, 1000, data, false); err != nil || n != len(data) {
		t.Fatalf("Add: %d of %d bytes: %v", n, len(data), err)
	}
	st, err := b.Finish(t.Context(), mode)
	if err != nil {
		t.Fatal(err)
	}
	r.x.Record(vol, st)
	return st
}

// read is a file of n bytes that starts at 1000, from its extents.
func (r *rig) read(ctx context.Context, exts []fsapi.FileExtent, n int) ([]byte, error) {
	got := make([]byte, n)
	for i := range exts {
		e := &exts[i].Extent
		if err := r.ReadExtent(ctx, vol, e, 0, got[e.Off-1000:][:e.Len]); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cipher := rapid.SampledFrom([]fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20}).Draw(rt, "cipher")
		comp := rapid.SampledFrom([]policy.Compression{"auto", "none", "s2", "zstd-1", "zstd-19"}).Draw(rt, "compression")
		ch := rapid.SampledFrom([]policy.Chunking{cdc, {Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10}, {Fixed: 4096}, {Fixed: 1 << 20}}).Draw(rt, "chunking")
		mode := rapid.SampledFrom([]blob.Mode{blob.Auto, blob.Segment}).Draw(rt, "mode")
		r := newRig(t, cipher, 2, func(o *blob.Options) { o.SegmentBytes, o.JournalMax, o.CacheBytes = 1<<20, 128<<10, 4<<20 })
		defer r.Close()
		var data []byte
		for range rapid.IntRange(1, 5).Draw(rt, "pieces") {
			data = append(data, bytesOf(rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(1, 600<<10).Draw(rt, "len"),
				rapid.SampledFrom([]string{"random", "text", "zero"}).Draw(rt, "kind"))...)
		}
		st := r.store(t, class(2, comp, ch), mode, data)
		if mode == blob.Segment && len(st.Journal) > 0 {
			rt.Fatal("journal frames in mode Segment")
		}
		got, err := r.read(t.Context(), st.Extents, len(data))
		if err != nil || !bytes.Equal(got, data) {
			rt.Fatalf("what was read differs: %v", err)
		}
		for range 20 {
			if len(st.Extents) == 0 {
				break
			}
			e := &st.Extents[rapid.IntRange(0, len(st.Extents)-1).Draw(rt, "extent")].Extent
			off := rapid.Int64Range(0, e.Len).Draw(rt, "off")
			p := make([]byte, rapid.Int64Range(0, e.Len-off).Draw(rt, "n"))
			if err := r.ReadExtent(t.Context(), vol, e, off, p); err != nil || !bytes.Equal(p, data[e.Off-1000+off:][:len(p)]) {
				rt.Fatalf("range differs: %v", err)
			}
		}
		for _, s := range st.Segments {
			r.checkSegment(t, s)
		}
	})
}

// checkSegment compares a segment with its record, on all its drives.
func (r *rig) checkSegment(t testing.TB, s fsapi.Segment) {
	t.Helper()
	for _, id := range s.Copies[0].Drives {
		d, _ := r.set.Drive(id)
		sr, err := blob.OpenSegment(t.Context(), d, s.ID, r.keys)
		if err != nil {
			t.Fatal(err)
		}
		if err := sr.Verify(t.Context(), true, nil); err != nil {
			t.Fatal(err)
		}
		rec := sr.Record()
		if rec.Size != s.Size || rec.Payload != s.Payload || rec.Frames != s.Frames || rec.Volume != s.Volume {
			t.Fatalf("the segment says %+v, its record %+v", rec, s)
		}
		for _, e := range sr.Directory() {
			if e.Ino != 5 || e.FileOff < 1000 {
				t.Fatalf("entry %+v does not name its owner", e)
			}
		}
	}
}

func TestDuplicatesAreStoredOnce(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(1, 1<<20, "random")
	twice := append(bytes.Clone(data), data...)
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, twice)
	if len(st.Chunks) != 16 || len(st.Extents) != 32 {
		t.Errorf("%d chunks, %d extents; want 16, 32", len(st.Chunks), len(st.Extents))
	}
	if got, err := r.read(t.Context(), st.Extents, len(twice)); err != nil || !bytes.Equal(got, twice) {
		t.Errorf("read: %v", err)
	}
	again := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, data)
	if len(again.Chunks) != 0 || len(again.Segments) != 0 || len(again.Extents) != 16 {
		t.Errorf("a known file made %d chunks, %d segments", len(again.Chunks), len(again.Segments))
	}
	b := r.NewBatch(t.Context(), vol, class(1, "auto", policy.Chunking{Fixed: 64 << 10}))
	b.AddNew(t.Context(), 1, 0, data[:64<<10], false)
	if st, err := b.Finish(t.Context(), blob.Segment); err != nil || len(st.Chunks) != 1 {
		t.Errorf("AddNew did not store the chunk anew: %v", err)
	}
}

func TestHold(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(2, 5<<20, "random")
	whole := r.store(t, class(1, "none", cdc), blob.Segment, data)
	b := r.NewBatch(t.Context(), vol, class(1, "none", cdc))
	off := 0
	for end := 700_000; ; end += 700_000 {
		last := end >= len(data)
		n, err := b.Add(t.Context(), 1, int64(off), data[off:min(end, len(data))], !last)
		if err != nil {
			t.Fatal(err)
		}
		off += n
		if last {
			break
		}
	}
	if off != len(data) {
		t.Fatalf("%d bytes taken", off)
	}
	st, err := b.Finish(t.Context(), blob.Segment)
	if err != nil || len(st.Chunks) != 0 || len(st.Extents) != len(whole.Extents) {
		t.Errorf("adding in pieces cut differently: %d new chunks: %v", len(st.Chunks), err)
	}
}

func TestZerosAreHoles(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "auto", cdc), blob.Segment, make([]byte, 8<<20))
	if len(st.Extents)+len(st.Chunks)+len(st.Segments) != 0 {
		t.Errorf("zeros were stored: %+v", st)
	}
}

func TestSmallGoesToTheJournal(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(3, 100<<10, "random")
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 4096}), blob.Auto, data)
	if len(st.Journal) != 25 || len(st.Segments) != 0 || len(r.drives[0].Names()) != 0 {
		t.Errorf("%d journal frames, %d segments, blobs %v", len(st.Journal), len(st.Segments), r.drives[0].Names())
	}
	if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %v", err)
	}
	if big := r.store(t, class(1, "auto", cdc), blob.Auto, bytesOf(4, 1<<20, "random")); len(big.Journal) != 0 || len(big.Segments) != 1 {
		t.Errorf("a large batch made %d journal frames, %d segments", len(big.Journal), len(big.Segments))
	}
}

func TestInline(t *testing.T) {
	for _, cipher := range []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20} {
		r := newRig(t, cipher, 1, nil)
		small, text, large := bytesOf(5, 900, "random"), bytesOf(6, 9000, "text"), bytesOf(7, 3000, "random")
		b := r.NewBatch(t.Context(), vol, class(1, "auto", cdc))
		for i, d := range [][]byte{small, text, large, nil, make([]byte, 500)} {
			if err := b.AddInline(t.Context(), fsapi.Ino(i+1), d); err != nil {
				t.Fatal(err)
			}
		}
		st, err := b.Finish(t.Context(), blob.Auto)
		if err != nil || len(st.Extents) != 3 || len(st.Chunks) != 1 {
			t.Fatalf("%d extents, %d chunks: %v", len(st.Extents), len(st.Chunks), err)
		}
		r.x.Record(vol, st)
		for i, d := range [][]byte{small, text, large} {
			e := st.Extents[i]
			if (e.Kind == fsapi.ExtentInline) != (i < 2) || len(e.Inline) > 2048 {
				t.Errorf("file %d: kind %d, %d bytes inline", i, e.Kind, len(e.Inline))
			}
			p := make([]byte, len(d))
			if err := r.ReadExtent(t.Context(), vol, &e.Extent, 0, p); err != nil || !bytes.Equal(p, d) {
				t.Errorf("file %d: %v", i, err)
			}
		}
		e := st.Extents[0].Extent
		for bit := range 8 * len(e.Inline) {
			e.Inline = bytes.Clone(st.Extents[0].Inline)
			e.Inline[bit/8] ^= 1 << (bit % 8)
			if err := r.ReadExtent(t.Context(), vol, &e, 0, make([]byte, 900)); err == nil {
				t.Fatalf("%v: bit %d of an inline frame flipped and nobody noticed", cipher, bit)
			}
		}
	}
}

func TestAbort(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	b := r.NewBatch(t.Context(), vol, class(1, "none", cdc))
	if _, err := b.Add(t.Context(), 1, 0, bytesOf(1, 20<<20, "random"), false); err != nil {
		t.Fatal(err)
	}
	b.Abort()
	b.Abort()
	if _, err := b.Finish(t.Context(), blob.Auto); err == nil {
		t.Error("Finish after Abort succeeded")
	}
	if len(r.drives[0].Names()) != 0 {
		t.Error("an aborted batch left blobs")
	}
}

func TestCancelledFinish(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	b := r.NewBatch(t.Context(), vol, class(1, "none", cdc))
	b.Add(t.Context(), 1, 0, bytesOf(1, 4<<20, "random"), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Finish(ctx, blob.Segment); !errors.Is(err, fsapi.Interrupted) {
		t.Errorf("Finish: %v", err)
	}
}

func TestAddChunkRefusesWrongBytes(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(1, 70_000, "text")
	st := r.store(t, class(1, "auto", cdc), blob.Auto, data)
	b := r.NewRepack(t.Context(), vol, class(1, "auto", cdc))
	b.AddChunk(t.Context(), st.Chunks[0].ID, 1, 0, data)
	got, err := b.Finish(t.Context(), blob.Segment)
	if err != nil || len(got.Chunks) != 1 || len(got.Extents) != 0 || got.Chunks[0].Loc == st.Chunks[0].Loc {
		t.Errorf("AddChunk: %+v, %v", got, err)
	}
	b = r.NewRepack(t.Context(), vol, class(1, "auto", cdc))
	b.AddChunk(t.Context(), st.Chunks[0].ID, 1, 0, data[1:])
	if _, err := b.Finish(t.Context(), blob.Segment); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("a chunk with other bytes than its id was stored: %v", err)
	}
}
