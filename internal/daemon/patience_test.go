package daemon

import (
	"testing"
	"time"

	"github.com/strakefs/strake/internal/meta"
)

// TestPatience: segments on their way to a bucket over a network have the time that a
// slow line needs, which its client bounds by what moves; nothing else does, nor what
// somebody gave a deadline.
func TestPatience(t *testing.T) {
	const segment, line = 64 << 20, 16 << 10 // bytes, and bytes a second
	for _, c := range []struct {
		rec  meta.DriveRecord
		slow bool
	}{
		{meta.DriveRecord{Kind: bucketKind, Where: "s3://bucket/prefix"}, true},
		{meta.DriveRecord{Kind: bucketKind, Where: "file:///mnt/nas"}, false},
		{meta.DriveRecord{Kind: "dir", Where: "/mnt/nas"}, false},
		{meta.DriveRecord{Kind: bucketKind, Where: "s3://bucket", DriveLimits: meta.DriveLimits{Deadline: time.Minute}}, false},
	} {
		o := patience(c.rec, nil)
		if o.Upload >= segment/line*time.Second != c.slow {
			t.Errorf("%s %s: uploads have %v", c.rec.Kind, c.rec.Where, o.Upload)
		}
		if max(o.Read, o.Write, o.Commit, o.Other) > 10*time.Minute {
			t.Errorf("%s %s: other calls have up to %v", c.rec.Kind, c.rec.Where, max(o.Read, o.Write, o.Commit, o.Other))
		}
	}
}
