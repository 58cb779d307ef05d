package dir

import (
	"context"
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
	b, name, err := readPrivate(fsys, root, identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fsapi.Errorf(fsapi.NotExist, "no Strake drive in %s (is it mounted?)", root)
	}
	if err != nil {
		return Identity{}, fsapi.Wrap(kindOf(err), err, "read drive identity")
	}
	id, err := identity.Parse(b)
	if err != nil {
		return Identity{}, fsapi.Wrap(fsapi.KindOf(err), err, name)
	}
	return id, nil
}

// readPrivate reads a small file beside the blobs, and says its name.
func readPrivate(fsys osfs.FS, root, file string) (b []byte, name string, err error) {
	name = path.Join(root, privateDir, file)
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, name, err
	}
	defer f.Close()
	b, err = io.ReadAll(io.LimitReader(f, identity.MaxSize))
	return b, name, err
}

// ReadOwner reads which store the drive in a directory belongs to.
// fsapi.NotExist: to none.
func ReadOwner(fsys osfs.FS, root string) (identity.Owner, error) {
	b, name, err := readPrivate(fsys, root, ownerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return identity.Owner{}, fsapi.Errorf(fsapi.NotExist, "%s belongs to no store", root)
	}
	if err != nil {
		return identity.Owner{}, fsapi.Wrap(kindOf(err), err, "read the owner of a drive")
	}
	o, err := identity.ParseOwner(b)
	if err != nil {
		return identity.Owner{}, fsapi.Wrap(fsapi.KindOf(err), err, name)
	}
	return o, nil
}

// Release lets a directory belong to no store.
func Release(fsys osfs.FS, root string) error {
	err := fsys.Remove(path.Join(root, privateDir, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.SyncDir(path.Join(root, privateDir))
	}
	if err != nil {
		return fsapi.Wrap(kindOf(err), err, "release drive in "+root)
	}
	return nil
}

// claim makes the directory belong to the store that opens it. The lock is held.
func (d *Drive) claim() error {
	o := &d.opts
	if o.Owner == nil {
		return nil
	}
	found, err := ReadOwner(d.fs, o.Path)
	mark, aerr := o.opening().Admit(context.Background(), found, err)
	if aerr != nil || !mark {
		return aerr
	}
	werr := osfs.ReplaceFile(d.fs, path.Join(o.Path, privateDir, ownerFile), identity.AppendOwner(nil, *o.Owner), 0o600)
	if kindOf(werr) == fsapi.NoSpace && err == nil && found.Store == o.Owner.Store && !o.TakeOver {
		// What is there can be read, and removed, as it was claimed last.
		mine := *o.Owner
		mine.Incarnation = found.Incarnation
		o.Owner = &mine
		return nil
	}
	return fsapi.Wrap(kindOf(werr), werr, "claim drive in "+o.Path)
}

func (o *Options) opening() identity.Opening {
	return identity.Opening{Owner: o.Owner, Role: o.Role, Where: o.Path, TakeOver: o.TakeOver, ReadOnly: o.ReadOnly, Claiming: o.Claiming}
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
