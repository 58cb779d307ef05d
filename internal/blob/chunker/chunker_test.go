package chunker

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/policy"
)

func cuts(t testing.TB, k *Cutter, data []byte) []int {
	t.Helper()
	var out []int
	for len(data) > 0 {
		n := k.Cut(data)
		if n < 1 || n > len(data) || n > k.Max() {
			t.Fatalf("cut of %d bytes: %d", len(data), n)
		}
		out = append(out, n)
		data = data[n:]
	}
	return out
}

// reference cuts with the library that the format names.
func reference(t testing.TB, c policy.Chunking, idKey, data []byte) []int {
	t.Helper()
	o := &chunkers.ChunkerOpts{MinSize: c.Min, NormalSize: c.Avg, MaxSize: c.Max}
	if idKey != nil {
		o.Key, _ = hkdf.Key(sha256.New, idKey, nil, keyInfo, 32)
	}
	r, err := chunkers.NewChunker("fastcdc-v1.0.0", bytes.NewReader(data), o)
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for {
		b, err := r.Next()
		if len(b) > 0 {
			out = append(out, len(b))
		}
		if errors.Is(err, io.EOF) && len(b) == 0 {
			return out
		}
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	src.Read(b)
	return b
}

func TestCutsAreFastCDCs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := rapid.SampledFrom([]policy.Chunking{
			{Min: 64 << 10, Avg: 256 << 10, Max: 1 << 20},
			{Min: 2 << 10, Avg: 8 << 10, Max: 64 << 10},
			{Min: 512, Avg: 4 << 10, Max: 16 << 10},
			{Min: 16 << 10, Avg: 64 << 10, Max: 200_001},
		}).Draw(rt, "chunking")
		var key []byte
		if rapid.Bool().Draw(rt, "keyed") {
			key = bytes.Repeat([]byte{7}, 32)
		}
		data := random(rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(1, 3<<20).Draw(rt, "len"))
		if rapid.Bool().Draw(rt, "runs") { // long runs meet the largest size
			clear(data[len(data)/3 : len(data)/2])
		}
		k, err := New(c, key)
		if err != nil {
			rt.Fatal(err)
		}
		got, want := cuts(t, k, data), reference(t, c, key, data)
		if !slices.Equal(got, want) {
			rt.Fatalf("cuts %v, library %v", got, want)
		}
	})
}

func TestCutsComeTogetherAfterAnInsert(t *testing.T) {
	k, _ := New(policy.Default().Chunking, nil)
	a := random(1, 16<<20)
	b := slices.Concat(a[:1<<20], []byte("x"), a[1<<20:])
	ends := func(data []byte) map[int]bool {
		m, at := map[int]bool{}, len(data)
		for _, n := range cuts(t, k, data) {
			m[at] = true
			at -= n
		}
		return m
	}
	ea, eb, same := ends(a), ends(b), 0
	for at := range ea {
		if eb[at] {
			same++
		}
	}
	if same < len(ea)*3/4 {
		t.Errorf("only %d of %d cuts survive one inserted byte", same, len(ea))
	}
}

func TestFixed(t *testing.T) {
	k, err := New(policy.Chunking{Fixed: 1000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cuts(t, k, make([]byte, 2500)); !slices.Equal(got, []int{1000, 1000, 500}) {
		t.Errorf("cuts %v", got)
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []policy.Chunking{{}, {Min: 1, Avg: 2, Max: 3}, {Min: 100, Avg: 100, Max: 200}, {Fixed: policy.MaxChunk + 1}} {
		if _, err := New(c, nil); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	data := random(3, 16<<20)
	k, _ := New(policy.Default().Chunking, make([]byte, 32))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for d := data; len(d) > 0; d = d[k.Cut(d):] {
		}
	}
}
