package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

var ciphers = []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func newCodecs(t testing.TB) *Codecs {
	t.Helper()
	c, err := NewCodecs(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newKey(t testing.TB, c fsapi.Cipher, seg byte) *Key {
	t.Helper()
	k, err := NewKey(c, bytes.Repeat([]byte{9}, 32), fsapi.SegmentID{seg}, FrameInfo)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealed(t testing.TB, c fsapi.Cipher, plain []byte) []byte {
	k := newKey(t, c, 1)
	f := make([]byte, HeaderSize+len(plain)+k.Overhead())
	h := Header{Volume: 3, Key: 1, Index: 7, Len: uint32(len(plain)), Segment: fsapi.SegmentID{1}, Chunk: fsapi.ChunkID{2}}
	k.Seal(f, &h, plain)
	return f
}

func TestSealOpen(t *testing.T) {
	for _, c := range ciphers {
		plain := random(5000)
		f := sealed(t, c, plain)
		h, err := Parse(f)
		if err != nil || h.Volume != 3 || h.Index != 7 || h.Len != 5000 || h.Cipher != c || h.Size() != len(f) {
			t.Fatalf("%v: %+v, %v", c, h, err)
		}
		out, err := newKey(t, c, 1).Open(make([]byte, 5000), f, &h)
		if err != nil || !bytes.Equal(out, plain) {
			t.Errorf("%v: %v", c, err)
		}
		if c == fsapi.CipherNone {
			continue
		}
		if bytes.Contains(f, plain[:32]) {
			t.Errorf("%v: plaintext in the frame", c)
		}
		if _, err := newKey(t, c, 2).Open(make([]byte, 5000), f, &h); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("%v: opened with another segment's key: %v", c, err)
		}
	}
}

func TestFramesOfOneSegmentDiffer(t *testing.T) {
	for _, c := range ciphers[1:] {
		k := newKey(t, c, 1)
		a, b := make([]byte, HeaderSize+100+16), make([]byte, HeaderSize+100+16)
		k.Seal(a, &Header{Index: 1, Len: 100}, make([]byte, 100))
		k.Seal(b, &Header{Index: 2, Len: 100}, make([]byte, 100))
		if bytes.Equal(a[HeaderSize:HeaderSize+32], b[HeaderSize:HeaderSize+32]) {
			t.Errorf("%v: a nonce was used twice", c)
		}
	}
}

func TestCompression(t *testing.T) {
	c := newCodecs(t)
	text := []byte(strings.Repeat("to compress, or not to compress; ", 9000))
	for _, p := range []policy.Compression{"auto", "s2", "none", "zstd-1", "zstd-3", "zstd-7", "zstd-19"} {
		for _, cold := range []bool{false, true} {
			comp, err := c.Compressor(p, cold)
			if err != nil {
				t.Fatal(err)
			}
			for _, plain := range [][]byte{text, random(300_000), random(10), text[:33], bytes.Repeat([]byte{7}, policy.MaxChunk)} {
				scratch := make([]byte, comp.Bound(len(plain)))
				body, codec := comp.Compress(scratch, plain)
				if len(body) > len(plain) || (codec == CodecNone) != (len(body) == len(plain)) {
					t.Errorf("%s: %d bytes became %d (%v)", p, len(plain), len(body), codec)
				}
				out := make([]byte, len(plain))
				if err := c.Decompress(out, body, codec); err != nil || !bytes.Equal(out, plain) {
					t.Errorf("%s: %d bytes did not come back: %v", p, len(plain), err)
				}
				for _, n := range []int{len(plain) - 1, len(plain) + 1} {
					if err := c.Decompress(make([]byte, n), body, codec); !errors.Is(err, fsapi.Corrupt) {
						t.Errorf("%s: %d bytes taken for %d: %v", p, len(plain), n, err)
					}
				}
			}
			if body, codec := comp.Compress(make([]byte, comp.Bound(len(text))), text); p != "none" && len(body) > len(text)/4 {
				t.Errorf("%s: text of %d bytes became %d (%v)", p, len(text), len(body), codec)
			} else if want := map[bool]Codec{false: CodecS2, true: CodecZstd}[cold]; p == "auto" && codec != want {
				t.Errorf("auto used %v, cold %v", codec, cold)
			}
		}
	}
	if _, err := c.Compressor("lzma", false); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("lzma: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range ciphers {
		f.Add(sealed(f, c, random(100)))
	}
	f.Add([]byte("SF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderSize { // or the checksum would stop nearly everything
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[aadSize:], crc(b[:aadSize]))
		}
		h, err := Parse(b)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatalf("%v", err)
			}
			return
		}
		again := make([]byte, HeaderSize)
		h.Put(again)
		if !bytes.Equal(again, b[:HeaderSize]) {
			t.Fatalf("%+v is written as other bytes", h)
		}
		if k := newKey(t, h.Cipher, 1); h.Size() <= len(b) {
			_, _ = k.Open(make([]byte, h.Body), bytes.Clone(b[:h.Size()]), &h)
		}
	})
}

// Compressed bytes come from AEAD-verified frames only, but an unencrypted
// store's checksum can be forged: nothing may crash or allocate by claim.
func FuzzDecompress(f *testing.F) {
	c, err := NewCodecs(1)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []policy.Compression{"s2", "zstd-3"} {
		comp, _ := c.Compressor(p, false)
		plain := bytes.Repeat([]byte("abc"), 100)
		body, codec := comp.Compress(make([]byte, comp.Bound(300)), plain)
		f.Add(body, byte(codec), 300)
	}
	f.Fuzz(func(t *testing.T, body []byte, codec byte, n int) {
		if n < 0 || n > 1<<20 {
			return
		}
		out := make([]byte, n, n+64)
		guard := out[n : n+64]
		for i := range guard {
			guard[i] = 0xa5
		}
		err := c.Decompress(out, body, Codec(codec))
		if err != nil && !errors.Is(err, fsapi.Corrupt) {
			t.Fatal(err)
		}
		if !bytes.Equal(guard, bytes.Repeat([]byte{0xa5}, 64)) {
			t.Fatal("wrote past the chunk's end")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, c := range ciphers {
		b.Run(c.String(), func(b *testing.B) {
			k, plain := newKey(b, c, 1), random(256<<10)
			dst := make([]byte, HeaderSize+len(plain)+k.Overhead())
			h := Header{Len: uint32(len(plain))}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				k.Seal(dst, &h, plain)
			}
		})
	}
}

func BenchmarkCompressIncompressible(b *testing.B) {
	for _, p := range []policy.Compression{"auto", "zstd-3"} {
		b.Run(string(p), func(b *testing.B) {
			comp, err := newCodecs(b).Compressor(p, false)
			if err != nil {
				b.Fatal(err)
			}
			plain := random(256 << 10)
			scratch := make([]byte, comp.Bound(len(plain)))
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				comp.Compress(scratch, plain)
			}
		})
	}
}
