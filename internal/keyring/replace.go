package keyring

import (
	"path/filepath"

	"github.com/strakefs/strake/internal/osfs"
)

// replace sets a file of mode 0600 whole, atomically and durably.
func replace(fsys osfs.FS, path string, data []byte) error {
	return osfs.ReplaceFile(fsys, path, data, 0o600)
}

// rename moves a file durably within its directory.
func rename(fsys osfs.FS, from, to string) error {
	if err := fsys.Rename(from, to); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(to))
}
