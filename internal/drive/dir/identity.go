package dir

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// Identity is what tells a drive from any other directory. Its file,
// .strake/drive, is text: lines ended by "\n", in this order and no others.
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

const (
	identityVersion = 1
	identityMax     = 4096 // bytes
)

// appendIdentity appends the text form.
func appendIdentity(dst []byte, id Identity) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "strake drive %d\nid %s\ncreated %s\n", identityVersion, id.ID,
		id.Created.UTC().Truncate(time.Second).Format(time.RFC3339))
	return fmt.Appendf(dst, "crc32c %08x\n", checksum(dst[start:]))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// parseIdentity reads the text form; fsapi.Corrupt, or fsapi.NotSupported for
// the format of a newer release.
func parseIdentity(b []byte) (Identity, error) {
	var id Identity
	body, sum, ok := cutLast(b)
	if !ok || sum != fmt.Sprintf("crc32c %08x", checksum(body)) {
		return id, fsapi.Errorf(fsapi.Corrupt, "drive identity: bad checksum")
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	version, ok := strings.CutPrefix(lines[0], "strake drive ")
	if !ok {
		return id, fsapi.Errorf(fsapi.Corrupt, "drive identity: does not start with %q", "strake drive")
	}
	if version != strconv.Itoa(identityVersion) {
		return id, fsapi.Errorf(fsapi.NotSupported, "drive identity: format %q is not known to this release; use a newer one", version)
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
	if err != nil || id.ID == 0 || !bytes.Equal(appendIdentity(nil, id), b) {
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

// ReadIdentity reads who the drive in a directory is. fsapi.NotExist: there is
// none; it may be a mount point with nothing mounted.
func ReadIdentity(fsys osfs.FS, root string) (Identity, error) {
	name := path.Join(root, privateDir, identityFile)
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fsapi.Errorf(fsapi.NotExist, "no Strake drive in %s (is it mounted?)", root)
	}
	if err != nil {
		return Identity{}, fsapi.Wrap(kindOf(err), err, "read drive identity")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, identityMax))
	if err != nil {
		return Identity{}, fsapi.Wrap(kindOf(err), err, "read drive identity")
	}
	id, err := parseIdentity(b)
	if err != nil {
		return Identity{}, fsapi.Wrap(fsapi.KindOf(err), err, name)
	}
	return id, nil
}

// Init makes a directory, which need not exist and must be empty, a drive. The
// identity is written last and durably: without it there is no drive.
func Init(fsys osfs.FS, root string, id Identity) error {
	if id.ID == 0 {
		return fsapi.Errorf(fsapi.Invalid, "make drive in %s: id zero is no drive", root)
	}
	names, err := fsys.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fsapi.Wrap(kindOf(err), err, "make drive")
	}
	for _, name := range names {
		switch name {
		case "lost+found":
		case privateDir:
			if old, err := ReadIdentity(fsys, root); !errors.Is(err, fsapi.NotExist) {
				return fsapi.Errorf(fsapi.Exist, "%s is already drive %s", root, old.ID)
			}
		default:
			return fsapi.Errorf(fsapi.NotEmpty, "make drive in %s: it holds %q; give an empty directory", root, name)
		}
	}
	private := path.Join(root, privateDir)
	for _, dir := range []string{root, private, path.Join(private, tempDir)} {
		if err := osfs.MkdirSynced(fsys, dir, 0o700); err != nil {
			return fsapi.Wrap(kindOf(err), err, "make drive")
		}
	}
	err = osfs.ReplaceFile(fsys, path.Join(private, identityFile), appendIdentity(nil, id), 0o600)
	if err != nil {
		return fsapi.Wrap(kindOf(err), err, "make drive")
	}
	return nil
}
