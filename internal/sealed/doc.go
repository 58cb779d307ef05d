// Package sealed is a file that is written once from its start to its end,
// compressed and encrypted with the key of a store, with the store's wrapped
// keyring in front: so that the file and the password are enough to read it.
//
// It owns: the format, and how the store key becomes the cipher of one thing that
// is sealed once, and of its blocks, for formats of other packages too (Cipher,
// Nonce). It must not know what is in the file, nor how a keyring is opened. It
// starts no goroutine.
//
// # Format
//
// Integers are little-endian unless they are said to be big-endian.
//
//	offset  bytes
//	0       8      magic "STRKSEAL"
//	8       2      version: 1
//	10      2      0
//	12      4      length k of the keyring, at most 64 MiB
//	16      16     random salt
//	32      4      CRC-32C of bytes 0 to 31
//	36      k      keyring (../keyring/FORMAT.md)
//	36+k    …      blocks, at least one
//
// A block is 4 bytes, the length n of what follows, 16 to 2 MiB, and n bytes that
// are sealed with AES-256-GCM. The key is HKDF-SHA-256 (RFC 5869) of the store key
// with the salt and the info "strake sealed file v1", 32 bytes. The nonce is the
// block's index from 0 as 11 bytes, big-endian, and a byte that is 1 in the last
// block of the file and 0 in the others (STREAM, Hoang et al., 2015): a file that
// was cut short does not verify. The associated data is bytes 0 to 36+k-1. The
// plaintext is an S2 block (the format of github.com/klauspost/compress/s2) of at
// most 1 MiB. Nothing follows the last block.
package sealed
