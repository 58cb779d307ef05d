package keyring

import (
	"os"
	"path/filepath"

	"github.com/strakefs/strake/internal/osfs"
)

// replace sets a file of mode 0600 whole, atomically and durably: temporary
// file, fsync, rename, fsync of the directory.
func replace(fsys osfs.FS, path string, data []byte) error {
	tmp := path + ".new"
	if err := writeSync(fsys, tmp, data); err != nil {
		fsys.Remove(tmp)
		return err
	}
	if err := rename(fsys, tmp, path); err != nil {
		fsys.Remove(tmp)
		return err
	}
	return nil
}

// rename moves a file durably within its directory.
func rename(fsys osfs.FS, from, to string) error {
	if err := fsys.Rename(from, to); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(to))
}

func writeSync(fsys osfs.FS, path string, data []byte) error {
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
