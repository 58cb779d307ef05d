package erasure

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/fsapi"
)

var update = flag.Bool("update", false, "write the golden vectors")

// layouts are small ones with every kind of edge: one byte, less than a block,
// data shards that are empty or short, whole blocks only, no parity, mirrors.
var layouts = []Layout{
	{K: 1, M: 0, SegmentSize: 1, BlockSize: 512},
	{K: 1, M: 2, SegmentSize: 5000, BlockSize: 512},
	{K: 2, M: 1, SegmentSize: 1, BlockSize: 512},
	{K: 2, M: 2, SegmentSize: 4096, BlockSize: 512},
	{K: 3, M: 2, SegmentSize: 10_000, BlockSize: 512},
	{K: 4, M: 2, SegmentSize: 2049, BlockSize: 512}, // shard 3 is empty, shard 2 has a byte
	{K: 5, M: 3, SegmentSize: 100_000, BlockSize: 4096},
	{K: 3, M: 0, SegmentSize: 9999, BlockSize: 1024},
}

func onLayouts(t *testing.T, fn func(t *testing.T, l Layout, seg []byte, s *shards)) {
	for i, l := range layouts {
		t.Run(fmt.Sprintf("%d+%d,%d,%d", l.K, l.M, l.SegmentSize, l.BlockSize), func(t *testing.T) {
			seg := content(uint64(i), l.SegmentSize)
			fn(t, l, seg, encode(t, small(), l, seg))
		})
	}
}

// The bytes are those of an implementation written from FORMAT.md.
func TestTheFormatIsTheReferences(t *testing.T) {
	onLayouts(t, func(t *testing.T, l Layout, seg []byte, s *shards) {
		for i, want := range refEncode(testID, l.K, l.M, l.BlockSize, seg) {
			if !bytes.Equal(s.blobs[i], want) {
				t.Errorf("shard %d: %d bytes differ from the reference's %d", i, len(s.blobs[i]), len(want))
			}
			if n := l.BlobSize(i); n != int64(len(want)) {
				t.Errorf("shard %d: BlobSize %d, the blob has %d", i, n, len(want))
			}
		}
	})
}

// The bytes are those of earlier releases.
func TestGoldenVectors(t *testing.T) {
	for _, l := range []Layout{{K: 2, M: 2, SegmentSize: 1500, BlockSize: 512}, {K: 4, M: 2, SegmentSize: 700, BlockSize: 512}} {
		dir := filepath.Join("testdata", fmt.Sprintf("v1-%d+%d-%d-%d", l.K, l.M, l.SegmentSize, l.BlockSize))
		seg := make([]byte, l.SegmentSize) // byte i is the low byte of i*i+i/7
		for i := range seg {
			seg[i] = byte(i*i + i/7)
		}
		s := encode(t, New(Config{}), l, seg)
		for i, b := range s.blobs {
			name := filepath.Join(dir, fmt.Sprintf("shard-%d", i))
			if *update {
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(name, b, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(b, want) {
				t.Errorf("%s: not what is encoded now (%v)", name, err)
			}
		}
	}
}

// Whatever is lost, up to M shards, the segment is read and every lost shard
// rebuilt to the byte; with one more lost, both say so.
func TestEveryLoss(t *testing.T) {
	onLayouts(t, func(t *testing.T, l Layout, seg []byte, s *shards) {
		rnd := rand.New(rand.NewPCG(1, 2))
		subsets(l.Shards(), l.M+1, func(lost []int) {
			c, gone := small(), s.without(lost...)
			got := make([]byte, len(seg))
			_, faults, err := gone.open(t, c, gone.all(rnd)).ReadAt(t.Context(), got, 0)
			blobs, _, rerr := gone.rebuilt(t, c, gone.all(rnd), lost)
			if len(lost) > l.M && l.missing(lost) {
				if fsapi.KindOf(rerr) != fsapi.NotExist {
					t.Errorf("%v lost: rebuild: %v, want NotExist", lost, rerr)
				}
				return
			}
			if err != nil || !bytes.Equal(got, seg) {
				t.Fatalf("%v lost: read: %v", lost, err)
			}
			for _, f := range faults {
				if !slices.Contains(lost, f.Shard) {
					t.Errorf("%v lost: a fault of shard %d: %v", lost, f.Shard, f.Err)
				}
			}
			if rerr != nil {
				t.Fatalf("%v lost: rebuild: %v", lost, rerr)
			}
			for _, i := range lost {
				if !bytes.Equal(blobs[i], s.blobs[i]) {
					t.Errorf("%v lost: shard %d was rebuilt to other bytes", lost, i)
				}
			}
		})
	})
}

// missing reports whether fewer than K blocks of row 0 are left.
func (l Layout) missing(lost []int) bool {
	n := 0
	for i := range l.Shards() {
		if l.BlockLen(i, 0) == 0 || !slices.Contains(lost, i) {
			n++
		}
	}
	return n < l.K
}

func TestRandomly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := Layout{K: rapid.IntRange(1, 20).Draw(rt, "k"), BlockSize: 1 << rapid.IntRange(9, 13).Draw(rt, "block")}
		l.M = rapid.IntRange(0, min(8, MaxShards-l.K)).Draw(rt, "m")
		l.SegmentSize = rapid.Int64Range(1, 300_000).Draw(rt, "size")
		seg := content(uint64(l.SegmentSize), l.SegmentSize)
		c := New(Config{Memory: rapid.Int64Range(1, 1<<20).Draw(rt, "memory"), Workers: rapid.IntRange(1, 3).Draw(rt, "workers")})
		s := encode(t, c, l, seg)
		streamed(rt, c, s, seg)

		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		lost := rnd.Perm(l.Shards())[:rapid.IntRange(0, l.M).Draw(rt, "lost")]
		gone := s.without(lost...)
		r := gone.open(t, c, gone.all(rnd))
		for range 5 {
			off := rnd.Int64N(l.SegmentSize)
			p := make([]byte, rnd.Int64N(l.SegmentSize-off+1))
			n, _, err := r.ReadAt(t.Context(), p, off)
			if n != len(p) || err != nil || !bytes.Equal(p, seg[off:off+int64(n)]) {
				rt.Fatalf("read %d bytes at %d without %v: %d, %v", len(p), off, lost, n, err)
			}
		}
		blobs, _, err := gone.rebuilt(t, c, gone.all(rnd), lost)
		for _, i := range lost {
			if err != nil || !bytes.Equal(blobs[i], s.blobs[i]) {
				rt.Fatalf("rebuild %v: shard %d differs, %v", lost, i, err)
			}
		}
	})
}

