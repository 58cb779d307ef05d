package erasure

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLayoutAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Layout{K: rapid.IntRange(1, 32).Draw(t, "k"), SegmentSize: rapid.Int64Range(1, 1<<30).Draw(t, "size")}
		l.M = rapid.IntRange(0, 32-l.K).Draw(t, "m")
		l.BlockSize = BlockFor(l.SegmentSize, l.K)
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
		var data int64
		for i := range l.K {
			data += l.Payload(i)
		}
		if data != l.SegmentSize {
			t.Fatalf("%+v: data shards hold %d bytes", l, data)
		}
		off := rapid.Int64Range(0, l.SegmentSize).Draw(t, "off")
		n := rapid.Int64Range(0, 2*l.SegmentSize).Draw(t, "n")
		at := off
		for _, p := range l.Locate(off, n) {
			if int64(p.Shard)*l.ShardPayload()+p.Off != at || p.Len <= 0 || p.Off+p.Len > l.Payload(p.Shard) {
				t.Fatalf("%+v: Locate(%d, %d): %+v where %d should be", l, off, n, p, at)
			}
			at += p.Len
			span := l.BlobRange(p.Shard, p.Off, p.Len)
			first := int64(span.First) * int64(l.BlockSize)
			last := min(first+int64(span.Blocks)*int64(l.BlockSize), l.Payload(p.Shard))
			if p.Off < first || p.Off-first >= int64(l.BlockSize) || p.Off+p.Len > last || last-(p.Off+p.Len) >= int64(l.BlockSize) ||
				span.Len != last-first+4*int64(span.Blocks) || span.Off != HeaderSize+first+4*int64(span.First) || span.Off+span.Len > l.tableOffset(p.Shard) {
				t.Fatalf("%+v: %+v is in %+v", l, p, span)
			}
		}
		if want := min(off+n, l.SegmentSize); at != want {
			t.Fatalf("%+v: Locate(%d, %d) ends at %d, want %d", l, off, n, at, want)
		}
	})
}

// What rounding and checksums cost.
func TestOverheadIsSmall(t *testing.T) {
	for _, c := range []struct {
		k, m  int
		size  int64
		above float64 // of (k+m)/k
	}{
		{10, 4, 64 << 20, 0.01}, {4, 2, 64 << 20, 0.01}, {17, 3, 64 << 20, 0.01}, {10, 4, 4 << 20, 0.05}, {10, 4, 1 << 20, 0.06}, {2, 1, 64 << 10, 0.05},
	} {
		l := For(c.k, c.m, c.size)
		ideal := float64(c.size) * float64(c.k+c.m) / float64(c.k)
		if got := float64(l.Stored())/ideal - 1; got > c.above {
			t.Errorf("%d+%d of %d bytes, blocks of %d: %.2f%% over the ideal", c.k, c.m, c.size, l.BlockSize, 100*got)
		}
	}
}
