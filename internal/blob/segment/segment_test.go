package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/blob/chunker"
	"github.com/strakefs/strake/internal/fsapi"
)

func header() Header {
	return Header{
		ID: fsapi.SegmentID{1, 2, 3}, Volume: 4, Key: 5, Cipher: fsapi.CipherXChaCha20, Hash: HMACSHA256,
		Created: time.UnixMilli(1_700_000_000_123), Chunker: chunker.FastCDC, Min: 1, Avg: 2, Max: 3,
	}
}

func footer() Footer {
	return Footer{ID: fsapi.SegmentID{1, 2, 3}, DirOffset: 1000, DirLength: 144, Frames: 2, Size: 1208, HeaderCRC: 9, Cipher: fsapi.CipherAES256GCM}
}

func entries() []Entry {
	return []Entry{
		{Chunk: fsapi.ChunkID{1}, Offset: 64, Length: 400, Len: 300, Ino: 7, FileOff: 1 << 40},
		{Chunk: fsapi.ChunkID{2}, Offset: 464, Length: 536, Len: 900},
	}
}

func TestRoundTrip(t *testing.T) {
	var b [HeaderSize]byte
	h := header()
	h.Put(b[:])
	if got, err := ParseHeader(b[:]); err != nil || !cmp.Equal(got, h) {
		t.Errorf("%v: %s", err, cmp.Diff(h, got))
	}
	var fb [FooterSize]byte
	f := footer()
	f.Put(fb[:])
	if got, err := ParseFooter(fb[:], 1208); err != nil || got != f {
		t.Errorf("%v: %s", err, cmp.Diff(f, got))
	}
	d := make([]byte, 2*EntrySize)
	PutDirectory(d, entries())
	if got, err := ParseDirectory(d, 2, 1000); err != nil || !cmp.Equal(got, entries()) {
		t.Errorf("%v: %s", err, cmp.Diff(entries(), got))
	}
}

func TestWrongLengthsAreRefused(t *testing.T) {
	var b [FooterSize]byte
	for i, change := range []func(f *Footer){
		func(f *Footer) { f.Size++ },
		func(f *Footer) { f.DirOffset-- },
		func(f *Footer) { f.DirOffset, f.DirLength = 3, 1208-FooterSize-3 },
		func(f *Footer) { f.DirLength++ },
		func(f *Footer) { f.Frames = 3 },
		func(f *Footer) { f.Frames = MaxFrames + 1 },
	} {
		f := footer()
		change(&f)
		f.Put(b[:])
		if _, err := ParseFooter(b[:], 1208); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("footer %d was accepted: %+v", i, f)
		}
	}
	d := make([]byte, 2*EntrySize)
	for i, change := range []func(e []Entry){
		func(e []Entry) { e[0].Offset++ },
		func(e []Entry) { e[1].Length++ },
		func(e []Entry) { e[0].Length, e[1].Offset = 10, 74 },
		func(e []Entry) { e[0].Len = 0 },
		func(e []Entry) { e[0].Len = 1 << 31 },
	} {
		e := entries()
		change(e)
		PutDirectory(d, e)
		if _, err := ParseDirectory(d, 2, 1000); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("directory %d was accepted", i)
		}
	}
}

func FuzzHeader(f *testing.F) {
	var b [HeaderSize]byte
	h := header()
	h.Put(b[:])
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderSize { // or the checksum would stop nearly everything
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[60:], crc(b[:60]))
		}
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		var again [HeaderSize]byte
		h.Put(again[:])
		if !bytes.Equal(again[:], b[:HeaderSize]) {
			t.Fatalf("%+v is written as other bytes", h)
		}
	})
}

func FuzzFooter(f *testing.F) {
	var b [FooterSize]byte
	foot := footer()
	foot.Put(b[:])
	f.Add(b[:], int64(1208))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if len(b) >= FooterSize {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[52:], crc(b[:52]))
		}
		foot, err := ParseFooter(b, size)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if int64(foot.DirOffset)+int64(foot.DirLength)+FooterSize != size || foot.Payload() < 0 {
			t.Fatalf("%+v does not fit %d bytes", foot, size)
		}
		var again [FooterSize]byte
		foot.Put(again[:])
		if !bytes.Equal(again[:], b[:FooterSize]) {
			t.Fatalf("%+v is written as other bytes", foot)
		}
	})
}

func FuzzDirectory(f *testing.F) {
	d := make([]byte, 2*EntrySize)
	PutDirectory(d, entries())
	f.Add(d, uint32(2), int64(1000))
	f.Fuzz(func(t *testing.T, b []byte, frames uint32, end int64) {
		got, err := ParseDirectory(b, frames, end)
		if err != nil {
			if !errors.Is(err, fsapi.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		at := int64(HeaderSize)
		for _, e := range got {
			if int64(e.Offset) != at {
				t.Fatalf("a gap before %d", e.Offset)
			}
			at += int64(e.Length)
		}
		if at != end {
			t.Fatalf("frames end at %d of %d", at, end)
		}
	})
}
