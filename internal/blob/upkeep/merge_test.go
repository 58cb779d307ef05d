package upkeep

import (
	"slices"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// TestMergeApart: a shard that was written to a drive which was given another of the
// same copy meanwhile, by a step that moved that, does not go on record: the loss of
// one drive would cost two.
func TestMergeApart(t *testing.T) {
	spec := fsapi.CopySpec{Tier: "warm", K: 2, M: 2}
	has := []fsapi.DriveID{1, 5, 2, 0}
	seg := fsapi.Segment{Want: []fsapi.CopySpec{spec}, Copies: []fsapi.CopyPlace{{Tier: "warm", K: 2, M: 2, Drives: slices.Clone(has)}}}
	left := merge(&seg, spec, fsapi.CopyPlace{Tier: "warm", K: 2, M: 2, Drives: []fsapi.DriveID{0, 0, 0, 5}})
	if got := seg.Copies[0].Drives; !slices.Equal(got, has) {
		t.Errorf("on record are %v, want %v", got, has)
	}
	if left.Drives[3] != 5 || left.Count() != 1 {
		t.Errorf("%v is left to be removed, want shard 3 of drive 5", left.Drives)
	}
	if left := merge(&seg, spec, fsapi.CopyPlace{Tier: "warm", K: 2, M: 2, Drives: []fsapi.DriveID{0, 5, 0, 4}}); left.Count() > 0 || seg.Copies[0].Drives[3] != 4 {
		t.Errorf("of shard 1, which is there, and shard 3 on another drive %v is left, and %v on record", left.Drives, seg.Copies[0].Drives)
	}
}
