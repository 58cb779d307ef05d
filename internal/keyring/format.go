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
	version = 1

	offVersion    = 8
	offSalt       = 10
	offPasses     = 26
	offMemory     = 30
	offLanes      = 34
	offNonce      = 35
	offMaster     = 47
	offGeneration = 95
	offBodyNonce  = 103
	offBodyLen    = 115
	offBody       = 119
	crcLen        = 4

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
	params     Params
	salt       []byte
	nonce      []byte // of the master key
	master     []byte // sealed
	bodyNonce  []byte
	body       []byte // sealed
	aadMaster  []byte // what the seals cover besides
	aadBody    []byte
}

// parseHeader checks a file's shape and checksum and takes it apart. The
// result points into data.
func parseHeader(data []byte) (*header, error) {
	if len(data) < offBody+tagLen+crcLen || len(data) > maxFile {
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
		return nil, fsapi.Errorf(fsapi.NotSupported, "keyring: the file has version %d, this program knows version %d: use a newer release", v, version)
	}
	if n := le.Uint32(data[offBodyLen:]); int64(n) != int64(len(rest)-offBody) {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the body should have %d bytes but has %d", n, len(rest)-offBody)
	}
	h := &header{
		generation: le.Uint64(data[offGeneration:]),
		params: Params{
			Passes:    le.Uint32(data[offPasses:]),
			MemoryKiB: le.Uint32(data[offMemory:]),
			Lanes:     data[offLanes],
		},
		salt:      data[offSalt:offPasses],
		nonce:     data[offNonce:offMaster],
		master:    data[offMaster:offGeneration],
		bodyNonce: data[offBodyNonce:offBodyLen],
		body:      rest[offBody:],
		aadMaster: data[:offNonce],
		aadBody:   data[:offBody],
	}
	if err := h.params.check(); err != nil {
		return nil, fsapi.Wrap(fsapi.Corrupt, err, "keyring")
	}
	return h, nil
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
	v := &volume{cipher: fsapi.Cipher(r.take(1)[0])}
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
