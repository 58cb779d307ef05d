package sealed

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/s2"

	"github.com/strakefs/strake/internal/fsapi"
)

// Reader reads a sealed file. One goroutine at a time.
type Reader struct {
	in    *bufio.Reader
	head  []byte
	aead  cipher.AEAD // nil: locked
	index uint64
	final bool   // the last block was read
	block []byte // scratch
	plain []byte // scratch
	rest  []byte // of plain, not read yet
}

// Open reads a file's head. Unlock comes before Read. fsapi.Corrupt where it is
// none, or damaged; fsapi.NotSupported where a newer release wrote it.
func Open(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16)}
	var err error
	r.head, err = readHead(r.in)
	return r, err
}

// Keyring is the wrapped keyring in the file, not to be changed.
func (r *Reader) Keyring() []byte { return r.head[headLen:] }

// Unlock gives the reader the store key, which stays the caller's.
func (r *Reader) Unlock(storeKey []byte) { r.aead = Cipher(storeKey, r.head[offSalt:offCRC], info) }

// Read implements io.Reader. Every byte was verified (D8); io.EOF comes only where
// the file ends as it was written to. fsapi.Corrupt where it does not verify.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.final {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next opens a block.
func (r *Reader) next() error {
	if r.aead == nil {
		return fsapi.Errorf(fsapi.Unauthorized, "the file was not unlocked")
	}
	var size [4]byte
	if _, err := io.ReadFull(r.in, size[:]); err != nil {
		return cut(err)
	}
	n := int(binary.LittleEndian.Uint32(size[:]))
	if n < r.aead.Overhead() || n > maxBlock {
		return fsapi.Errorf(fsapi.Corrupt, "block %d of the file says that it has %d bytes", r.index, n)
	}
	if cap(r.block) < n {
		r.block = make([]byte, n)
	}
	r.block = r.block[:n]
	if _, err := io.ReadFull(r.in, r.block); err != nil {
		return cut(err)
	}
	_, err := r.in.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return cut(err)
	}
	r.final = err != nil
	packed, err := r.aead.Open(r.block[:0], Nonce(r.index, r.final), r.block, r.head)
	if err != nil {
		return fsapi.Errorf(fsapi.Corrupt, "block %d of the file does not verify: it is damaged, cut short, or of another store", r.index)
	}
	if size, err := s2.DecodedLen(packed); err != nil || size > blockBytes {
		return fsapi.Errorf(fsapi.Corrupt, "block %d of the file does not decompress", r.index)
	}
	if r.plain, err = s2.Decode(r.plain[:cap(r.plain)], packed); err != nil {
		return fsapi.Errorf(fsapi.Corrupt, "block %d of the file does not decompress: %v", r.index, err)
	}
	r.rest = r.plain
	r.index++
	return nil
}
