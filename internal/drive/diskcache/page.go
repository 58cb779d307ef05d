package diskcache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// The format of a page's file: see FORMAT.md.
const (
	pageMagic   = "SKDP"
	pageVersion = 1
	headerLen   = 256
	nameAt      = 40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// key names a page: the hash of its blob's name and its number.
type key struct {
	blob blobKey
	page uint32
}

// blobKey is the beginning of the SHA-256 of a blob's name.
type blobKey [16]byte

func keyOf(name string) blobKey {
	sum := sha256.Sum256([]byte(name))
	return blobKey(sum[:16])
}

// fileName is the name of a page's file: nonce tells it from other files of the
// page, so that none is ever written over.
func (k key) fileName(nonce uint64) string {
	return fmt.Sprintf("%x-%08x-%016x", k.blob, k.page, nonce)
}

// parseFile reads what fileName made.
func parseFile(name string) (k key, nonce uint64, ok bool) {
	h, rest, _ := strings.Cut(name, "-")
	n, last, _ := strings.Cut(rest, "-")
	b, err := hex.DecodeString(h)
	page, perr := strconv.ParseUint(n, 16, 32)
	nonce, nerr := strconv.ParseUint(last, 16, 64)
	if err != nil || perr != nil || nerr != nil || len(b) != len(k.blob) {
		return k, 0, false
	}
	copy(k.blob[:], b)
	k.page = uint32(page)
	return k, nonce, name == k.fileName(nonce)
}

// header says what a page holds.
type header struct {
	drive  fsapi.DriveID
	name   string // of the blob
	page   uint32
	length uint32 // bytes of data
	sum    uint32 // CRC-32C of the data
}

func (h *header) encode(b []byte) {
	clear(b[:headerLen])
	copy(b, pageMagic)
	b[4], b[5] = pageVersion, byte(len(h.name))
	binary.BigEndian.PutUint64(b[8:], uint64(h.drive))
	binary.BigEndian.PutUint32(b[16:], h.page)
	binary.BigEndian.PutUint32(b[20:], h.length)
	binary.BigEndian.PutUint32(b[24:], h.sum)
	copy(b[nameAt:], h.name)
	binary.BigEndian.PutUint32(b[headerLen-4:], crc32.Checksum(b[:headerLen-4], castagnoli))
}

// decodeHeader reads what encode wrote: fsapi.Corrupt.
func decodeHeader(b []byte) (h header, err error) {
	switch {
	case len(b) < headerLen:
		return h, fsapi.Errorf(fsapi.Corrupt, "a page of %d bytes is cut short", len(b))
	case string(b[:4]) != pageMagic || b[4] != pageVersion:
		return h, fsapi.Errorf(fsapi.Corrupt, "it is not a page of version %d", pageVersion)
	case binary.BigEndian.Uint32(b[headerLen-4:]) != crc32.Checksum(b[:headerLen-4], castagnoli):
		return h, fsapi.Errorf(fsapi.Corrupt, "the checksum of its header is wrong")
	case int(b[5]) > drive.MaxName:
		return h, fsapi.Errorf(fsapi.Corrupt, "its name has %d bytes", b[5])
	}
	h.drive = fsapi.DriveID(binary.BigEndian.Uint64(b[8:]))
	h.page = binary.BigEndian.Uint32(b[16:])
	h.length = binary.BigEndian.Uint32(b[20:])
	h.sum = binary.BigEndian.Uint32(b[24:])
	h.name = string(b[nameAt : nameAt+int(b[5])])
	return h, nil
}

// seal makes a page's file of its data.
func seal(id fsapi.DriveID, name string, page uint32, data []byte) []byte {
	h := header{drive: id, name: name, page: page, length: uint32(len(data)), sum: crc32.Checksum(data, castagnoli)}
	b := make([]byte, headerLen+len(data))
	h.encode(b)
	copy(b[headerLen:], data)
	return b
}

// open verifies a page's file and returns its data, a part of b.
func open(b []byte, id fsapi.DriveID, name string, page uint32) ([]byte, error) {
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	data := b[headerLen:]
	switch {
	case h.drive != id || h.name != name || h.page != page:
		return nil, fsapi.Errorf(fsapi.Corrupt, "it holds page %d of %s of drive %v", h.page, h.name, h.drive)
	case int(h.length) != len(data) || h.length == 0:
		return nil, fsapi.Errorf(fsapi.Corrupt, "it has %d bytes of data, its header says %d", len(data), h.length)
	case crc32.Checksum(data, castagnoli) != h.sum:
		return nil, fsapi.Errorf(fsapi.Corrupt, "the checksum of its data is wrong")
	}
	return data, nil
}
