package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"

	"golang.org/x/crypto/argon2"

	"github.com/strakefs/strake/internal/fsapi"
)

// Params are the cost of guessing a password: Argon2id's, RFC 9106 section 3.1.
type Params struct {
	Passes    uint32 // 1 to 64
	MemoryKiB uint32 // 8 × Lanes to 4 GiB
	Lanes     uint8  // ≥ 1
}

// DefaultParams are the second recommendation of RFC 9106, section 4: 3 passes,
// 64 MiB, 4 lanes.
func DefaultParams() Params { return Params{Passes: 3, MemoryKiB: 64 << 10, Lanes: 4} }

// check refuses what Argon2 does not define and what would hang or exhaust a
// machine.
func (p Params) check() error {
	if p.Passes < 1 || p.Passes > 64 || p.Lanes < 1 || p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > 4<<20 {
		return fsapi.Errorf(fsapi.Invalid, "Argon2id parameters %d passes, %d KiB, %d lanes are out of bounds: want 1 to 64 passes, at least 1 lane, 8 KiB a lane to 4 GiB", p.Passes, p.MemoryKiB, p.Lanes)
	}
	return nil
}

// lock is a master key and its wrapping: all that a save needs besides the
// state. The key-encryption key is not kept.
type lock struct {
	master []byte
	head   []byte // the file up to the generation: parameters and the wrapped master key
}

// newLock draws a master key for a password.
func newLock(password []byte, p Params) (*lock, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if len(password) == 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "keyring: the password is empty: give one of at least one byte")
	}
	le := binary.LittleEndian
	b := make([]byte, 0, offGeneration)
	b = append(b, magic...)
	b = le.AppendUint16(b, version)
	b = append(b, random(saltLen)...)
	b = le.AppendUint32(b, p.Passes)
	b = le.AppendUint32(b, p.MemoryKiB)
	b = append(b, p.Lanes)
	b = append(b, random(nonceLen)...)
	kek := derive(password, b[offSalt:offPasses], p)
	defer clear(kek)
	l := &lock{master: random(keyLen)}
	l.head = aead(kek).Seal(b, b[offNonce:offMaster], l.master, b[:offNonce])
	return l, nil
}

func derive(password, salt []byte, p Params) []byte {
	return argon2.IDKey(password, salt, p.Passes, p.MemoryKiB, p.Lanes, keyLen)
}

// unlock opens a file's master key with a password.
func (h *header) unlock(password []byte) (*lock, error) {
	kek := derive(password, h.salt, h.params)
	defer clear(kek)
	master, err := aead(kek).Open(nil, h.nonce, h.master, h.aadMaster)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "keyring: wrong password: give the one this store was made with or the one set last with `strake key passwd`; nothing else can open it")
	}
	return &lock{master: master, head: bytes.Clone(h.aadBody[:offGeneration])}, nil
}

// open decrypts a file's body.
func (h *header) open(l *lock) (*state, error) {
	body, err := aead(l.master).Open(nil, h.bodyNonce, h.body, h.aadBody)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the keys do not verify: the file was altered; take the copy meta/keyring of a drive")
	}
	defer clear(body)
	return decodeBody(body)
}

// seal makes the file of a state, with fresh nonces.
func (l *lock) seal(s *state) ([]byte, error) {
	body := encodeBody(s)
	defer clear(body)
	size := offBody + len(body) + tagLen + crcLen
	if size > maxFile {
		return nil, fsapi.Errorf(fsapi.NoSpace, "keyring: %d volumes need %d bytes, the most is %d: remove volumes or old key versions", len(s.volumes), size, maxFile)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = append(b, l.head...)
	b = le.AppendUint64(b, s.generation)
	b = append(b, random(nonceLen)...)
	b = le.AppendUint32(b, uint32(len(body)+tagLen))
	b = aead(l.master).Seal(b, b[offBodyNonce:offBodyLen], body, b)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func (l *lock) wipe() { clear(l.master) }

// aead is AES-256-GCM (NIST SP 800-38D) under a 32-byte key.
func aead(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return a
}

// random is n bytes of the system's generator, which does not fail.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
