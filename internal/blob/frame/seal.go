package frame

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/strakefs/strake/internal/fsapi"
)

const (
	tagSize     = 16 // both AEADs
	sumSize     = 8  // XXH64 of an unencrypted frame
	maxOverhead = tagSize
	// FrameInfo is HKDF's info for the keys of frames.
	FrameInfo = "strake frame key v1"
	// DirectoryInfo is HKDF's info for the keys of segment directories.
	DirectoryInfo = "strake directory key v1"
)

func overhead(c fsapi.Cipher) (uint32, bool) {
	switch c {
	case fsapi.CipherNone:
		return sumSize, true
	case fsapi.CipherAES256GCM, fsapi.CipherXChaCha20:
		return tagSize, true
	}
	return 0, false
}

// Overhead is what sealing with a cipher that Key knows adds, in bytes.
func Overhead(c fsapi.Cipher) int {
	n, _ := overhead(c)
	return int(n)
}

// Key seals and opens what belongs to one segment. Safe for concurrent use.
type Key struct {
	cipher fsapi.Cipher
	aead   cipher.AEAD // nil: XXH64 only
}

// NewKey derives a segment's key by HKDF-SHA-256 (RFC 5869): secret is the
// 32-byte data or store key, the salt is the segment id, info is FrameInfo or
// DirectoryInfo. Without encryption secret is not used.
func NewKey(c fsapi.Cipher, secret []byte, seg fsapi.SegmentID, info string) (*Key, error) {
	if c == fsapi.CipherNone {
		return &Key{cipher: c}, nil
	}
	if len(secret) != 32 {
		return nil, fsapi.Errorf(fsapi.Invalid, "key of segment %v: want a secret of 32 bytes, have %d", seg, len(secret))
	}
	key, err := hkdf.Key(sha256.New, secret, seg[:], info, 32)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "derive the key of segment "+seg.String())
	}
	a, err := newAEAD(c, key)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "make the cipher of segment "+seg.String())
	}
	return &Key{cipher: c, aead: a}, nil
}

func newAEAD(c fsapi.Cipher, key []byte) (cipher.AEAD, error) {
	switch c {
	case fsapi.CipherAES256GCM:
		b, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(b)
	case fsapi.CipherXChaCha20:
		return chacha20poly1305.NewX(key)
	}
	return nil, fsapi.Errorf(fsapi.Invalid, "cipher %d is not known", c)
}

// Overhead is what sealing adds, in bytes.
func (k *Key) Overhead() int {
	if k.aead == nil {
		return sumSize
	}
	return tagSize
}

// Seal fills dst, which is HeaderSize+len(body)+Overhead bytes and does not
// overlap body, with a whole frame. It sets h.Cipher and h.Body. An index
// must never be sealed twice under one key with different contents.
func (k *Key) Seal(dst []byte, h *Header, body []byte) {
	h.Cipher, h.Body = k.cipher, uint32(len(body)+k.Overhead())
	h.Put(dst)
	k.SealBytes(dst[HeaderSize:], h.Index, dst[:aadSize], body)
}

// Open verifies a whole frame and returns its body, still compressed. dst, at
// least as long as the body and apart from frame, takes it; nil opens in
// place. The error is fsapi.Corrupt.
func (k *Key) Open(dst, frame []byte, h *Header) ([]byte, error) {
	if len(frame) != h.Size() || h.Cipher != k.cipher {
		return nil, fsapi.Errorf(fsapi.Corrupt, "frame of %d bytes with cipher %v: want %d bytes with %v", len(frame), h.Cipher, h.Size(), k.cipher)
	}
	return k.OpenBytes(dst, h.Index, frame[:aadSize], frame[HeaderSize:])
}

// SealBytes fills dst, of len(plain)+Overhead bytes, with the sealed bytes.
func (k *Key) SealBytes(dst []byte, index uint32, aad, plain []byte) {
	if k.aead == nil {
		copy(dst, plain)
		binary.LittleEndian.PutUint64(dst[len(plain):], sum(aad, plain))
		return
	}
	var n [chacha20poly1305.NonceSizeX]byte
	k.aead.Seal(dst[:0], k.nonce(&n, index), plain, aad)
}

// OpenBytes is the inverse of SealBytes; dst as in Open.
func (k *Key) OpenBytes(dst []byte, index uint32, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < k.Overhead() {
		return nil, fsapi.Errorf(fsapi.Corrupt, "%d sealed bytes are too few", len(sealed))
	}
	if k.aead == nil {
		plain := sealed[:len(sealed)-sumSize]
		if sum(aad, plain) != binary.LittleEndian.Uint64(sealed[len(plain):]) {
			return nil, fsapi.Errorf(fsapi.Corrupt, "wrong checksum")
		}
		if dst == nil {
			return plain, nil
		}
		return dst[:copy(dst, plain)], nil
	}
	if dst == nil {
		dst = sealed
	}
	var n [chacha20poly1305.NonceSizeX]byte
	out, err := k.aead.Open(dst[:0], k.nonce(&n, index), sealed, aad)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Corrupt, "wrong authentication tag")
	}
	return out, nil
}

// nonce is zeros and the index, big-endian. It repeats under no key: a key is
// of one segment, an index of one frame.
func (k *Key) nonce(n *[chacha20poly1305.NonceSizeX]byte, index uint32) []byte {
	b := n[:k.aead.NonceSize()]
	binary.BigEndian.PutUint32(b[len(b)-4:], index)
	return b
}

// sum is XXH64 over aad and plain.
func sum(aad, plain []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(aad)
	_, _ = d.Write(plain)
	return d.Sum64()
}