// streamed checks that a segment which comes in pieces makes the same shards.
func streamed(rt *rapid.T, c *Coder, s *shards, seg []byte) {
	out, get := buffers(s.l.Shards())
	w, err := c.NewWriter(s.id, s.l, out)
	if err != nil {
		rt.Fatal(err)
	}
	for rest := seg; len(rest) > 0; {
		n := rapid.IntRange(1, len(rest)).Draw(rt, "write")
		if m, err := w.Write(rest[:n]); m != n || err != nil {
			rt.Fatal(m, err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		rt.Fatal(err)
	}
	for i, b := range get() {
		if !bytes.Equal(b, s.blobs[i]) {
			rt.Fatalf("shard %d of a stream differs", i)
		}
	}
}

func TestWriterRefusesOtherSizes(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 3000, BlockSize: 512}
	out, _ := buffers(3)
	w, err := small().NewWriter(testID, l, out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 2999)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a short segment: %v", err)
	}
	w, err = small().NewWriter(testID, l, out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 3001)); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a long segment: %v", err)
	}
	if err := w.Close(); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("close after it: %v", err)
	}
}

// A healthy range is read from its own shard, in one read, of its own blocks.
func TestAHealthyRangeCostsOneRead(t *testing.T) {
	l := Layout{K: 4, M: 2, SegmentSize: 1 << 20, BlockSize: 4096}
	seg := content(1, l.SegmentSize)
	s := encode(t, New(Config{}), l, seg)
	p := make([]byte, 10_000)
	off := l.ShardPayload() + 5000
	if _, _, err := s.open(t, New(Config{}), []int{0, 1, 2, 3, 4, 5}).ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, seg[off:off+10_000]) {
		t.Fatal(err)
	}
	if s.reads != 1 || s.bytes[1] != 3*(4096+4) {
		t.Errorf("%d reads, bytes %v, want one of 3 blocks of shard 1", s.reads, s.bytes)
	}
}

// Of a bad block, only its row is read elsewhere, from the first K worth asking.
func TestABadBlockCostsItsRow(t *testing.T) {
	l := Layout{K: 4, M: 2, SegmentSize: 1 << 20, BlockSize: 4096}
	seg := content(1, l.SegmentSize)
	s := encode(t, New(Config{}), l, seg).flip(1, l.slot(7)+99)
	p := make([]byte, l.ShardPayload())
	_, faults, err := s.open(t, New(Config{}), []int{5, 1, 4, 3, 2, 0}).ReadAt(t.Context(), p, l.ShardPayload())
	if err != nil || !bytes.Equal(p, seg[l.ShardPayload():][:len(p)]) {
		t.Fatal(err)
	}
	if len(faults) != 1 || faults[0].Shard != 1 || faults[0].Part != PartBlock || faults[0].Number != 7 || !errors.Is(faults[0].Err, fsapi.Corrupt) {
		t.Errorf("faults %+v, want block 7 of shard 1", faults)
	}
	for i, want := range map[int]int64{0: 0, 2: 4100, 3: 4100, 4: 4100} {
		if s.bytes[i] != want {
			t.Errorf("shard %d: %d bytes read, want %d", i, s.bytes[i], want)
		}
	}
}

