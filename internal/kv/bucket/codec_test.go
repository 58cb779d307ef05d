package bucket

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
)

func someSalt(b byte) (s salt) {
	for i := range s {
		s[i] = b + byte(i)
	}
	return s
}

func someManifest() manifest {
	return manifest{
		ref: ref{epoch: 3, number: 9, salt: someSalt(1)}, from: 17,
		files:   []smallFile{{"MANIFEST-000003", []byte("abc")}, {"marker.manifest.000001.MANIFEST-000003", []byte{}}},
		tables:  []tableEntry{{"000005.sst", 1 << 20, ref{epoch: 2, salt: someSalt(2)}}},
		garbage: []garbage{{since: 5, key: "table/x"}, {since: 6, first: 1, last: 9}},
	}
}

func someHead() head {
	return head{epoch: 7, salt: someSalt(3), holder: "a machine", manifest: ref{epoch: 6, number: 4, salt: someSalt(4)}, from: 99}
}

func TestCodecRoundTrip(t *testing.T) {
	m := someManifest()
	hd := header{kind: kindManifest, epoch: m.epoch, number: m.number, salt: m.salt}
	gotHeader, plain, err := unseal(testKey, seal(testKey, hd, m.encode()))
	must(t, err)
	got, err := decodeManifest(gotHeader, plain)
	must(t, err)
	all := cmp.AllowUnexported(manifest{}, ref{}, smallFile{}, tableEntry{}, garbage{}, head{})
	if diff := cmp.Diff(m, got, all); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	h := someHead()
	gotHeader, plain, err = unseal(testKey, seal(testKey, header{kind: kindHead, epoch: h.epoch, salt: h.salt}, h.encode()))
	must(t, err)
	gotHead, err := decodeHead(gotHeader, plain)
	must(t, err)
	if diff := cmp.Diff(h, gotHead, all); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
}

// TestDamage: an object of which any bit was changed, that was cut or goes on
// longer, or is sealed with another key, does not verify.
func TestDamage(t *testing.T) {
	h := someHead()
	whole := seal(testKey, header{kind: kindHead, epoch: h.epoch, salt: h.salt}, h.encode())
	for i := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, _, err := unseal(testKey, b); fsapi.KindOf(err) != fsapi.Corrupt && fsapi.KindOf(err) != fsapi.NotSupported {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	for n := range whole {
		if _, _, err := unseal(testKey, whole[:n]); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := unseal(testKey, append(bytes.Clone(whole), 0)); fsapi.KindOf(err) != fsapi.Corrupt {
		t.Errorf("longer: %v", err)
	}
	if _, _, err := unseal(bytes.Repeat([]byte{1}, 32), whole); fsapi.KindOf(err) != fsapi.Corrupt {
		t.Errorf("another key: %v", err)
	}
}

// TestSwapped: a journal object under another's number is not taken for it.
func TestSwapped(t *testing.T) {
	s := opened(t, mem.New(mem.Options{}))
	r := &remote{Store: s, key: testKey}
	body := seal(testKey, header{kind: kindBatches, epoch: 1, number: 5, salt: someSalt(9)}, nil)
	_, err := object.PutBytes(t.Context(), s, journalKey(6), body, object.IfAbsent())
	must(t, err)
	if _, _, err := r.readJournal(t.Context(), 6); fsapi.KindOf(err) != fsapi.Corrupt {
		t.Errorf("got %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, key := range []string{ref{epoch: 1, salt: someSalt(1)}.table(), ref{epoch: 1, number: 2, salt: someSalt(1)}.manifest(), journalKey(1 << 60)} {
		must(t, object.CheckKey(key))
	}
	want := ref{epoch: 1 << 60, number: 77, salt: someSalt(200)}
	if got, ok := parseRef(want.manifest()); !ok || got != want {
		t.Errorf("%v, %v", got, ok)
	}
	want.number = 0
	if got, ok := parseRef(want.table()); !ok || got != want {
		t.Errorf("%v, %v", got, ok)
	}
	for _, key := range []string{"", "table/", "table/0-1", "manifest/" + want.table()[6:], "head"} {
		if _, ok := parseRef(key); ok {
			t.Errorf("%q was taken for a manifest or table", key)
		}
	}
}

// FuzzHead, FuzzManifest and FuzzHeader: whatever decodes encodes to the same
// bytes, and nothing makes a decoder panic or take memory without bound.
func FuzzHead(f *testing.F) {
	h := someHead()
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(header{kind: kindHead}, b)
		if err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("%x became %x", b, h.encode())
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := someManifest()
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(header{kind: kindManifest}, b)
		if err == nil && !bytes.Equal(m.encode(), b) {
			t.Errorf("%x became %x", b, m.encode())
		}
	})
}

func FuzzHeader(f *testing.F) {
	h := header{kind: kindBatches, epoch: 1, number: 2, size: 3, salt: someSalt(4)}
	f.Add(h.encode())
	f.Add(seal(testKey, h, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err == nil && !bytes.Equal(h.encode(), b[:headerLen]) {
			t.Errorf("%x became %x", b[:headerLen], h.encode())
		}
		_, _, _ = unseal(testKey, b)
	})
}

// sink takes replayed batches.
type sink struct{ last kv.Seq }

func (s *sink) Apply(c kv.Commit) error     { s.last = c.Seq; return nil }
func (s *sink) Admit(context.Context) error { return nil }

// FuzzJournal: of a journal object that verified, whatever is in it, batches are
// applied in order and none twice, or it is refused.
func FuzzJournal(f *testing.F) {
	var enc []byte
	for seq := range kv.Seq(3) {
		enc = kv.AppendBatch(enc, kv.Batch{Seq: seq + 1, Ops: []kv.Op{{Kind: kv.OpPut, Key: []byte("k"), Value: []byte("v")}}})
	}
	f.Add(enc, uint8(3), uint64(1))
	f.Add([]byte("holder"), uint8(4), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, k uint8, epoch uint64) {
		s := &sink{}
		r := replay{s: s, limit: 1 << 20}
		err := r.take(t.Context(), record{kind: kind(k), epoch: epoch, plain: b}, 1<<32)
		if r.last.Seq != s.last || err == nil && kind(k) != kindStart && len(r.batches) != int(s.last) {
			t.Errorf("%d batches, last %d, applied %d: %v", len(r.batches), r.last.Seq, s.last, err)
		}
	})
}
