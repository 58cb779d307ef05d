package blob_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Every bit of a stored segment matters, and what is wrong is named.
func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, cipher := range []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20} {
		r := newRig(t, cipher, 1, nil)
		data := append(bytesOf(1, 300, "random"), bytesOf(2, 700, "text")...)
		st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 500}), blob.Segment, data)
		d, seg := r.drives[0], st.Segments[0]
		name := blob.SegmentName(seg.ID)
		framesEnd := seg.Payload + 64
		for bit := range 8 * int(seg.Size) {
			d.Damage(name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			sr, err := blob.OpenSegment(t.Context(), d, seg.ID, r.keys)
			if err == nil {
				err = sr.Verify(t.Context(), true, nil)
			}
			if !errors.Is(err, fsapi.Corrupt) || !strings.Contains(err.Error(), seg.ID.String()) || !strings.Contains(err.Error(), d.Info().ID.String()) {
				t.Fatalf("%v: bit %d flipped: %v", cipher, bit, err)
			}
			if at := int64(bit / 8); at >= 64 && at < framesEnd {
				r.DropCaches()
				_, err := r.read(t.Context(), st.Extents, len(data))
				if !errors.Is(err, fsapi.Corrupt) || !strings.Contains(err.Error(), seg.ID.String()) || !strings.Contains(err.Error(), d.Info().ID.String()) {
					t.Fatalf("%v: read with bit %d flipped: %v", cipher, bit, err)
				}
			}
			d.Damage(name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
		}
		if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("with all bits back: %v", err)
		}
	}
}

func TestEveryCutIsFound(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 500}), blob.Segment, bytesOf(1, 1000, "random"))
	name := blob.SegmentName(st.Segments[0].ID)
	whole := r.drives[0].Bytes(name)
	for n := range whole {
		for _, torn := range [][]byte{whole[:n], append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)} {
			r.drives[0].Put(name, torn)
			if bytes.Equal(torn, whole) {
				continue
			}
			sr, err := blob.OpenSegment(t.Context(), r.drives[0], st.Segments[0].ID, r.keys)
			if err == nil {
				err = sr.Verify(t.Context(), true, nil)
			}
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
			}
		}
	}
}

func TestFlippedJournalBitIsFound(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "auto", cdc), blob.Auto, bytesOf(1, 1000, "random"))
	f := r.x.Journal[st.Journal[0].Loc]
	for bit := range 8 * len(f) {
		f[bit/8] ^= 1 << (bit % 8)
		r.DropCaches()
		if _, err := r.read(t.Context(), st.Extents, 1000); !errors.Is(err, fsapi.Corrupt) || !strings.Contains(err.Error(), st.Chunks[0].ID.String()) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		f[bit/8] ^= 1 << (bit % 8)
	}
}

// A frame in another's place is not accepted, though its own tag is right.
func TestSwappedFramesAreFound(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "none", policy.Chunking{Fixed: 500}), blob.Segment, bytesOf(1, 1000, "random"))
	a, b := st.Chunks[0].Loc, st.Chunks[1].Loc
	r.drives[0].Damage(blob.SegmentName(a.Segment), func(p []byte) []byte {
		fa, fb := bytes.Clone(p[a.Offset:][:a.Length]), bytes.Clone(p[b.Offset:][:b.Length])
		copy(p[a.Offset:], fb)
		copy(p[b.Offset:], fa)
		return p
	})
	if _, err := r.read(t.Context(), st.Extents, 1000); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("swapped frames were read: %v", err)
	}
}

func TestReadFailsOverAndRepairs(t *testing.T) {
	for what, hurt := range map[string]func(b []byte) []byte{
		"flipped":   func(b []byte) []byte { b[200] ^= 1; return b },
		"cut short": func(b []byte) []byte { return b[:100] },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, fsapi.CipherAES256GCM, 2, nil)
			data := bytesOf(1, 200_000, "random")
			st := r.store(t, class(2, "auto", cdc), blob.Segment, data)
			first := st.Segments[0].Copies[0].Drives[0]
			d, other := r.drives[first-1], r.drives[2-first]
			name := blob.SegmentName(st.Segments[0].ID)
			d.Damage(name, hurt)
			if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read: %v", err)
			}
			b := <-r.bad
			if b.Drive != first || !b.Repaired || b.Segment != st.Segments[0].ID {
				t.Errorf("told %+v", b)
			}
			if !bytes.Equal(d.Bytes(name), other.Bytes(name)) {
				t.Error("the replica was not made good")
			}
		})
	}
}

