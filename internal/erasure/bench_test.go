package erasure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
)

var benchLayouts = []Layout{For(4, 2, 64<<20), For(10, 4, 64<<20), For(17, 3, 64<<20)}

func benchmark(b *testing.B, fn func(b *testing.B, c *Coder, seg []byte, s *shards)) {
	for _, l := range benchLayouts {
		b.Run(fmt.Sprintf("%d+%d", l.K, l.M), func(b *testing.B) {
			c, seg := New(Config{}), content(1, l.SegmentSize)
			s := encode(b, c, l, seg)
			b.SetBytes(l.SegmentSize)
			b.ReportAllocs()
			b.ResetTimer()
			fn(b, c, seg, s)
		})
	}
}

func discard(n int) []io.Writer {
	out := make([]io.Writer, n)
	for i := range out {
		out[i] = io.Discard
	}
	return out
}

// Of segment bytes a second, from memory, with all checksums.
func BenchmarkEncode(b *testing.B) {
	benchmark(b, func(b *testing.B, c *Coder, seg []byte, s *shards) {
		for b.Loop() {
			if err := c.Encode(context.Background(), testID, s.l, bytes.NewReader(seg), discard(s.l.Shards())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	benchmark(b, func(b *testing.B, c *Coder, seg []byte, s *shards) {
		for b.Loop() {
			w, err := c.NewWriter(testID, s.l, discard(s.l.Shards()))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.Write(seg); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Of segment bytes a second: one data shard is rebuilt from K others.
func BenchmarkRebuild(b *testing.B) {
	benchmark(b, func(b *testing.B, c *Coder, seg []byte, s *shards) {
		var have []int
		for i := 1; i < s.l.Shards(); i++ {
			have = append(have, i)
		}
		r := s.open(b, c, have)
		out := make([]io.Writer, s.l.Shards())
		out[0] = io.Discard
		for b.Loop() {
			if _, err := r.Rebuild(context.Background(), out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A frame's worth, healthy and from a shard that is gone.
func BenchmarkRead(b *testing.B) {
	l := For(10, 4, 64<<20)
	c, seg := New(Config{}), content(1, l.SegmentSize)
	s := encode(b, c, l, seg)
	for name, have := range map[string][]int{"healthy": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "degraded": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}} {
		b.Run(name, func(b *testing.B) {
			r, p := s.open(b, c, have), make([]byte, 256<<10)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := r.ReadAt(context.Background(), p, 100_000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	l := For(10, 4, 64<<20)
	c := New(Config{})
	s := encode(b, c, l, content(1, l.SegmentSize))
	b.SetBytes(l.BlobSize(0))
	b.ReportAllocs()
	for b.Loop() {
		if faults := s.verify(b, c, 0); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}
