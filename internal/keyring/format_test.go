package keyring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

// cheap keeps tests fast; the cost of guessing is not what they test.
var cheap = Params{Passes: 1, MemoryKiB: 8, Lanes: 1}

var right = []byte("correct horse")

// lockOf is a lock with wrappings for keys.
func lockOf(t testing.TB, keks ...KEK) *lock {
	t.Helper()
	var wraps []*wrapping
	for _, kek := range keks {
		w, err := newWrapping(t.Context(), kek, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, w)
	}
	l, err := newLock(wraps)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sample is a keyring that was never in a file, with volumes of every cipher.
func sample(t testing.TB) []byte {
	l := lockOf(t, Password(right, cheap))
	s := &state{generation: 7, store: random(keyLen), volumes: map[fsapi.VolumeID]*volume{
		1: {},
		2: {cipher: fsapi.CipherAES256GCM, id: random(keyLen), data: []dataKey{{version: 1, key: random(keyLen)}}},
		9: {cipher: fsapi.CipherXChaCha20, id: random(keyLen), data: []dataKey{{version: 3, key: random(keyLen)}, {version: 4, key: random(keyLen)}}},
	}}
	data, err := l.seal(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseBytes(t *testing.T) {
	data := sample(t)
	k, err := Parse(data, right)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := Generation(data); err != nil || g != 7 || k.Generation() != 7 {
		t.Errorf("generation %d, %v", g, err)
	}
	type cur struct {
		v fsapi.KeyVersion
		c fsapi.Cipher
	}
	got := map[fsapi.VolumeID]cur{}
	for _, v := range k.Volumes() {
		ver, c, err := k.Current(v.ID)
		if err != nil {
			t.Fatal(err)
		}
		got[v.ID] = cur{ver, c}
	}
	want := map[fsapi.VolumeID]cur{1: {0, fsapi.CipherNone}, 2: {1, fsapi.CipherAES256GCM}, 9: {4, fsapi.CipherXChaCha20}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(cur{})); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(k.Bytes(), data) {
		t.Error("Bytes differ from what was parsed")
	}
	if err := k.AddVolume(5, fsapi.CipherAES256GCM); !errors.Is(err, fsapi.ReadOnly) {
		t.Errorf("a keyring without a file took a change: %v", err)
	}
}

func TestParseWrongPassword(t *testing.T) {
	_, err := Parse(sample(t), []byte("wrong horse"))
	if !errors.Is(err, fsapi.Unauthorized) || !bytes.Contains([]byte(err.Error()), []byte("wrong password")) {
		t.Errorf("%v, want Unauthorized", err)
	}
}

// resum sets a right checksum, as damage that a checksum cannot see would have.
func resum(data []byte) []byte {
	n := len(data) - crcLen
	return binary.LittleEndian.AppendUint32(data[:n:n], crc32.Checksum(data[:n], castagnoli))
}

// offPasses is where the parameters of Argon2id lie in sample's file.
const offPasses = offWraps + 1 + idLen + 8 + 1 + len("password") + 2 + saltLen

// A flip of any single bit is noticed, and with a checksum made to fit as well.
func TestParseFlippedBits(t *testing.T) {
	data := sample(t)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if _, err := Parse(bad, right); !errors.Is(err, fsapi.Corrupt) {
			t.Fatalf("byte %d flipped: %v, want Corrupt", i, err)
		}
		if i >= offPasses && i < offPasses+9 {
			continue // would only make Argon2id slow
		}
		if _, err := Parse(resum(bad), right); err == nil && i < len(data)-crcLen {
			t.Fatalf("byte %d altered with its checksum: not noticed", i)
		}
	}
	for n := range data {
		if _, err := Parse(data[:n], right); !errors.Is(err, fsapi.Corrupt) {
			t.Fatalf("cut to %d bytes: %v, want Corrupt", n, err)
		}
	}
}

func TestParseOtherVersion(t *testing.T) {
	data := sample(t)
	data[offVersion] = 1
	if _, err := Parse(resum(data), right); !errors.Is(err, fsapi.NotSupported) {
		t.Errorf("%v, want NotSupported", err)
	}
}

func TestParams(t *testing.T) {
	for _, p := range []Params{{}, {1, 7, 1}, {0, 8, 1}, {65, 8, 1}, {1, 8, 0}, {1, 4<<20 + 1, 1}, {1, 8, 2}} {
		if _, err := newWrapping(t.Context(), Password(right, p), time.Now()); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%+v: %v, want Invalid", p, err)
		}
	}
	if err := DefaultParams().check(); err != nil {
		t.Error(err)
	}
	if _, err := newWrapping(t.Context(), Password(nil, cheap), time.Now()); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("empty password: %v", err)
	}
}

