package keyring

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"

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

func derive(password, salt []byte, p Params) []byte {
	return argon2.IDKey(password, salt, p.Passes, p.MemoryKiB, p.Lanes, keyLen)
}

// lock is a master key and its wrappings: all that a save needs besides the
// state. No key-encryption key is kept.
type lock struct {
	master []byte
	wraps  []*wrapping
	head   []byte // the file up to the generation
}

// newLock draws a master key and seals it to wrappings, whose former master
// key is given up.
func newLock(wraps []*wrapping) (*lock, error) {
	switch {
	case len(wraps) == 0:
		return nil, fsapi.Errorf(fsapi.Busy, "keyring: it must keep one wrapping, or nothing opens it any more")
	case len(wraps) > maxWrappings:
		return nil, fsapi.Errorf(fsapi.TooBig, "keyring: %d wrappings are the most: remove one with `strake key unwrap`", maxWrappings)
	}
	l := &lock{master: random(keyLen)}
	var table []byte
	for _, w := range wraps {
		next, err := w.to(l.master)
		if err != nil {
			return nil, err
		}
		l.wraps = append(l.wraps, next)
		table = append(next.appendHead(table), next.master...)
	}
	le := binary.LittleEndian
	l.head = le.AppendUint16([]byte(magic), version)
	l.head = le.AppendUint16(l.head, uint16(len(wraps)))
	l.head = le.AppendUint32(l.head, uint32(len(table)))
	l.head = append(l.head, table...)
	return l, nil
}

// find is the index of the wrapping of a name, or -1.
func find(wraps []*wrapping, name string) int {
	return slices.IndexFunc(wraps, func(w *wrapping) bool { return w.name == name })
}

// unlock opens a file's master key with the first of keks that does. An error
// that asking again may mend wins over those that say which key is wrong.
func (h *header) unlock(ctx context.Context, keks []KEK) (*lock, error) {
	var errs []error
	kind := fsapi.Unauthorized
	for _, kek := range keks {
		i := find(h.wraps, kek.Name())
		if i < 0 || h.wraps[i].kind != kek.kind() {
			continue
		}
		master, err := h.wraps[i].open(ctx, kek)
		if err == nil {
			return &lock{master: master, wraps: h.wraps, head: bytes.Clone(h.head)}, nil
		}
		if len(errs) == 0 || transient(err) {
			kind = fsapi.KindOf(err)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "keyring: it is wrapped with %s, and none of these was given", h.names())
	}
	return nil, fsapi.Wrap(kind, errors.Join(errs...), "keyring: it is wrapped with "+h.names()+", and nothing given opens it")
}

// names lists the wrappings for a message.
func (h *header) names() string {
	var s []string
	for _, w := range h.wraps {
		s = append(s, w.name)
	}
	return strings.Join(s, ", ")
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
	size := len(l.head) + bodyHead + len(body) + tagLen + crcLen
	if size > maxFile {
		return nil, fsapi.Errorf(fsapi.NoSpace, "keyring: %d volumes need %d bytes, the most is %d: remove volumes or old key versions", len(s.volumes), size, maxFile)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = append(b, l.head...)
	b = le.AppendUint64(b, s.generation)
	nonce := random(nonceLen)
	b = append(b, nonce...)
	b = le.AppendUint32(b, uint32(len(body)+tagLen))
	b = aead(l.master).Seal(b, nonce, body, b)
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
