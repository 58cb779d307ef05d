package blob_test

import (
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Counting reads costs no allocation, neither of a chunk from a drive nor of one
// from the cache, and counts both.
func TestCountingReadsAllocatesNothing(t *testing.T) {
	allocs := map[bool][2]float64{}
	for _, counted := range []bool{false, true} {
		var tab *heat.Table
		if counted {
			tab = heat.New(heat.Options{})
		}
		r := newRig(t, fsapi.CipherAES256GCM, 1, func(o *blob.Options) { o.Heat = tab })
		st := r.store(t, class(1, "none", policy.Chunking{Fixed: 64 << 10}), blob.Segment, bytesOf(1, 64<<10, "random"))
		e := &st.Extents[0].Extent
		buf := make([]byte, e.Len)
		read := func(n int64) func() {
			return func() {
				if err := r.ReadExtent(t.Context(), vol, e, 0, buf[:n]); err != nil {
					t.Error(err)
				}
			}
		}
		cold := testing.AllocsPerRun(500, read(e.Len)) // whole chunks pass the cache by
		seen, _ := tab.Of(e.Loc.Segment)
		warm := testing.AllocsPerRun(500, read(100))
		again, _ := tab.Of(e.Loc.Segment)
		allocs[counted] = [2]float64{cold, warm}
		if counted && (seen.Count != 1 || again.Count != 1) {
			t.Errorf("counted %+v, then %+v", seen, again)
		}
	}
	if allocs[true] != allocs[false] {
		t.Errorf("allocations of a read from a drive and from the cache: %v with counting, %v without", allocs[true], allocs[false])
	}
}

// Where the first tier has no room, the next takes the segment, and those who
// make room are told.
func TestNoRoomIsTold(t *testing.T) {
	var told []string
	r := newRig(t, fsapi.CipherAES256GCM, 2, func(o *blob.Options) { o.NoRoom = func(tier string) { told = append(told, tier) } })
	r.drives[0].SetAvail(1000)
	r.drives[1].With("cold", "far")
	c := class(1, "none", cdc)
	c.Copies = []policy.Copy{{Tier: "hot", Replicas: 1, Evictable: true}, {Tier: "cold", Replicas: 1}}
	st := r.store(t, c, blob.Segment, bytesOf(1, 1<<20, "random"))
	if len(told) == 0 || told[0] != "hot" || st.Segments[0].Copies[0].Tier != "cold" {
		t.Errorf("told %v, lies on %+v", told, st.Segments[0].Copies)
	}
}
