package kv

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

func batches() *rapid.Generator[Batch] {
	op := rapid.Custom(func(t *rapid.T) Op {
		o := Op{
			Kind: rapid.SampledFrom([]OpKind{OpPut, OpDelete, OpAdd}).Draw(t, "kind"),
			Key:  rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "key"),
		}
		switch o.Kind {
		case OpPut:
			o.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		case OpAdd:
			o.Delta = rapid.Int64().Draw(t, "delta")
		}
		return o
	})
	return rapid.Custom(func(t *rapid.T) Batch {
		return Batch{
			Seq: Seq(rapid.Uint64().Draw(t, "seq")), Stamp: clock.Stamp(rapid.Uint64().Draw(t, "stamp")),
			Ops: rapid.SliceOfN(op, 1, 8).Draw(t, "ops"),
		}
	})
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(batches(), 1, 4).Draw(t, "batches")
		var enc []byte
		for _, b := range want {
			enc = AppendBatch(enc, b)
		}
		for i := range want {
			var got Batch
			var err error
			if got, enc, err = DecodeBatch(enc); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[i], got); diff != "" {
				t.Fatalf("batch %d (-want +got):\n%s", i, diff)
			}
		}
		if len(enc) != 0 {
			t.Fatalf("%d bytes left over", len(enc))
		}
	})
}

// TestBatchDamage: a batch that lost or changed any byte is not read.
func TestBatchDamage(t *testing.T) {
	enc := AppendBatch(nil, Batch{Seq: 7, Stamp: 9, Ops: []Op{
		{Kind: OpPut, Key: []byte("key"), Value: []byte("value")}, {Kind: OpAdd, Key: []byte("n"), Delta: -1},
	}})
	for i := range enc {
		if _, _, err := DecodeBatch(enc[:i]); fsapi.KindOf(err) != fsapi.Corrupt {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(enc)
			bad[i] ^= 1 << bit
			if _, _, err := DecodeBatch(bad); err == nil || fsapi.KindOf(err) != fsapi.Corrupt {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
}

// TestBatchVector is the format as other implementations see it.
func TestBatchVector(t *testing.T) {
	want := "SKB1" + "\xd9\xa1\xd8\x56" + "\x15\x00\x00\x00" +
		"\x02\x01\x00\x00\x00\x00\x00\x00" + "\x04\x03\x00\x00\x00\x00\x00\x00" +
		"\x01\x01a\x02bc" + "\x02\x02de" + "\x03\x01f\xfe\xff\xff\xff\xff\xff\xff\xff"
	got := AppendBatch(nil, Batch{Seq: 0x102, Stamp: 0x304, Ops: []Op{
		{Kind: OpPut, Key: []byte("a"), Value: []byte("bc")}, {Kind: OpDelete, Key: []byte("de")}, {Kind: OpAdd, Key: []byte("f"), Delta: -2},
	}})
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzDecodeBatch: whatever decodes encodes to the same bytes, and nothing
// makes the decoder panic. The seal is repaired, so that the operations are
// reached.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendBatch(nil, Batch{Seq: 1, Stamp: 2}))
	f.Add(AppendBatch(nil, Batch{Seq: 1, Stamp: 2, Ops: []Op{
		{Kind: OpPut, Key: []byte("a"), Value: []byte("bc")}, {Kind: OpDelete, Key: []byte("de")}, {Kind: OpAdd, Key: []byte("f"), Delta: -2},
	}}))
	f.Add(AppendBatch(nil, Batch{Seq: 1, Stamp: 2, Ops: []Op{{Kind: OpPut, Key: make([]byte, 200), Value: make([]byte, 300)}}}))
	f.Fuzz(func(t *testing.T, src []byte) {
		_, _, _ = DecodeBatch(src)
		if len(src) < batchHeader {
			return
		}
		sealed := bytes.Clone(src)
		sealBatch(sealed, 5, 6)
		b, rest, err := DecodeBatch(sealed)
		if err != nil {
			if fsapi.KindOf(err) != fsapi.Corrupt {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if again := AppendBatch(nil, b); !bytes.Equal(again, sealed) || len(rest) != 0 {
			t.Fatalf("%q decodes to %+v, which encodes to %q", sealed, b, again)
		}
	})
}
