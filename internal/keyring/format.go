package keyring

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Layout of the file; FORMAT.md says what each part is.
const (
	magic   = "STRKKEYS"
	version = 2

	offVersion = 8
	offWrapN   = 10
	offWrapLen = 12
	offWraps   = 16
	bodyHead   = 8 + nonceLen + 4 // generation, nonce, length
	minFile    = offWraps + minWrapping + bodyHead + tagLen + crcLen
	crcLen     = 4

	// maxFile bounds the file, so that a drive can keep it as a small blob.
	maxFile = 1 << 20

	keyLen    = 32
	saltLen   = 16
	nonceLen  = 12
	tagLen    = 16
	dataLen   = 4 + 8 + keyLen // a data key in the body
	maxVolume = 4 + 1 + keyLen + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the file apart from the sealed body's plaintext.
type header struct {
	generation uint64
	wraps      []*wrapping
	head       []byte // the file up to the generation
	bodyNonce  []byte
	body       []byte // sealed
	aadBody    []byte // what the seal covers besides
}

// parseHeader checks a file's shape and checksum and takes it apart. The
// result points into data.
func parseHeader(data []byte) (*header, error) {
	if len(data) < minFile || len(data) > maxFile {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: %d bytes cannot be a keyring file", len(data))
	}
	if string(data[:len(magic)]) != magic {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the file does not start with %q: it is no keyring or its start is damaged", magic)
	}
	le := binary.LittleEndian
	rest, sum := data[:len(data)-crcLen], le.Uint32(data[len(data)-crcLen:])
	if crc32.Checksum(rest, castagnoli) != sum {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the checksum is wrong: the file is damaged; take the copy meta/keyring of a drive")
	}
	if v := le.Uint16(data[offVersion:]); v != version {
		return nil, fsapi.Errorf(fsapi.NotSupported, "keyring: the file has version %d, this program knows version %d: use the release that wrote it", v, version)
	}
	r := reader{rest: rest[offWraps:]}
	table := r.take(int(min(le.Uint32(data[offWrapLen:]), maxFile)))
	h := &header{generation: le.Uint64(r.take(8)), bodyNonce: r.take(nonceLen)}
	n := r.uint32()
	if h.body = r.rest; r.bad || int64(n) != int64(len(h.body)) || n < tagLen {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the lengths of its parts do not add up")
	}
	h.head = data[:offWraps+len(table)]
	h.aadBody = rest[:len(rest)-len(h.body)]
	return h, h.parseWraps(int(le.Uint16(data[offWrapN:])), table)
}

// parseWraps reads the table of wrappings.
func (h *header) parseWraps(n int, table []byte) error {
	if n < 1 || n > maxWrappings {
		return fsapi.Errorf(fsapi.Corrupt, "keyring: it has %d wrappings, want 1 to %d", n, maxWrappings)
	}
	r := reader{rest: table}
	for range n {
		w := r.wrapping()
		if r.bad {
			break
		}
		if err := w.check(); err != nil {
			return err
		}
		r.fail(find(h.wraps, w.name) >= 0)
		h.wraps = append(h.wraps, w)
	}
	if r.bad || len(r.rest) != 0 {
		return fsapi.Errorf(fsapi.Corrupt, "keyring: the table of wrappings is malformed")
	}
	return nil
}

// encodeBody is the plaintext of the body.
func encodeBody(s *state) []byte {
	le := binary.LittleEndian
	n := keyLen + 4
	for _, v := range s.volumes {
		n += maxVolume + len(v.data)*dataLen
	}
	b := make([]byte, 0, n) // one allocation, so that one clear wipes it
	b = append(b, s.store...)
	b = le.AppendUint32(b, uint32(len(s.volumes)))
	for _, id := range s.ids() {
		v := s.volumes[id]
		b = le.AppendUint32(b, uint32(id))
		b = append(b, byte(v.cipher))
		if v.cipher == fsapi.CipherNone {
			continue
		}
		b = append(b, v.id...)
		b = le.AppendUint32(b, uint32(len(v.data)))
		for _, d := range v.data {
			b = le.AppendUint32(b, uint32(d.version))
			b = le.AppendUint64(b, uint64(d.created.UnixMilli()))
			b = append(b, d.key...)
		}
	}
	return b
}

// decodeBody reads encodeBody's result. The state owns its keys: body may be
// wiped after.
func decodeBody(body []byte) (*state, error) {
	r := reader{rest: body}
	s := &state{store: r.key(), volumes: map[fsapi.VolumeID]*volume{}}
	var last fsapi.VolumeID
	for range r.count(5) {
		id := fsapi.VolumeID(r.uint32())
		r.fail(id <= last)
		last = id
		s.volumes[id] = r.volume()
	}
	if r.bad || len(r.rest) != 0 {
		s.wipe()
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the body is malformed")
	}
	return s, nil
}

// reader takes the body apart; after a failure it returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail(cond bool) {
	if cond {
		r.bad, r.rest = true, nil
	}
}

func (r *reader) take(n int) []byte {
	if r.fail(len(r.rest) < n); r.bad {
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }

func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }

func (r *reader) key() []byte { return slices.Clone(r.take(keyLen)) }

// count is a number of items of at least size bytes each, which the rest must
// be able to hold.
func (r *reader) count(size int) int {
	n := int64(r.uint32())
	if r.fail(n*int64(size) > int64(len(r.rest))); r.bad {
		return 0
	}
	return int(n)
}

func (r *reader) volume() *volume {
	v := &volume{cipher: fsapi.Cipher(r.byte())}
	r.fail(v.cipher > fsapi.CipherXChaCha20)
	if v.cipher == fsapi.CipherNone {
		return v
	}
	v.id = r.key()
	n := r.count(dataLen)
	r.fail(n == 0)
	var last fsapi.KeyVersion
	for range n {
		d := dataKey{version: fsapi.KeyVersion(r.uint32())}
		d.created = time.UnixMilli(int64(binary.LittleEndian.Uint64(r.take(8))))
		d.key = r.key()
		r.fail(d.version <= last)
		last = d.version
		v.data = append(v.data, d)
	}
	return v
}
