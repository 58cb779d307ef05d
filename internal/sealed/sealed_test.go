package sealed_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/sealed"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// file seals data, written in pieces.
func file(t testing.TB, data []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := sealed.NewWriter(&out, key(1), []byte("keyring"))
	if err != nil {
		t.Fatal(err)
	}
	for p := data; len(p) > 0; p = p[min(piece, len(p)):] {
		if _, err := w.Write(p[:min(piece, len(p))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(b, storeKey []byte) ([]byte, error) {
	r, err := sealed.Open(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.Unlock(storeKey)
	return io.ReadAll(r)
}

func TestRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		b := file(t, data, 1+n/3)
		if got, err := read(b, key(1)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d come back, %v", n, len(got), err)
		}
		r, err := sealed.Open(bytes.NewReader(b))
		if err != nil || string(r.Keyring()) != "keyring" {
			t.Fatalf("keyring %q, %v", r.Keyring(), err)
		}
		if _, err := r.Read(make([]byte, 1)); fsapi.KindOf(err) != fsapi.Unauthorized {
			t.Errorf("a locked file is read: %v", err)
		}
		if _, err := read(b, key(2)); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("another store's key opens it: %v", err)
		}
	}
}

// TestDamage: no flipped bit and no cut goes unnoticed, and nothing may follow.
func TestDamage(t *testing.T) {
	whole := file(t, bytes.Repeat([]byte("some text "), 120_000), 1<<20) // two blocks
	for i := 0; i < len(whole)*8; i += 1 + i/50 {
		bad := bytes.Clone(whole)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := read(bad, key(1)); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := 0; n < len(whole); n += 1 + n/50 {
		if _, err := read(whole[:n], key(1)); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := read(append(bytes.Clone(whole), 0), key(1)); fsapi.KindOf(err) != fsapi.Corrupt {
		t.Errorf("something follows: %v", err)
	}
	if bytes.Contains(whole, []byte("some text")) {
		t.Error("the text can be read")
	}
}

// FuzzOpen reads anything as a sealed file.
func FuzzOpen(f *testing.F) {
	f.Add(file(f, []byte("text"), 4))
	f.Add([]byte(sealed.Magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(b, key(1))
		if err == nil && len(got) > 0 && !bytes.HasPrefix(b, []byte(sealed.Magic)) {
			t.Errorf("%q is read", b)
		}
		if k := fsapi.KindOf(err); err != nil && k != fsapi.Corrupt && k != fsapi.NotSupported {
			t.Errorf("error %v", err)
		}
	})
}
