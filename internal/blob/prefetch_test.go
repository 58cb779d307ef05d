package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// counting counts the reads of a drive, and their bytes.
func counting(d *blobtest.Drive) *atomic.Int64 {
	n := new(atomic.Int64)
	d.Fail = func(op, _ string) error {
		if op == "ReadAt" {
			n.Add(1)
		}
		return nil
	}
	return n
}

func dataOf(st *fsapi.Stored) (exts []fsapi.Extent) {
	for _, e := range st.Extents {
		exts = append(exts, e.Extent)
	}
	return exts
}

// What is read ahead comes in few reads, and is there for the reader.
func TestPrefetchReadsManyChunksAtOnce(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	data := bytesOf(1, 4<<20, "random")
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, data)
	exts := dataOf(st)
	reads := counting(r.drives[0])
	if n := r.Prefetch(vol, exts); n != len(exts) {
		t.Fatalf("%d of %d chunks are read ahead", n, len(exts))
	}
	if n := r.Prefetch(vol, exts); n != len(exts) {
		t.Errorf("what is under way already was left out: %d of %d", n, len(exts))
	}
	got, err := r.read(t.Context(), st.Extents, len(data))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read: %v", err)
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("%d chunks of one segment took %d reads of the drive", len(exts), n)
	}
}

// What does not fit is left out, and said so.
func TestPrefetchSaysHowFarItGot(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, func(o *blob.Options) { o.Prefetch = 1 << 20 })
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, bytesOf(1, 4<<20, "random"))
	release := make(chan struct{})
	r.drives[0].Fail = func(op, _ string) error {
		if op == "ReadAt" {
			<-release
		}
		return nil
	}
	if n := r.Prefetch(vol, dataOf(st)); n != 16 {
		t.Errorf("%d chunks of 64 KiB are read ahead with room for 1 MiB", n)
	}
	close(release)
}

// Of small chunks far from each other no more is read to be dropped than is fit
// beside what is wanted.
func TestPrefetchReadsLittleThatIsDropped(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	st := r.store(t, class(1, "none", policy.Chunking{Fixed: 4096}), blob.Segment, bytesOf(1, 32<<20, "random"))
	var far []fsapi.Extent
	for i, e := range dataOf(st) {
		if i%24 == 0 { // 96 KiB apart
			far = append(far, e)
		}
	}
	var most atomic.Int64
	r.drives[0].OnRead = func(n int) {
		for old := most.Load(); int64(n) > old && !most.CompareAndSwap(old, int64(n)); old = most.Load() {
		}
	}
	if n := r.Prefetch(vol, far); n != len(far) {
		t.Errorf("%d of %d chunks are read ahead", n, len(far))
	}
	r.Settle()
	if n := most.Load(); n == 0 || n > 2<<20 {
		t.Errorf("%d bytes were read at once for chunks of 4 KiB", n)
	}
}

// streamed is a drive that gives ranges as they arrive.
type streamed struct{ *blobtest.Drive }

// Stream implements drive.Streamer.
func (d streamed) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	_, err := d.Stat(ctx, name)
	return &arrival{d, ctx, name, off, off + n}, err
}

type arrival struct {
	d        streamed
	ctx      context.Context
	name     string
	off, end int64
}

// Next implements drive.Stream.
func (a *arrival) Next(n int) ([]byte, error) {
	p := make([]byte, n)
	k, err := a.d.ReadAt(a.ctx, a.name, a.off, p)
	a.off += int64(k)
	return p[:k], err
}

// Close implements drive.Stream.
func (a *arrival) Close() {}

// streams makes the rig's drives stream.
func (r *rig) streams() {
	for _, d := range r.drives {
		_, _ = r.set.Remove(d.Info().ID) // it is there
		_ = r.set.Add(streamed{d})
	}
}

// What arrives is there for the reader while the rest is on its way.
func TestPrefetchGivesWhatHasArrived(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 1, nil)
	r.streams()
	data := bytesOf(1, 4<<20, "random")
	st := r.store(t, class(1, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, data)
	rest := make(chan struct{})
	reads := 0
	r.drives[0].Fail = func(op, _ string) error {
		if op == "ReadAt" {
			if reads++; reads == 17 {
				<-rest
			}
		}
		return nil
	}
	if n := r.Prefetch(vol, dataOf(st)); n != len(st.Extents) {
		t.Fatalf("%d of %d chunks are read ahead", n, len(st.Extents))
	}
	got, err := r.read(t.Context(), st.Extents[:16], 1<<20) // waits for what it wants only
	close(rest)
	if err != nil || !bytes.Equal(got, data[:1<<20]) {
		t.Errorf("read: %v", err)
	}
}

// A bad frame among others, and a drive that fails, cost no one his data.
func TestPrefetchLeavesWhatIsBadToOtherCopies(t *testing.T) {
	for what, hurt := range map[string]func(d *blobtest.Drive, name string){
		"flipped": func(d *blobtest.Drive, name string) {
			d.Damage(name, func(b []byte) []byte { b[1<<20] ^= 1; return b })
		},
		"cut short": func(d *blobtest.Drive, name string) {
			d.Damage(name, func(b []byte) []byte { return b[:1<<20] })
		},
		"gone": func(d *blobtest.Drive, name string) { d.Remove(name) },
	} {
		for _, arrives := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, arrives %v", what, arrives), func(t *testing.T) {
				r := newRig(t, fsapi.CipherAES256GCM, 2, nil)
				if arrives {
					r.streams()
				}
				data := bytesOf(1, 2<<20, "random")
				st := r.store(t, class(2, "auto", policy.Chunking{Fixed: 64 << 10}), blob.Segment, data)
				name := blob.SegmentName(st.Segments[0].ID)
				found := 0
				for _, d := range r.drives { // one of them is the nearest
					whole := bytes.Clone(d.Bytes(name))
					hurt(d, name)
					r.DropCaches()
					if n := r.Prefetch(vol, dataOf(st)); n != len(st.Extents) {
						t.Fatalf("%d of %d chunks are read ahead", n, len(st.Extents))
					}
					if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
						t.Fatalf("read: %v", err)
					}
					r.Settle()
					if len(r.bad) == 0 {
						d.Put(name, whole)
						continue
					}
					found++
					for len(r.bad) > 0 {
						if b := <-r.bad; b.Segment != st.Segments[0].ID || b.Drive != d.Info().ID {
							t.Errorf("told %+v", b)
						}
					}
					if !bytes.Equal(d.Bytes(name), whole) {
						t.Error("the replica was not made good")
					}
				}
				if found != 1 {
					t.Errorf("a bad replica on each of two drives was found %d times", found)
				}
			})
		}
	}
}