// More than M shards have bad blocks, but no row has more than M of them.
func TestRowsAreReconstructedFromDifferentShards(t *testing.T) {
	l := Layout{K: 3, M: 1, SegmentSize: 3 * 4 * 512, BlockSize: 512}
	seg := content(1, l.SegmentSize)
	s := encode(t, small(), l, seg)
	bad := s
	for i := range 4 {
		bad = bad.flip(i, l.slot(i)+1)
	}
	all := []int{0, 1, 2, 3}
	got := make([]byte, len(seg))
	if _, faults, err := bad.open(t, New(Config{}), all).ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, seg) || len(faults) < 3 {
		t.Errorf("read: %v, %d faults", err, len(faults))
	}
	blobs, _, err := bad.rebuilt(t, New(Config{}), all, all)
	for i := range blobs {
		if err != nil || !bytes.Equal(blobs[i], s.blobs[i]) {
			t.Errorf("rebuild: shard %d, %v", i, err)
		}
	}
	// The same where sectors cannot be read, which fails the range around them.
	s.fail = func(shard int, off int64, n int) error {
		if x := l.slot(shard) + 1; off <= x && x < off+int64(n) {
			return fsapi.Errorf(fsapi.IO, "bad sector")
		}
		return nil
	}
	blobs, _, err = s.rebuilt(t, New(Config{}), all, all)
	for i := range blobs {
		if err != nil || !bytes.Equal(blobs[i], s.blobs[i]) {
			t.Errorf("rebuild with bad sectors: shard %d, %v", i, err)
		}
	}
}

// Shards of another segment, another layout or another place are not mixed in.
func TestMixesAreRefused(t *testing.T) {
	l := Layout{K: 3, M: 2, SegmentSize: 10_000, BlockSize: 512}
	seg := content(1, l.SegmentSize)
	s := encode(t, small(), l, seg)
	foreign := map[string]func(x *shards){
		"another segment": func(x *shards) { x.blobs[1] = refEncode(fsapi.SegmentID{9}, 3, 2, 512, seg)[1] },
		"another index":   func(x *shards) { x.blobs[1] = s.blobs[0] },
		"another layout":  func(x *shards) { x.blobs[1] = refEncode(testID, 3, 3, 512, seg)[1] },
		"another content": func(x *shards) { x.blobs[1] = refEncode(testID, 3, 2, 512, content(2, 10_000))[1] },
	}
	for what, change := range foreign {
		x := s.without()
		change(x)
		blobs, _, err := x.rebuilt(t, small(), []int{0, 1, 2, 3, 4}, []int{2})
		if err != nil || !bytes.Equal(blobs[2], s.blobs[2]) {
			t.Errorf("%s: rebuild: %v", what, err)
		}
		x.blobs[2], x.blobs[3] = nil, nil // now it would be needed
		_, faults, err := x.rebuilt(t, small(), []int{0, 1, 4}, []int{2})
		if !errors.Is(err, fsapi.Corrupt) || !slices.ContainsFunc(faults, func(f Fault) bool { return f.Shard == 1 }) {
			t.Errorf("%s: rebuild with it: %v, faults %v; want shard 1 refused", what, err, faults)
		}
		bad, err := small().Verify(t.Context(), Header{testID, l, 1}, int64(len(x.blobs[1])), x.blob(1))
		if err != nil || (len(bad) == 0) != (what == "another content") { // alone, it is whole
			t.Errorf("%s: verify: %v, %v", what, bad, err)
		}
	}
}

