package dir

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

// trailer is what stands behind the body: see the package comment.
type trailer struct {
	size int64 // bytes of the body
	mark provider.Mark
}

const (
	trailerSize    = 40
	trailerMagic   = "strkobj"
	trailerVersion = 1
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// formatTrailer is the 40 bytes. fsapi.Invalid for a mark of another form.
func formatTrailer(t trailer) ([]byte, error) {
	mark, err := hex.DecodeString(string(t.mark))
	if err != nil || len(mark) != 16 {
		return nil, fsapi.Errorf(fsapi.Invalid, "mark %q is not 32 hexadecimal digits", t.mark)
	}
	dst := append([]byte(trailerMagic), trailerVersion)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.size))
	dst = append(append(dst, mark...), 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(dst, checksum(dst)), nil
}

// parseTrailer reads them; fsapi.Corrupt, or fsapi.NotSupported for the format
// of a newer release.
func parseTrailer(b []byte) (trailer, error) {
	var t trailer
	if len(b) != trailerSize || string(b[:len(trailerMagic)]) != trailerMagic {
		return t, fsapi.Errorf(fsapi.Corrupt, "the file is not an object of Strake's, or cut off")
	}
	if binary.LittleEndian.Uint32(b[36:]) != checksum(b[:36]) {
		return t, fsapi.Errorf(fsapi.Corrupt, "the trailer has a bad checksum")
	}
	if v := b[7]; v != trailerVersion {
		return t, fsapi.Errorf(fsapi.NotSupported, "the file has format %d, which this release does not know; use a newer one", v)
	}
	size := binary.LittleEndian.Uint64(b[8:])
	if size > 1<<62 || binary.LittleEndian.Uint32(b[32:]) != 0 {
		return t, fsapi.Errorf(fsapi.Corrupt, "the trailer is malformed")
	}
	return trailer{int64(size), provider.Mark(hex.EncodeToString(b[16:32]))}, nil
}
