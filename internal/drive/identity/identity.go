// Package identity is the text by which a drive is known, whatever its kind, so
// that another disk or bucket in its place is noticed, and the text that says
// which store it belongs to, so that two stores do not share one.
//
// It owns: the formats, and until when a claim holds. It must not know where the
// texts are kept.
package identity

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Role is what a place is for. A place of one role is not opened as one of
// another.
type Role string

// The roles. The text is stored.
const (
	Drive  Role = "drive"  // segments, shards, and copies of the metadata
	Backup Role = "backup" // copies of the metadata only
)

// Identity is what tells a drive from any other directory. It is
// text: lines ended by "\n", in this order and no others.
//
//	strake drive 1
//	id 0123456789abcdef
//	created 2026-01-02T03:04:05Z
//	crc32c 89abcdef
//
// The first line has the role, and ends with the version of the format. id is 16
// lower-case hexadecimal digits, not all zero. created is RFC 3339 in UTC. crc32c
// is over all bytes before its own line, in 8 lower-case hexadecimal digits.
type Identity struct {
	ID      fsapi.DriveID
	Created time.Time // to the second
	Role    Role      // "": Drive
}

// Is refuses a place of another role than wanted ("": Drive): fsapi.Invalid.
// where names it.
func (id Identity) Is(want Role, where string) error {
	switch {
	case id.Role == cmp.Or(want, Drive):
		return nil
	case id.Role == Backup:
		return fsapi.Errorf(fsapi.Invalid, "%s holds backups of metadata and is not a drive: give another place", where)
	}
	return fsapi.Errorf(fsapi.Invalid, "%s is a drive, which has copies of the metadata anyway: backups need a place of their own", where)
}

// MaxSize bounds the text, in bytes.
const MaxSize = 4096

// version of the format.
const version = 1

// Append appends the text form.
func Append(dst []byte, id Identity) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "strake %s %d\nid %s\ncreated %s\n", cmp.Or(id.Role, Drive), version, id.ID,
		id.Created.UTC().Truncate(time.Second).Format(time.RFC3339))
	return seal(dst, start)
}

// seal appends the line of the checksum over dst from start on.
func seal(dst []byte, start int) []byte {
	return fmt.Appendf(dst, "crc32c %08x\n", checksum(dst[start:]))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Parse reads the text form; fsapi.Corrupt, or fsapi.NotSupported for
// the format of a newer release.
func Parse(b []byte) (Identity, error) {
	var id Identity
	lines, err := parseLines(b, string(Drive), string(Backup))
	if err != nil {
		return id, err
	}
	id.Role = Role(lines[0])
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

// parseLines takes a text apart whose first line has one of kinds and the version
// and whose last one has the checksum: it is the kind and the lines between.
func parseLines(b []byte, kinds ...string) ([]string, error) {
	lines, _, err := parseVersions(b, version, kinds...)
	return lines, err
}

// parseVersions is parseLines for a text that has had several versions, from 1 to
// newest; v is which it has.
func parseVersions(b []byte, newest int, kinds ...string) (lines []string, v int, err error) {
	body, sum, ok := cutLast(b)
	if !ok || sum != fmt.Sprintf("crc32c %08x", checksum(body)) {
		return nil, 0, fsapi.Errorf(fsapi.Corrupt, "drive identity: bad checksum")
	}
	lines = strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	first := strings.Split(lines[0], " ")
	if len(first) != 3 || first[0] != "strake" || !slices.Contains(kinds, first[1]) {
		return nil, 0, fsapi.Errorf(fsapi.Corrupt, "drive identity: does not start with %q", "strake "+kinds[0])
	}
	if v, err = strconv.Atoi(first[2]); err != nil || v < 1 || v > newest {
		return nil, 0, fsapi.Errorf(fsapi.NotSupported, "drive identity: format %q is not known to this release; use a newer one", first[2])
	}
	lines[0] = first[1]
	return lines, v, nil
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
