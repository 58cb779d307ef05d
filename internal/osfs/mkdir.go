package osfs

import (
	"errors"
	"io/fs"
	"path"
)

// MkdirSynced is MkdirAll with durable names: the directory, and those above it
// that it made, are there after a power cut.
func MkdirSynced(fsys FS, name string, perm fs.FileMode) error {
	parents := []string{path.Dir(name)}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		_, err := fsys.Stat(dir)
		if err == nil || dir == path.Dir(dir) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parents = append(parents, path.Dir(dir))
	}
	if err := fsys.MkdirAll(name, perm); err != nil {
		return err
	}
	for _, dir := range parents {
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
