package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
)

// bits chooses bits of a file to flip: in long runs one of every byte of a
// small file.
func bits(r *rand.Rand, size int64, few int) []int64 {
	var list []int64
	if long() && size <= 8<<10 {
		for i := range size {
			list = append(list, 8*i+r.Int64N(8))
		}
		return list
	}
	n := few
	if long() {
		n = 500
	}
	for range n {
		list = append(list, r.Int64N(8*size))
	}
	// Both ends are where headers and footers are.
	return append(list, r.Int64N(8*min(size, 64)), 8*size-1-r.Int64N(8*min(size, 64)))
}

// TestFlippedBitOfSegment inverts single bits of segments.
func TestFlippedBitOfSegment(t *testing.T) {
	for _, replicas := range []int{1, 2} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			b, err := newBitStore(t.Context(), replicas)
			if err != nil {
				t.Fatal(err)
			}
			files, err := b.stored("/strake", func(name string) bool { return strings.Contains(name, "/seg/") })
			if err != nil || len(files) < 3 {
				t.Fatal(files, err)
			}
			r := rand.New(rand.NewPCG(*flagSeed, 2))
			flips, mended := 0, 0
			for _, name := range slices.Sorted(maps.Keys(files)) {
				for _, bit := range bits(r, files[name], 10) {
					flips++
					m, err := b.segment(t.Context(), name, bit)
					if err != nil {
						t.Errorf("bit %d of %s of %d bytes: %v", bit, name, files[name], err)
					}
					if m {
						mended++
					}
				}
			}
			if replicas > 1 && mended == 0 {
				t.Errorf("reading mended nothing")
			}
			t.Logf("%d bits of %d segments, %d mended by reading", flips, len(files), mended)
		})
	}
}

// TestFlippedBitOfTable inverts single bits of the metadata's tables: opening,
// reading or checking says so, or nothing was lost.
func TestFlippedBitOfTable(t *testing.T) {
	b, err := newBitStore(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	files, err := b.stored("/strake/meta", func(name string) bool { return path.Ext(name) == ".sst" })
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	r := rand.New(rand.NewPCG(*flagSeed, 2))
	flips, noticed := 0, 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, bit := range bits(r, files[name], 60) {
			flips++
			seen, err := b.table(t.Context(), name, bit)
			if err != nil {
				t.Errorf("bit %d of %s of %d bytes: %v", bit, name, files[name], err)
			}
			if seen {
				noticed++
			}
		}
	}
	t.Logf("%d bits of %d tables, %d noticed, the others harmless", flips, len(files), noticed)
}
