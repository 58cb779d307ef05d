package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// stored is a segment of many frames, as its directory says, and what is in it.
type stored struct {
	*rig
	seg  fsapi.Segment
	dir  []blob.DirEntry
	data []byte
}

func storedAs(t *testing.T, copies []policy.Copy, drives int) *stored {
	t.Helper()
	r := newRig(t, fsapi.CipherAES256GCM, drives, nil)
	data := bytesOf(1, 600_000, "random")
	st := r.store(t, blob.Class{Copies: copies, Compression: "none", Chunking: policy.Chunking{Fixed: 4096}}, blob.Segment, data)
	s := &stored{rig: r, seg: st.Segments[0], data: data}
	sr, err := r.Open(t.Context(), &s.seg)
	if err != nil || len(st.Segments) != 1 {
		t.Fatalf("%d segments, %v", len(st.Segments), err)
	}
	s.dir = sr.Directory()
	return s
}

// mustSalvage salvages, and checks that just those frames are found whose headers can
// be read, and of them just those can be read that can be read throughout.
func (s *stored) mustSalvage(t *testing.T, salvage func(context.Context, func(*blob.SegmentReader) error) error, readable func(at int64) bool) {
	t.Helper()
	all := func(off, n uint32) bool {
		for at := int64(off); at < int64(off+n); at++ {
			if !readable(at) {
				return false
			}
		}
		return true
	}
	var want []blob.DirEntry
	for _, e := range s.dir {
		if all(e.Offset, frame.HeaderSize) {
			e.Ino, e.FileOff = 0, 0
			want = append(want, e)
		}
	}
	err := salvage(t.Context(), func(sr *blob.SegmentReader) error {
		if sr.Header().Volume != vol || sr.Header().ID != s.seg.ID {
			t.Errorf("it is %+v", sr.Header())
		}
		got := sr.Directory()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%d frames were found of %d whose headers can be read, %d in all", len(got), len(want), len(s.dir))
		}
		for _, e := range got {
			data, err := sr.ReadFrame(t.Context(), e)
			if all(e.Offset, e.Length) {
				if i := s.offset(e); err != nil || !bytes.Equal(data, s.data[i:][:e.Len]) {
					t.Errorf("the frame at %d reads as %d bytes: %v", e.Offset, len(data), err)
				}
			} else if !errors.Is(err, fsapi.Corrupt) {
				t.Errorf("the torn frame at %d: %v", e.Offset, err)
			}
		}
		return nil
	})
	if len(want) == 0 {
		if !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("there is nothing to salvage: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
}

// offset is where in the data a frame's chunk is.
func (s *stored) offset(e blob.DirEntry) int64 {
	for _, d := range s.dir {
		if d.Offset == e.Offset {
			return d.FileOff - 1000
		}
	}
	return -1
}

// dirOffset is where the directory begins.
func (s *stored) dirOffset() int64 {
	last := s.dir[len(s.dir)-1]
	return int64(last.Offset + last.Length)
}

func TestSalvage(t *testing.T) {
	s := storedAs(t, []policy.Copy{{Tier: "hot", Replicas: 1}}, 1)
	name, whole := blob.SegmentName(s.seg.ID), s.drives[0].Bytes(blob.SegmentName(s.seg.ID))
	for what, bad := range map[string][][2]int64{ // from, to
		"its end":            {{s.dirOffset() + 10, int64(len(whole))}},
		"its ends":           {{0, segment.HeaderSize}, {int64(len(whole)) - 10, int64(len(whole))}},
		"the first frame":    {{0, 200}},
		"a frame's body":     {{int64(s.dir[7].Offset) + 100, int64(s.dir[7].Offset) + 110}, {s.dirOffset(), s.dirOffset() + 9}},
		"a frame's header":   {{int64(s.dir[7].Offset) + 10, int64(s.dir[7].Offset) + 11}, {s.dirOffset(), s.dirOffset() + 9}},
		"much in the middle": {{100_000, 300_000}, {s.dirOffset(), s.dirOffset() + 9}},
		"all but the last":   {{0, int64(s.dir[len(s.dir)-1].Offset)}, {s.dirOffset(), s.dirOffset() + 9}},
		"everything":         {{0, int64(len(whole))}},
	} {
		t.Run(what, func(t *testing.T) {
			readable := func(at int64) bool {
				for _, r := range bad {
					if at >= r[0] && at < r[1] {
						return false
					}
				}
				return true
			}
			s.drives[0].Damage(name, func([]byte) []byte {
				b := bytes.Clone(whole)
				for i := range b {
					if !readable(int64(i)) {
						b[i] ^= 0x5a
					}
				}
				return b
			})
			s.mustSalvage(t, func(ctx context.Context, fn func(*blob.SegmentReader) error) error {
				return s.Salvage(ctx, s.drives[0], s.seg.ID, fn)
			}, readable)
		})
	}
}

// A disk with bad sectors gives the rest; one that answers no more is not asked for
// each of its sectors.
func TestSalvageBadDisk(t *testing.T) {
	s := storedAs(t, []policy.Copy{{Tier: "hot", Replicas: 1}}, 1)
	d := &unread{Drive: s.drives[0]}
	salvage := func(ctx context.Context, fn func(*blob.SegmentReader) error) error {
		return s.Salvage(ctx, d, s.seg.ID, fn)
	}
	d.bad = func(off, n int64) bool { return off < 220_000 && off+n > 200_000 }
	s.mustSalvage(t, salvage, func(at int64) bool { return at < 200_000/4096*4096 || at >= (220_000+4095)/4096*4096 })
	d.bad = func(int64, int64) bool { return true }
	d.reads = 0
	if err := salvage(t.Context(), func(*blob.SegmentReader) error { return nil }); !errors.Is(err, fsapi.IO) {
		t.Errorf("of a disk that cannot be read: %v", err)
	}
	if d.reads > 400 {
		t.Errorf("it was asked %d times", d.reads)
	}
}

// unread is a drive of which some bytes cannot be read.
type unread struct {
	drive.Drive
	bad   func(off, n int64) bool
	reads int
}

func (u *unread) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	if u.reads++; u.bad(off, int64(len(p))) {
		return 0, fsapi.Errorf(fsapi.IO, "bad sector")
	}
	return u.Drive.ReadAt(ctx, name, off, p)
}

