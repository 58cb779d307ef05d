package sealed

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/s2"
)

// Writer seals what is written to it. One goroutine at a time.
type Writer struct {
	out    io.Writer
	aead   cipher.AEAD
	head   []byte
	index  uint64
	plain  []byte // of the next block
	packed []byte // scratch
	sealed []byte // scratch
}

// NewWriter makes a writer and writes the head. storeKey has 32 bytes; it and
// keyring stay the caller's.
func NewWriter(out io.Writer, storeKey, keyring []byte) (*Writer, error) {
	var salt [offCRC - offSalt]byte
	rand.Read(salt[:])
	w := &Writer{out: out, aead: Cipher(storeKey, salt[:], info), head: makeHead(keyring, salt[:]), plain: make([]byte, 0, blockBytes)}
	_, err := out.Write(w.head)
	return w, err
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(w.plain) == blockBytes {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		part := p[:min(len(p), blockBytes-len(w.plain))]
		w.plain = append(w.plain, part...)
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

// Close writes the last block, without which the file does not verify. It does
// not close what the file is written to.
func (w *Writer) Close() error { return w.flush(true) }

func (w *Writer) flush(final bool) error {
	w.packed = s2.Encode(w.packed[:cap(w.packed)], w.plain)
	w.sealed = binary.LittleEndian.AppendUint32(w.sealed[:0], uint32(len(w.packed)+w.aead.Overhead()))
	w.sealed = w.aead.Seal(w.sealed, Nonce(w.index, final), w.packed, w.head)
	w.index++
	w.plain = w.plain[:0]
	_, err := w.out.Write(w.sealed)
	return err
}
