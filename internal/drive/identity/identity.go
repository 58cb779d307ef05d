// Package identity is the text by which a drive is known, whatever its kind, so
// that another disk or bucket in its place is noticed.
//
// It owns: the format. It must not know where the text is kept.
package identity

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Identity is what tells a drive from any other directory. It is
// text: lines ended by "\n", in this order and no others.
//
//	strake drive 1
//	id 0123456789abcdef
//	created 2026-01-02T03:04:05Z
//	crc32c 89abcdef
//
// The first line ends with the version of the format. id is 16 lower-case
// hexadecimal digits, not all zero. created is RFC 3339 in UTC. crc32c is over
// all bytes before its own line, in 8 lower-case hexadecimal digits.
type Identity struct {
	ID      fsapi.DriveID
	Created time.Time // to the second
}

// MaxSize bounds the text, in bytes.
const MaxSize = 4096

// version of the format.
const version = 1

// Append appends the text form.
func Append(dst []byte, id Identity) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "strake drive %d\nid %s\ncreated %s\n", version, id.ID,
		id.Created.UTC().Truncate(time.Second).Format(time.RFC3339))
	return fmt.Appendf(dst, "crc32c %08x\n", checksum(dst[start:]))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Parse reads the text form; fsapi.Corrupt, or fsapi.NotSupported for
// the format of a newer release.
func Parse(b []byte) (Identity, error) {
	var id Identity
	body, sum, ok := cutLast(b)
	if !ok || sum != fmt.Sprintf("crc32c %08x", checksum(body)) {
		return id, fsapi.Errorf(fsapi.Corrupt, "drive identity: bad checksum")
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	number, ok := strings.CutPrefix(lines[0], "strake drive ")
	if !ok {
		return id, fsapi.Errorf(fsapi.Corrupt, "drive identity: does not start with %q", "strake drive")
	}
	if number != strconv.Itoa(version) {
		return id, fsapi.Errorf(fsapi.NotSupported, "drive identity: format %q is not known to this release; use a newer one", number)
	}
	if len(lines) != 3 {
		return id, fsapi.Errorf(fsapi.Corrupt, "drive identity: %d lines, want 3", len(lines))
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(lines[1], "id "), 16, 64)
	if err == nil {
		id.ID = fsapi.DriveID(n)
		id.Created, err = time.Parse(time.RFC3339, strings.TrimPrefix(lines[2], "created "))
	}
	// There is one text for each identity.
	if err != nil || id.ID == 0 || !bytes.Equal(Append(nil, id), b) {
		return Identity{}, fsapi.Errorf(fsapi.Corrupt, "drive identity: malformed")
	}
	return id, nil
}

// cutLast splits off the last line.
func cutLast(b []byte) (body []byte, line string, ok bool) {
	text, ok := bytes.CutSuffix(b, []byte("\n"))
	i := bytes.LastIndexByte(text, '\n')
	if !ok || i < 0 {
		return nil, "", false
	}
	return text[:i+1], string(text[i+1:]), true
}
