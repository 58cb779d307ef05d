package vfs_test

import (
	"fmt"
	"testing"
)

// TestStreamIsNotGathered: of a file that is written from one end to the other, in
// pieces of whatever size, little is copied once more before it is stored.
func TestStreamIsNotGathered(t *testing.T) {
	data := noise(1, 96<<20)
	for _, piece := range []int{4 << 10, 300_000, 1 << 20} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			f := r.create("f")
			defer f.Close()
			for off := 0; off < len(data); off += piece {
				r.write(f, data[off:min(off+piece, len(data))], int64(off))
			}
			r.ok(f.Sync(r.ctx, false))
			if n := r.fs.Gathered(); n > int64(len(data)/5) {
				t.Errorf("%d of %d bytes were gathered", n, len(data))
			}
			r.wants(f, data)
		})
	}
}
