package bucket

import (
	"crypto/cipher"
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/sealed"
)

// kind of an object. The numbers are stored.
type kind uint8

const (
	kindHead     kind = 1
	kindManifest kind = 2
	kindBatches  kind = 3 // of the journal: batches
	kindStart    kind = 4 // of the journal: a new epoch begins
	kindTable    kind = 5
)

// Layout of an object; FORMAT.md says what each part is.
const (
	magic     = "STRKBUCK"
	version   = 1
	headerLen = 64
	offKind   = 10
	offEpoch  = 12
	offNumber = 20
	offSize   = 28
	offSalt   = 36
	offCRC    = 60
	saltLen   = offCRC - offSalt
	tagLen    = 16
)

// Bounds of what is sealed, in bytes: of an object read whole, before it was
// compressed, and of a page of a table.
const (
	maxPlain = 512 << 20
	pageLen  = 64 << 10
)

// salt is drawn anew for each object: it makes its key, and its name unique.
type salt [saltLen]byte

// header is the head of an object, in clear but authenticated.
type header struct {
	kind   kind
	epoch  uint64
	number uint64 // of a journal object or manifest; 0 for others
	size   int64  // of the plaintext in bytes, before it was compressed
	salt   salt
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, headerLen)
	copy(b, magic)
	le.PutUint16(b[len(magic):], version)
	b[offKind] = byte(h.kind)
	le.PutUint64(b[offEpoch:], h.epoch)
	le.PutUint64(b[offNumber:], h.number)
	le.PutUint64(b[offSize:], uint64(h.size))
	copy(b[offSalt:], h.salt[:])
	le.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli()))
	return b
}

// decodeHeader reads a header. fsapi.Corrupt, or NotSupported where a newer
// release wrote it.
func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < headerLen || string(b[:len(magic)]) != magic:
		return h, fsapi.Errorf(fsapi.Corrupt, "it does not start with %q", magic)
	case le.Uint32(b[offCRC:]) != crc32.Checksum(b[:offCRC], castagnoli()):
		return h, fsapi.Errorf(fsapi.Corrupt, "the checksum of its header is wrong")
	case le.Uint16(b[len(magic):]) != version:
		return h, fsapi.Errorf(fsapi.NotSupported, "it has version %d, this program knows version %d: use a newer release", le.Uint16(b[len(magic):]), version)
	}
	h.kind = kind(b[offKind])
	h.epoch = le.Uint64(b[offEpoch:])
	h.number = le.Uint64(b[offNumber:])
	h.size = int64(le.Uint64(b[offSize:]))
	copy(h.salt[:], b[offSalt:])
	if h.size < 0 || h.kind != kindTable && h.size > maxPlain || b[offKind+1] != 0 {
		return h, fsapi.Errorf(fsapi.Corrupt, "its header says what no writer says")
	}
	return h, nil
}

// aead derives an object's cipher.
func (h *header) aead(key []byte) cipher.AEAD {
	return sealed.Cipher(key, h.salt[:], "strake bucket v1")
}

// nonce of a page, or of the one body that an object has: page 0.
func nonce(page int64) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[4:], uint64(page))
	return n
}

// seal makes the bytes of an object that is read whole. It sets h.size.
func seal(key []byte, h header, plain []byte) []byte {
	h.size = int64(len(plain))
	head := h.encode()
	packed := s2.Encode(nil, plain)
	out := append(make([]byte, 0, headerLen+len(packed)+tagLen), head...)
	return h.aead(key).Seal(out, nonce(0), packed, head)
}

// unseal verifies an object that is read whole.
func unseal(key, b []byte) (h header, plain []byte, err error) {
	if h, err = decodeHeader(b); err != nil {
		return h, nil, err
	}
	if h.kind == kindTable {
		return h, nil, fsapi.Errorf(fsapi.Corrupt, "it is a table")
	}
	packed, err := h.aead(key).Open(nil, nonce(0), b[headerLen:], b[:headerLen])
	if err != nil {
		return h, nil, fsapi.Errorf(fsapi.Corrupt, "it does not verify: it was altered, or sealed with another store's key")
	}
	if n, err := s2.DecodedLen(packed); err != nil || int64(n) != h.size {
		return h, nil, fsapi.Errorf(fsapi.Corrupt, "it does not decompress to %d bytes", h.size)
	}
	if plain, err = s2.Decode(nil, packed); err != nil {
		return h, nil, fsapi.Errorf(fsapi.Corrupt, "it does not decompress: %v", err)
	}
	return h, plain, nil
}

// stored is the size of a table of n bytes as an object, and where page p of it
// begins.
func stored(n int64) int64 { return headerLen + n + pages(n)*tagLen }

func pages(n int64) int64 { return (n + pageLen - 1) / pageLen }

func pageAt(p int64) int64 { return headerLen + p*(pageLen+tagLen) }