func TestRepairTouchesNothingWithoutAGoodReplica(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 2, nil)
	st := r.store(t, class(2, "auto", cdc), blob.Segment, bytesOf(1, 200_000, "random"))
	name := blob.SegmentName(st.Segments[0].ID)
	var before [][]byte
	for i, d := range r.drives {
		d.Damage(name, func(b []byte) []byte { b[100+i] ^= 1; return b })
		before = append(before, d.Bytes(name))
	}
	if err := r.Repair(t.Context(), st.Segments[0].ID, 1); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("Repair: %v", err)
	}
	for i, d := range r.drives {
		if !bytes.Equal(d.Bytes(name), before[i]) {
			t.Errorf("drive %d was changed", i+1)
		}
	}
}

// A drive that fails at any call while a segment is written is left for
// another, once; nothing of the failed attempt stays.
func TestWriteFailsOver(t *testing.T) {
	for _, op := range []string{"Create", "Write", "Commit"} {
		t.Run(op, func(t *testing.T) {
			r := newRig(t, fsapi.CipherAES256GCM, 3, func(o *blob.Options) { o.SegmentBytes = 2 << 20 })
			var mu sync.Mutex
			failing := fsapi.DriveID(0)
			for _, d := range r.drives {
				d.Fail = func(o, _ string) error {
					mu.Lock()
					defer mu.Unlock()
					if o == op && (failing == 0 || failing == d.Info().ID) {
						failing = d.Info().ID
						return fsapi.Errorf(fsapi.IO, "injected")
					}
					return nil
				}
			}
			data := bytesOf(1, 7<<20, "random")
			st := r.store(t, class(2, "auto", cdc), blob.Segment, data)
			if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read: %v", err)
			}
			recorded := 0
			for _, s := range st.Segments {
				r.checkSegment(t, s)
				recorded += len(s.Copies[0].Drives)
				for _, id := range s.Copies[0].Drives {
					if id == failing {
						t.Error("the failed drive is on record")
					}
				}
			}
			blobs := 0
			for _, d := range r.drives {
				blobs += len(d.Names())
			}
			if failing == 0 || blobs != recorded {
				t.Errorf("%d blobs, %d on record", blobs, recorded)
			}
		})
	}
}

func TestWriteErrorsHaveTheirKind(t *testing.T) {
	for _, op := range []string{"Create", "Write", "Commit", "Capacity"} {
		for _, kind := range []fsapi.Kind{fsapi.IO, fsapi.NoSpace} {
			r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
			fail := true
			r.drives[0].Fail = func(o, _ string) error {
				if fail && o == op {
					return fsapi.Errorf(kind, "injected")
				}
				return nil
			}
			b := r.NewBatch(t.Context(), vol, class(1, "auto", cdc))
			_, err := b.Add(t.Context(), 1, 0, bytesOf(1, 9<<20, "random"), false)
			if err == nil {
				_, err = b.Finish(t.Context(), blob.Segment)
			}
			b.Abort()
			if want := kind; err == nil || fsapi.KindOf(err) != want {
				t.Errorf("%s fails with %v: %v", op, kind, err)
			}
			fail = false
			st := r.store(t, class(1, "auto", cdc), blob.Segment, bytesOf(1, 1<<20, "random"))
			if _, err := r.read(t.Context(), st.Extents, 1<<20); err != nil {
				t.Errorf("after the fault ended: %v", err)
			}
		}
	}
}