// Of shards, each byte is found that can be read from its own or be computed.
func TestSalvageShards(t *testing.T) {
	for _, c := range []struct{ k, m int }{{2, 1}, {4, 2}, {3, 0}} {
		t.Run(fmt.Sprintf("%d+%d", c.k, c.m), func(t *testing.T) {
			s := storedAs(t, []policy.Copy{{Tier: "hot", K: c.k, M: c.m}}, c.k+c.m)
			place, l := &s.seg.Copies[0], erasure.For(c.k, c.m, s.seg.Size)
			whole := make([][]byte, l.Shards())
			for i, d := range place.Drives {
				whole[i] = s.drives[d-1].Bytes(blob.ShardName(s.seg.ID, i))
			}
			rnd := rand.New(rand.NewPCG(uint64(c.k), 7))
			dirShard, dirRow := int(s.dirOffset()/l.ShardPayload()), int(s.dirOffset()%l.ShardPayload()/int64(l.BlockSize))
			for try := range 20 {
				missing := rnd.IntN(c.m+2) - 1 // how many shards
				bad := map[[2]int]bool{}       // shard and row
				for i, shard := range rnd.Perm(l.Shards()) {
					for row := range l.Rows() {
						if row < l.Blocks(shard) && (i < missing || rnd.IntN(6) == 0 || row == dirRow && (i <= c.m || shard == dirShard)) {
							bad[[2]int{shard, row}] = true
						}
					}
					name := blob.ShardName(s.seg.ID, shard)
					d := s.drives[place.Drives[shard]-1]
					d.Put(name, whole[shard])
					if i < missing {
						d.Remove(name)
						continue
					}
					d.Damage(name, func(b []byte) []byte {
						if try%3 == 1 && i == missing { // it does not say what it is
							b[3] ^= 1
							b[len(b)-3] ^= 1
						}
						for row := range l.Rows() {
							if bad[[2]int{shard, row}] {
								at := erasure.HeaderSize + row*(l.BlockSize+4)
								b[at+rnd.IntN(l.BlockLen(shard, row))] ^= 1
							}
						}
						return b
					})
				}
				lost := make([]bool, l.K*l.Rows()) // by data shard and row
				for row := range l.Rows() {
					good := l.Shards()
					for i := range l.Shards() {
						if bad[[2]int{i, row}] {
							good--
						}
					}
					for i := range l.K {
						lost[i*l.Rows()+row] = bad[[2]int{i, row}] && good < l.K
					}
				}
				readable := func(at int64) bool {
					return !lost[int(at/l.ShardPayload())*l.Rows()+int(at%l.ShardPayload()/int64(l.BlockSize))]
				}
				if readable(s.dirOffset()) {
					t.Fatal("the directory can be read")
				}
				s.mustSalvage(t, func(ctx context.Context, fn func(*blob.SegmentReader) error) error {
					return s.SalvageShards(ctx, s.seg.ID, s.seg.Size, place, fn)
				}, readable)
			}
		})
	}
}
