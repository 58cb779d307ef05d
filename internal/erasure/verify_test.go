package erasure

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// where is the part and number of what lies at a byte of a blob.
func where(l Layout, index int, off int64) (Part, int) {
	switch {
	case off < HeaderSize:
		return PartHeader, 0
	case off < l.tableOffset(index):
		return PartBlock, int((off - HeaderSize) / int64(l.BlockSize+sumSize))
	case off < l.BlobSize(index)-HeaderSize:
		return PartTable, int((off - l.tableOffset(index)) / int64(l.tableRow()))
	}
	return PartTrailer, 0
}

func (s *shards) verify(t testing.TB, c *Coder, i int) []Fault {
	t.Helper()
	faults, err := c.Verify(t.Context(), Header{s.id, s.l, i}, int64(len(s.blobs[i])), s.blob(i))
	if err != nil {
		t.Fatalf("verify shard %d: %v", i, err)
	}
	return faults
}

// Every byte of a blob counts, and a wrong one is named by its part.
func TestEveryFlippedByteIsNamed(t *testing.T) {
	for _, l := range []Layout{{K: 2, M: 1, SegmentSize: 2500, BlockSize: 512}, {K: 4, M: 2, SegmentSize: 600, BlockSize: 512}} {
		s := encode(t, small(), l, content(1, l.SegmentSize))
		for i := range l.Shards() {
			if faults := s.verify(t, small(), i); len(faults) > 0 {
				t.Errorf("healthy shard %d of %+v: %v", i, l, faults)
			}
			for off := range l.BlobSize(i) {
				part, number := where(l, i, off)
				faults := s.flip(i, off).verify(t, small(), i)
				if len(faults) != 1 || faults[0].Part != part || faults[0].Number != number || !errors.Is(faults[0].Err, fsapi.Corrupt) {
					t.Fatalf("byte %d of shard %d flipped: %+v, want part %d number %d", off, i, faults, part, number)
				}
			}
		}
	}
}

func TestTruncatedBlobs(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 5000, BlockSize: 512}
	s := encode(t, small(), l, content(1, l.SegmentSize))
	whole := s.blobs[1]
	for n := range len(whole) {
		s.blobs[1] = whole[:n]
		bad := map[int]bool{}
		size := false
		for _, f := range s.verify(t, small(), 1) {
			size = size || f.Part == PartBlob
			if f.Part == PartBlock {
				bad[f.Number] = true
			}
		}
		for b := range l.Blocks(1) {
			if end := l.slot(b) + int64(l.BlockLen(1, b)+sumSize); bad[b] != (end > int64(n)) {
				t.Fatalf("cut to %d: block %d, which ends at %d, bad: %v", n, b, end, bad[b])
			}
		}
		if !size {
			t.Fatalf("cut to %d: not told", n)
		}
		got, faults, err := s.rebuilt(t, small(), []int{1, 0, 2}, []int{1})
		if err != nil || !bytes.Equal(got[1], whole) || len(faults) == 0 && n < len(whole)-HeaderSize {
			t.Fatalf("cut to %d: rebuild: %v", n, err)
		}
	}
	s.blobs[1] = append(bytes.Clone(whole), 0)
	if faults := s.verify(t, small(), 1); len(faults) != 1 || faults[0].Part != PartBlob {
		t.Errorf("a byte too many: %v", faults)
	}
}

// A shard whose table tells of other blocks than it has is not healthy, though
// every checksum is right.
func TestATableOfOtherBlocksIsNamed(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 2500, BlockSize: 512}
	s, other := encode(t, small(), l, content(1, l.SegmentSize)), encode(t, small(), l, content(2, l.SegmentSize))
	at := l.tableOffset(1)
	copy(s.blobs[1][at:], other.blobs[1][at:])
	faults := s.verify(t, small(), 1)
	if len(faults) != l.Blocks(1) || faults[0].Part != PartTable || faults[0].Number != 0 {
		t.Errorf("faults %v, want one a row", faults)
	}
}

// A sector that cannot be read costs its own block; a blob that cannot be read is
// an error.
func TestVerifyReadsRoundBadSectors(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 50_000, BlockSize: 512}
	s := encode(t, New(Config{}), l, content(1, l.SegmentSize))
	s.fail = func(_ int, off int64, n int) error {
		if x := l.slot(5); off <= x && x < off+int64(n) {
			return fsapi.Errorf(fsapi.IO, "bad sector")
		}
		return nil
	}
	faults := s.verify(t, New(Config{}), 0)
	if len(faults) != 1 || faults[0].Part != PartBlock || faults[0].Number != 5 || !errors.Is(faults[0].Err, fsapi.IO) {
		t.Errorf("faults %v, want block 5", faults)
	}
	s.fail = func(int, int64, int) error { return fsapi.Errorf(fsapi.IO, "dead") }
	if _, err := small().Verify(t.Context(), Header{testID, l, 0}, l.BlobSize(0), s.blob(0)); !errors.Is(err, fsapi.IO) {
		t.Errorf("a dead drive: %v", err)
	}
	if s.reads > 200 {
		t.Errorf("%d reads: a dead drive was asked for every block", s.reads)
	}
	s.fail, s.blobs[0] = nil, nil
	if _, err := small().Verify(t.Context(), Header{testID, l, 0}, l.BlobSize(0), s.blob(0)); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("a blob that is gone: %v", err)
	}
}