// A block that comes out wrong although all its sources verify is not given out.
func TestReconstructedBlocksAreVerified(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 2000, BlockSize: 512}
	seg := content(1, l.SegmentSize)
	s := encode(t, small(), l, seg)
	// Shard 2 and the tables claim, with right checksums, parity that it is not.
	wrong := newTable(l, l.Rows())
	h := Header{testID, l, 2}
	for r := range l.Rows() {
		for i := range 3 {
			at := l.slot(r) + int64(l.BlockLen(i, r))
			if i == 2 {
				s.blobs[2][at-1] ^= 1
				n := sum(h.seed(), uint32(r), s.blobs[2][l.slot(r):at])
				copy(s.blobs[2][at:], []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
			}
			if l.BlockLen(i, r) > 0 {
				b := s.blobs[i][at:]
				*wrong.at(r, i) = uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
			}
		}
	}
	for i := range 3 {
		copy(s.blobs[i][l.tableOffset(i):], wrong.tail(Header{testID, l, i}))
	}
	p := make([]byte, 100)
	_, _, err := s.without(0).open(t, small(), []int{1, 2}).ReadAt(t.Context(), p, 0)
	if !errors.Is(err, fsapi.Corrupt) || !strings.Contains(err.Error(), "block 0") {
		t.Errorf("read: %v, want block 0 refused", err)
	}
}

// A drive that fails, or has no such blob, is not asked again at every step.
func TestRebuildAvoidsDeadDrives(t *testing.T) {
	l := Layout{K: 2, M: 3, SegmentSize: 200_000, BlockSize: 512}
	s := encode(t, small(), l, content(1, l.SegmentSize))
	want := s.blobs[0]
	asked := map[int]int{}
	s.fail = func(shard int, _ int64, _ int) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch asked[shard]++; shard {
		case 1:
			return fsapi.Errorf(fsapi.TimedOut, "dead")
		case 2:
			return fsapi.Errorf(fsapi.NotExist, "gone")
		}
		return nil
	}
	got, faults, err := s.rebuilt(t, small(), []int{1, 2, 3, 4}, []int{0})
	if err != nil || !bytes.Equal(got[0], want) {
		t.Fatal(err)
	}
	if asked[1] > 2 || asked[2] > 2 || asked[3] < 50 {
		t.Errorf("asked %v times; want the dead and the gone twice at most", asked)
	}
	if len(faults) != asked[1]+asked[2] {
		t.Errorf("%d faults of %d reads that failed", len(faults), asked[1]+asked[2])
	}
}

func TestRelayout(t *testing.T) {
	from, to := Layout{K: 4, M: 2, SegmentSize: 50_000, BlockSize: 512}, Layout{K: 3, M: 1, SegmentSize: 50_000, BlockSize: 1024}
	seg := content(1, 50_000)
	s := encode(t, small(), from, seg).without(0, 3)
	out, get := buffers(4)
	found := make(chan Fault, 1000)
	r := s.open(t, small(), []int{0, 1, 2, 3, 4, 5})
	if err := small().Encode(t.Context(), testID, to, r.At(t.Context(), func(f Fault) { found <- f }), out); err != nil {
		t.Fatal(err)
	}
	for i, b := range refEncode(testID, 3, 1, 1024, seg) {
		if !bytes.Equal(get()[i], b) {
			t.Errorf("shard %d differs", i)
		}
	}
	if len(found) == 0 {
		t.Error("no fault was told")
	}
}

func TestErrorsOfSourcesAndWriters(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 2000, BlockSize: 512}
	out, _ := buffers(3)
	if err := small().Encode(t.Context(), testID, l, bytes.NewReader(make([]byte, 1999)), out); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("a segment cut short: %v", err)
	}
	if err := small().Encode(t.Context(), testID, l, bytes.NewReader(make([]byte, 2000)), out[:2]); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("two writers for three shards: %v", err)
	}
	out[1] = failing{}
	if err := small().Encode(t.Context(), testID, l, bytes.NewReader(make([]byte, 2000)), out); !errors.Is(err, fsapi.NoSpace) || !strings.Contains(err.Error(), "shard 1") {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out[1] = nil
	if err := small().Encode(ctx, testID, l, bytes.NewReader(make([]byte, 2000)), out); !errors.Is(err, fsapi.Interrupted) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := small().Open(testID, l, []int{0, 0}, nil); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a shard twice: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fsapi.Errorf(fsapi.NoSpace, "full") }

func TestReadsPastTheEnd(t *testing.T) {
	l := Layout{K: 2, M: 1, SegmentSize: 2000, BlockSize: 512}
	seg := content(1, 2000)
	s := encode(t, small(), l, seg)
	r := s.open(t, small(), []int{0, 1, 2})
	p := make([]byte, 100)
	if n, _, err := r.ReadAt(t.Context(), p, 1950); n != 50 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:50], seg[1950:]) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, _, err := r.ReadAt(t.Context(), p, 1<<62); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("past it: %d, %v", n, err)
	}
	if _, _, err := r.ReadAt(t.Context(), p, -1); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("before it: %v", err)
	}
}