func TestPlaceUsesDomainsAndSaysWhatIsMissing(t *testing.T) {
	r := newRig(t, fsapi.CipherNone, 6, nil)
	for i, d := range r.drives {
		d.With("hot", string(rune('a'+i/2)))
	}
	r.drives[5].With("cold", "z")
	for range 50 {
		ds, err := r.set.Place(t.Context(), blob.Wish{Tier: "hot", N: 3, Min: 3, Size: 1000})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, d := range ds {
			seen[d.Info().Domain] = true
		}
		if len(seen) != 3 {
			t.Fatalf("3 replicas in domains %v", seen)
		}
	}
	if ds, err := r.set.Place(t.Context(), blob.Wish{Tier: "hot", N: 5, Min: 5, Size: 1000}); err != nil || len(ds) != 5 {
		t.Errorf("domains must be shared when there are too few: %v", err)
	}
	_, err := r.set.Place(t.Context(), blob.Wish{Tier: "hot", N: 6, Min: 6, Size: 1000})
	if !errors.Is(err, fsapi.NoSpace) || !strings.Contains(err.Error(), "needs 6 drives of tier hot") {
		t.Errorf("Place: %v", err)
	}
	if _, err := r.set.Remove(1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.set.Drive(1); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("a removed drive: %v", err)
	}
	if err := r.set.Add(r.drives[1]); !errors.Is(err, fsapi.Exist) {
		t.Errorf("a drive twice: %v", err)
	}
}

func TestPlacePrefersRoom(t *testing.T) {
	r := newRig(t, fsapi.CipherNone, 2, nil)
	r.drives[0].SetAvail(1 << 30)
	r.drives[1].SetAvail(9 << 30)
	n := 0
	for range 2000 {
		ds, err := r.set.Place(t.Context(), blob.Wish{Tier: "hot", N: 1, Min: 1, Size: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if ds[0].Info().ID == 2 {
			n++
		}
	}
	if n < 1700 || n > 1900 {
		t.Errorf("the drive with 9/10 of the room was chosen %d of 2000 times", n)
	}
}

func TestPrefetch(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, func(o *blob.Options) { o.Prefetch = 1 << 20 })
	data := bytesOf(1, 4<<20, "random")
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, data)
	var exts []fsapi.Extent
	for _, e := range st.Extents {
		exts = append(exts, e.Extent)
	}
	r.Prefetch(vol, exts)
	r.Close() // waits for what was started
	s := r.Stats()
	if s.Prefetched == 0 || s.Prefetched > uint64(len(exts)) || s.FramesRead != s.Prefetched {
		t.Errorf("%+v", s)
	}
	r.Prefetch(vol, exts) // after Close: nothing
}

// Many readers of one chunk fetch it once.
func TestSingleFlight(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(1, 50_000, "random")
	st := r.store(t, class(1, "auto", cdc), blob.Segment, data)
	release := make(chan struct{})
	var once sync.Once
	started := make(chan struct{})
	r.drives[0].Fail = func(op, _ string) error {
		if op == "ReadAt" {
			once.Do(func() { close(started) })
			<-release
		}
		return nil
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			p := make([]byte, 1000)
			if err := r.ReadExtent(t.Context(), vol, &st.Extents[0].Extent, 5, p); err != nil || !bytes.Equal(p, data[5:1005]) {
				t.Errorf("read: %v", err)
			}
		})
	}
	<-started
	close(release)
	wg.Wait()
	if n := r.Stats().FramesRead; n != 1 {
		t.Errorf("one chunk was fetched %d times", n)
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "auto", cdc), blob.Segment, bytesOf(1, 100_000, "text"))
	open := r.NewBatch(t.Context(), vol, class(1, "auto", cdc))
	open.Add(t.Context(), 1, 0, bytesOf(2, 3<<20, "random"), false)
	r.Close()
	if _, err := open.Finish(t.Context(), blob.Segment); err == nil {
		t.Error("Finish after Close succeeded")
	}
	if _, err := r.NewBatch(t.Context(), vol, class(1, "auto", cdc)).Add(t.Context(), 1, 0, []byte("x"), false); !errors.Is(err, fsapi.Closed) {
		t.Errorf("Add after Close: %v", err)
	}
	if err := r.ReadExtent(t.Context(), vol, &st.Extents[0].Extent, 0, make([]byte, 1)); !errors.Is(err, fsapi.Closed) {
		t.Errorf("read after Close: %v", err)
	}
}