func TestABlobSaysWhatItIs(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 5000, BlockSize: 512}
	s := encode(t, small(), l, content(1, l.SegmentSize))
	for i := range 3 {
		want, size := Header{testID, l, i}, l.BlobSize(i)
		for what, x := range map[string]*shards{"whole": s, "header rotten": s.flip(i, 20), "trailer rotten": s.flip(i, size-3)} {
			if h, err := Identify(t.Context(), size, x.blob(i)); err != nil || h != want {
				t.Errorf("%s: %+v, %v", what, h, err)
			}
		}
		if _, err := Identify(t.Context(), size, s.flip(i, 20).flip(i, size-20).blob(i)); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("both rotten: %v", err)
		}
	}
}

func TestHeadersOutOfBoundsAreRefused(t *testing.T) {
	good := Header{testID, Layout{K: 2, M: 1, SegmentSize: 5000, BlockSize: 512}, 1}
	for i, change := range []func(h *Header){
		func(h *Header) { h.Layout.K = 0 },
		func(h *Header) { h.Layout.M = 31 },
		func(h *Header) { h.Index = 3 },
		func(h *Header) { h.Layout.SegmentSize = 0 },
		func(h *Header) { h.Layout.SegmentSize = MaxSegment + 1 },
		func(h *Header) { h.Layout.SegmentSize = -1 },
		func(h *Header) { h.Layout.SegmentSize = MaxSegment },
		func(h *Header) { h.Layout.BlockSize = 0 },
		func(h *Header) { h.Layout.BlockSize = 513 },
		func(h *Header) { h.Layout.BlockSize = MaxBlock * 2 },
	} {
		h, b := good, make([]byte, HeaderSize)
		change(&h)
		h.Put(b)
		if _, err := ParseHeader(b); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("header %d: %v", i, err)
		}
		if err := h.Check(); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("check %d: %v", i, err)
		}
	}
	b := make([]byte, HeaderSize)
	good.Put(b)
	if h, err := ParseHeader(b); err != nil || h != good {
		t.Errorf("the good one: %+v, %v", h, err)
	}
	if _, err := ParseTrailer(b); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("a header as trailer: %v", err)
	}
}

func FuzzParseHeader(f *testing.F) {
	b := make([]byte, HeaderSize)
	Header{testID, Layout{K: 10, M: 4, SegmentSize: 64 << 20, BlockSize: 64 << 10}, 13}.Put(b)
	f.Add(b)
	Header{testID, Layout{K: 1, M: 0, SegmentSize: 1, BlockSize: 512}, 0}.Put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		again := make([]byte, HeaderSize)
		h.Put(again)
		if !bytes.Equal(again, b[:HeaderSize]) {
			t.Errorf("%+v is written otherwise than it was read", h)
		}
		if h.Layout.BlobSize(h.Index) <= 0 || h.Layout.Rows() > MaxRows {
			t.Errorf("%+v passed", h)
		}
	})
}

// Whatever happens to a blob, Verify tells of it, and with the others it is
// rebuilt as it was.
func FuzzVerify(f *testing.F) {
	l := Layout{K: 2, M: 2, SegmentSize: 1500, BlockSize: 512}
	s := &shards{id: testID, l: l, bytes: map[int]int64{}}
	for i := range 4 {
		b, err := os.ReadFile(filepath.Join("testdata", "v1-2+2-1500-512", []string{"shard-0", "shard-1", "shard-2", "shard-3"}[i]))
		if err != nil {
			f.Fatal(err)
		}
		s.blobs = append(s.blobs, b)
		f.Add(b, uint8(i))
		f.Add(b[:len(b)/2], uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, index uint8) {
		i := int(index) % 4
		x := s.without()
		x.blobs[i] = b
		faults, err := small().Verify(t.Context(), Header{testID, l, i}, int64(len(b)), x.blob(i))
		if err != nil {
			t.Fatal(err)
		}
		if len(faults) == 0 && !bytes.Equal(b, s.blobs[i]) {
			t.Error("a blob of other bytes was found healthy")
		}
		got, _, err := x.rebuilt(t, small(), []int{i, (i + 1) % 4, (i + 2) % 4, (i + 3) % 4}, []int{i})
		if err != nil || !bytes.Equal(got[i], s.blobs[i]) {
			t.Errorf("rebuild: %v", err)
		}
	})
}
