package identity

import (
	"bytes"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestIdentityText(t *testing.T) {
	id := Identity{ID: 0x0123456789abcdef, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	text := Append(nil, id)
	const want = "strake drive 1\nid 0123456789abcdef\ncreated 2026-01-02T03:04:05Z\ncrc32c a02e5046\n"
	if string(text) != want {
		t.Errorf("text is %q", text)
	}
	if got, err := Parse(text); err != nil || got != id {
		t.Errorf("parsed as %v, %v", got, err)
	}
	for i := range len(text) * 8 {
		bad := bytes.Clone(text)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := Parse(bad); err == nil || fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	for n := range text {
		if _, err := Parse(text[:n]); err == nil {
			t.Errorf("cut to %d bytes and accepted", n)
		}
	}
}

func TestNewerIdentity(t *testing.T) {
	body := []byte("strake drive 2\nsomething else\n")
	text := append(body, "crc32c "...)
	text = append(text, hex8(checksum(body))+"\n"...)
	if _, err := Parse(text); err == nil || fsapi.KindOf(err) != fsapi.NotSupported {
		t.Errorf("got %v", err)
	}
}

func hex8(n uint32) string {
	var b [8]byte
	for i := range b {
		b[i] = "0123456789abcdef"[n>>(28-4*i)&15]
	}
	return string(b[:])
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("strake drive 1\nid 0123456789abcdef\ncreated 2026-01-02T03:04:05Z\ncrc32c a02e5046\n"))
	f.Add([]byte("strake drive 2\ncrc32c 00000000\n"))
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := Parse(b)
		if err == nil && !bytes.Equal(Append(nil, id), b) {
			t.Errorf("%q is accepted as %v, which is written otherwise", b, id)
		}
		// The same with a right checksum.
		if body, _, ok := cutLast(b); ok {
			sealed := append(bytes.Clone(body), "crc32c "+hex8(checksum(body))+"\n"...)
			if id, err := Parse(sealed); err == nil && !bytes.Equal(Append(nil, id), sealed) {
				t.Errorf("%q is accepted as %v, which is written otherwise", sealed, id)
			}
		}
	})
}
