package blob_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
)

func openDir(t testing.TB, fs osfs.FS, path string, id fsapi.DriveID, init bool) *dir.Drive {
	t.Helper()
	if init {
		if err := dir.Init(fs, path, dir.Identity{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := dir.Open(dir.Options{FS: fs, Path: path, Name: path, Tier: "hot", Domain: path, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// D1: whatever instant the power is cut at, what Finish had returned by then
// reads back, on every replica; and no name leads to half a segment.
func TestCrash(t *testing.T) {
	points := 60
	if os.Getenv("STRAKE_LONG") != "" {
		points = 2000
	}
	for seed := range uint64(points) {
		crashOnce(t, seed)
	}
}

func crashOnce(t *testing.T, seed uint64) {
	rr := rand.New(rand.NewPCG(seed, 3))
	fs := osfs.NewMem(osfs.MemOptions{})
	set := blob.NewDriveSet(openDir(t, fs, "/a", 1, true), openDir(t, fs, "/b", 2, true))
	x, keys := blobtest.NewIndex(), blobtest.Keys{Cipher: fsapi.CipherAES256GCM}
	s, err := blob.New(blob.Options{Index: x, Keys: keys, Drives: set, SegmentBytes: 300 << 10, JournalMax: 16 << 10, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	type done struct {
		data []byte
		st   *fsapi.Stored
	}
	var mu sync.Mutex
	var finished []done
	var wg sync.WaitGroup
	stop, another := make(chan struct{}), make(chan struct{}, 1000)
	wg.Go(func() { // writes until the crash
		defer close(another)
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			data := bytesOf(seed*100+n, 20_000+int(n%7)*100_000, "random")
			b := s.NewBatch(context.Background(), vol, class(2, "auto", policy.Chunking{Fixed: 32 << 10}))
			b.Add(context.Background(), 1, 1000, data, false)
			st, err := b.Finish(context.Background(), blob.Segment)
			if err != nil {
				t.Errorf("Finish: %v", err)
				return
			}
			mu.Lock()
			finished = append(finished, done{data, st})
			mu.Unlock()
			x.Record(vol, st)
			another <- struct{}{}
		}
	})
	for range rr.IntN(5) {
		<-another
	}
	for range rr.IntN(3000) { // somewhere within the next
		runtime.Gosched()
	}
	mu.Lock()
	promised := finished
	mu.Unlock()
	after := fs.CrashClone(rr, osfs.AnyCrash(rr))
	close(stop)
	wg.Wait()
	s.Close()

	da, db := openDir(t, after, "/a", 1, false), openDir(t, after, "/b", 2, false)
	r := &rig{x: x, keys: keys, set: blob.NewDriveSet(da, db)}
	if r.Store, err = blob.New(blob.Options{Index: x, Keys: keys, Drives: r.set, CacheBytes: 1}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range promised {
		for _, seg := range f.st.Segments {
			for _, d := range []drive.Drive{da, db} {
				if err := verifyReplica(r, d, seg.ID); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		}
		if got, err := r.read(context.Background(), f.st.Extents, len(f.data)); err != nil || !bytes.Equal(got, f.data) {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for _, d := range []drive.Drive{da, db} {
		err := d.List(context.Background(), blob.SegmentPrefix, "", func(b drive.Blob) error {
			id, err := blob.ParseSegmentName(b.Name)
			if err == nil {
				err = verifyReplica(r, d, id)
			}
			return err
		})
		if err != nil {
			t.Fatalf("seed %d: a name leads to half a segment: %v", seed, err)
		}
	}
}

// The disk is full, then it is not.
func TestFullDisk(t *testing.T) {
	fs := osfs.NewMem(osfs.MemOptions{Capacity: 6 << 20})
	set := blob.NewDriveSet(openDir(t, fs, "/a", 1, true))
	x, keys := blobtest.NewIndex(), blobtest.Keys{Cipher: fsapi.CipherAES256GCM}
	s, err := blob.New(blob.Options{Index: x, Keys: keys, Drives: set, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := &rig{Store: s, x: x, keys: keys, set: set}
	kept := r.store(t, class(1, "none", cdc), blob.Segment, bytesOf(1, 2<<20, "random"))
	b := s.NewBatch(t.Context(), vol, class(1, "none", cdc))
	_, err = b.Add(t.Context(), 1, 0, bytesOf(2, 16<<20, "random"), false)
	if err == nil {
		_, err = b.Finish(t.Context(), blob.Segment)
	}
	b.Abort()
	if !errors.Is(err, fsapi.NoSpace) {
		t.Fatalf("a full disk: %v", err)
	}
	if _, err := r.read(t.Context(), kept.Extents, 2<<20); err != nil {
		t.Errorf("what was there before: %v", err)
	}
}

// Memory depends on options, not on how much is written or read.
func TestMemoryIsBounded(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 0, func(o *blob.Options) { o.CacheBytes = 8 << 20 })
	d := &sink{Drive: blobtest.NewDrive(9)}
	r.set.Add(d)
	data := bytesOf(1, 32<<20, "random")
	var m runtime.MemStats
	var peak uint64
	watch := func() {
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	}
	runtime.GC()
	watch()
	base := peak
	d.each = watch
	for range 16 {
		b := r.NewBatch(t.Context(), vol, class(1, "auto", cdc))
		if _, err := b.AddNew(t.Context(), 1, 0, data, false); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Finish(t.Context(), blob.Segment); err != nil {
			t.Fatal(err)
		}
	}
	if grown := int64(peak - base); grown > 64<<20 {
		t.Errorf("writing 512 MiB took %d MiB of heap", grown>>20)
	}
}

// sink takes segments and forgets them.
type sink struct {
	*blobtest.Drive
	mu   sync.Mutex
	each func() // called under mu
}

func (s *sink) Create(context.Context, string, int64) (drive.Writer, error) {
	return sinkWriter{s}, nil
}

type sinkWriter struct{ s *sink }

func (w sinkWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.each != nil {
		w.s.each()
	}
	return len(p), nil
}
func (sinkWriter) Commit(context.Context) error { return nil }
func (sinkWriter) Abort()                       {}

// verifyReplica opens every frame of a segment on a drive.
func verifyReplica(r *rig, d drive.Drive, id fsapi.SegmentID) error {
	sr, err := r.OpenSegment(context.Background(), d, id)
	if err != nil {
		return err
	}
	return sr.Verify(context.Background(), true, nil)
}
