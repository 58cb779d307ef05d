package dir

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

func TestTrailer(t *testing.T) {
	want := trailer{1234, provider.Mark(strings.Repeat("0f", 16))}
	text, err := formatTrailer(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseTrailer(text); err != nil || got != want {
		t.Errorf("parsed as %v, %v", got, err)
	}
	for i := range len(text) * 8 {
		bad := bytes.Clone(text)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := parseTrailer(bad); err == nil || fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	newer := bytes.Clone(text)
	newer[7] = 2
	binary.LittleEndian.PutUint32(newer[36:], checksum(newer[:36]))
	if _, err := parseTrailer(newer); err == nil || fsapi.KindOf(err) != fsapi.NotSupported {
		t.Errorf("a newer format: %v", err)
	}
}

func FuzzParseTrailer(f *testing.F) {
	text, err := formatTrailer(trailer{5, provider.Mark(strings.Repeat("a1", 16))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == trailerSize {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[36:], checksum(b[:36]))
		}
		tr, err := parseTrailer(b)
		if err != nil {
			return
		}
		if again, err := formatTrailer(tr); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and written otherwise, %v", b, err)
		}
	})
}
