package bucket

import (
	"io/fs"

	"github.com/strakefs/strake/internal/osfs"
)

// unsynced is a file system on which nothing needs to survive a power cut: the
// bucket holds what does. It spares the disk every flush.
type unsynced struct{ osfs.FS }

// OpenFile implements osfs.FS.
func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (osfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

// SyncDir implements osfs.FS.
func (unsynced) SyncDir(string) error { return nil }

type unsyncedFile struct{ osfs.File }

// Sync implements osfs.File.
func (unsyncedFile) Sync() error { return nil }

// SyncData implements osfs.File.
func (unsyncedFile) SyncData() error { return nil }

// SyncRange implements osfs.File.
func (unsyncedFile) SyncRange(int64, int64) error { return nil }
