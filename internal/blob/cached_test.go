package blob_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// lying is a drive behind a cache that gives a wrong bit until it is told so.
type lying struct {
	*blobtest.Drive
	forgotten atomic.Bool
	past      atomic.Int64 // reads that passed the cache by
}

func (l *lying) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	n, err := l.Drive.ReadAt(ctx, name, off, p)
	switch {
	case drive.IsUncached(ctx):
		l.past.Add(1)
	case !l.forgotten.Load() && n > 0:
		p[n/2] ^= 4
	}
	return n, err
}

func (l *lying) Forget(string) { l.forgotten.Store(true) }

// A cache that holds wrong bytes costs one reader a second look, and the copy is
// not rewritten; whether a copy is right is asked of the drive itself (D5).
func TestCacheInFrontOfADriveIsNotTrusted(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 0, nil)
	l := &lying{Drive: blobtest.NewDrive(1)}
	if err := r.set.Add(l); err != nil {
		t.Fatal(err)
	}
	st := r.store(t, class(1, "none", cdc), blob.Segment, bytesOf(1, 1<<20, "random"))
	seg := &st.Segments[0]
	if err := r.VerifyCopy(t.Context(), seg, &seg.Copies[0]); err != nil || l.past.Load() == 0 {
		t.Errorf("verified from the cache: %v, %d reads of the drive", err, l.past.Load())
	}
	e := &st.Extents[0].Extent
	if err := r.ReadExtent(t.Context(), vol, e, 0, make([]byte, e.Len)); err != nil || !l.forgotten.Load() {
		t.Errorf("read: %v", err)
	}
	if s := r.Stats(); s.Repaired != 0 {
		t.Errorf("a good copy was rewritten: %+v", s)
	}
}
