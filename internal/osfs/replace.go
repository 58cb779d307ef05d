package osfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
)

// ReplaceFile sets the contents of a file, which need not exist: after a power
// cut it holds the old bytes or the new ones, and once ReplaceFile has returned
// nil, the new ones. name.tmp is used on the way, so that two calls for one
// name must not overlap; one left by a crash is overwritten.
func ReplaceFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	tmp := name + ".tmp"
	err := WriteSynced(fsys, tmp, data, perm)
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		if rmErr := fsys.Remove(tmp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

// WriteSynced writes a file, made or emptied first, and makes its contents
// durable; its name is not, before SyncDir. What it made stays after an error.
func WriteSynced(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