// Whatever the bytes, parsing ends with an answer or an error with a kind.
func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > offWraps && len(data) <= maxFile { // let the fuzzer past the checksum
			data = bytes.Clone(data)
			copy(data, magic)
			data = resum(data)
		}
		h, err := parseHeader(data)
		if err != nil {
			if k := fsapi.KindOf(err); k != fsapi.Corrupt && k != fsapi.NotSupported {
				t.Fatalf("%v has kind %v", err, k)
			}
			return
		}
		if len(h.head)+bodyHead+len(h.body)+crcLen != len(data) || len(h.wraps) == 0 {
			t.Fatal("the parts do not add up")
		}
	})
}

// A body that is taken encodes to the same bytes: it has one spelling.
func FuzzBody(f *testing.F) {
	data := sample(f)
	h, err := parseHeader(data)
	if err != nil {
		f.Fatal(err)
	}
	l, err := h.unlock(f.Context(), []KEK{Password(right, Params{})})
	if err != nil {
		f.Fatal(err)
	}
	s, err := h.open(l)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeBody(s))
	f.Add(encodeBody(&state{store: random(keyLen)}))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := decodeBody(body)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if again := encodeBody(s); !bytes.Equal(again, body) {
			t.Fatalf("%x decodes and encodes as %x", body, again)
		}
	})
}

func TestGeneratePassword(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		p := string(GeneratePassword())
		if len(p) != 7*4+6 || seen[p] {
			t.Fatalf("password %q", p)
		}
		seen[p] = true
	}
}

func TestPasswordFrom(t *testing.T) {
	env := func(k string) (string, bool) { return "from-env", k == "STRAKE_PASSWORD" }
	answers := func(list ...string) func(string) ([]byte, error) {
		return func(string) ([]byte, error) {
			if len(list) == 0 {
				return nil, fmt.Errorf("no more answers")
			}
			a := list[0]
			list = list[1:]
			return []byte(a), nil
		}
	}
	tests := []struct {
		name string
		s    Sources
		want string
		kind fsapi.Kind
	}{
		{"environment before prompt", Sources{Env: "STRAKE_PASSWORD", LookupEnv: env, Prompt: answers("typed")}, "from-env", 0},
		{"prompt where the variable is unset", Sources{Env: "OTHER", LookupEnv: env, Prompt: answers("typed")}, "typed", 0},
		{"confirmed", Sources{Prompt: answers("a", "a"), Confirm: true}, "a", 0},
		{"not confirmed", Sources{Prompt: answers("a", "b"), Confirm: true}, "", fsapi.Invalid},
		{"empty", Sources{Prompt: answers("")}, "", fsapi.Invalid},
		{"nobody to ask", Sources{Env: "OTHER", LookupEnv: env}, "", fsapi.Unauthorized},
		{"prompt fails", Sources{Prompt: answers("a"), Confirm: true}, "", fsapi.Unauthorized},
	}
	for _, tt := range tests {
		got, err := PasswordFrom(tt.s)
		if string(got) != tt.want || (err != nil && fsapi.KindOf(err) != tt.kind) || (err == nil) != (tt.kind == 0) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
