package sealed

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
)

// Magic is what a sealed file starts with.
const Magic = "STRKSEAL"

// Layout of the head, as the package comment has it; bytes.
const (
	version    = 1
	offKeyring = 12
	offSalt    = 16
	offCRC     = 32
	headLen    = 36
	maxKeyring = 64 << 20
	blockBytes = 1 << 20 // of plaintext
	maxBlock   = 2 << 20 // sealed
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// makeHead is the head with the keyring after it. salt has 16 bytes.
func makeHead(keyring, salt []byte) []byte {
	b := make([]byte, headLen, headLen+len(keyring))
	copy(b, Magic)
	le := binary.LittleEndian
	le.PutUint16(b[len(Magic):], version)
	le.PutUint32(b[offKeyring:], uint32(len(keyring)))
	copy(b[offSalt:offCRC], salt)
	le.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli()))
	return append(b, keyring...)
}

// readHead reads the head and the keyring. fsapi.Corrupt, or NotSupported where a
// newer release wrote it.
func readHead(in io.Reader) ([]byte, error) {
	b := make([]byte, headLen)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, cut(err)
	}
	le := binary.LittleEndian
	n := le.Uint32(b[offKeyring:])
	switch {
	case string(b[:len(Magic)]) != Magic:
		return nil, fsapi.Errorf(fsapi.Corrupt, "the file does not start with %q", Magic)
	case le.Uint32(b[offCRC:]) != crc32.Checksum(b[:offCRC], castagnoli()):
		return nil, fsapi.Errorf(fsapi.Corrupt, "the checksum of the file's head is wrong")
	case le.Uint16(b[len(Magic):]) != version:
		return nil, fsapi.Errorf(fsapi.NotSupported, "the file has version %d, this program knows version %d: use a newer release", le.Uint16(b[len(Magic):]), version)
	case n > maxKeyring:
		return nil, fsapi.Errorf(fsapi.Corrupt, "the file's keyring has %d bytes", n)
	}
	keyring, err := io.ReadAll(io.LimitReader(in, int64(n))) // grows with what is there
	if err == nil && len(keyring) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, cut(err)
	}
	return append(b, keyring...), nil
}

// cut gives an error of reading its kind.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // io returns them bare
		return fsapi.Errorf(fsapi.Corrupt, "the file is cut short")
	}
	kind := fsapi.KindOf(err)
	if kind == fsapi.Other { // of the operating system
		kind = fsapi.IO
	}
	return fsapi.Wrap(kind, err, "read the file")
}
