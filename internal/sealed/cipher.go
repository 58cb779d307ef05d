package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// info tells the keys of sealed files from those of other things.
const info = "strake sealed file v1"

// Cipher is AES-256-GCM with a key for one thing that is sealed once: HKDF-SHA-256
// (RFC 5869) of the store key with a random salt of its own and an info of its
// kind. storeKey and salt stay the caller's. Concurrent.
func Cipher(storeKey, salt []byte, info string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, storeKey, salt, info, 32)
	if err != nil {
		panic(err) // 32 bytes are within HKDF's limit
	}
	defer clear(key)
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

// Nonce is that of a block, 12 bytes: its index from 0 as 11 bytes, big-endian, and
// whether it is the last (STREAM, Hoang et al., 2015).
func Nonce(index uint64, final bool) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:], index)
	if final {
		n[11] = 1
	}
	return n
}
