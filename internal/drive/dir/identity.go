package dir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// Identity is what tells a drive from any other directory. It is the text of
// .strake/drive.
type Identity = identity.Identity

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
	b, err := io.ReadAll(io.LimitReader(f, identity.MaxSize))
	if err != nil {
		return Identity{}, fsapi.Wrap(kindOf(err), err, "read drive identity")
	}
	id, err := identity.Parse(b)
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
	err = osfs.ReplaceFile(fsys, path.Join(private, identityFile), identity.Append(nil, id), 0o600)
	if err != nil {
		return fsapi.Wrap(kindOf(err), err, "make drive")
	}
	return nil
}
