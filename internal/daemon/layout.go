package daemon

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// layout names what is in a data directory.
type layout struct{ dir string }

func (l layout) lock() string      { return filepath.Join(l.dir, "lock") }
func (l layout) password() string  { return filepath.Join(l.dir, "password") }
func (l layout) keyring() string   { return filepath.Join(l.dir, "keyring") }
func (l layout) meta() string      { return filepath.Join(l.dir, "meta") }
func (l layout) cache() string     { return filepath.Join(l.dir, "cache") }
func (l layout) bucket() string    { return filepath.Join(l.dir, "bucket") }
func (l layout) mainDrive() string { return filepath.Join(l.dir, "drives", "main") }
func (l layout) run() string       { return filepath.Join(l.dir, "run") }
func (l layout) socket() string    { return client.Socket(l.dir) }
func (l layout) token() string     { return filepath.Join(l.dir, "token") }

// exists reports whether a store was made here.
func (l layout) exists(fs osfs.FS) (bool, error) {
	_, err := fs.Stat(l.keyring())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// take makes the directory where it is missing and locks it.
func (l layout) take(fs osfs.FS) (io.Closer, error) {
	if err := fs.MkdirAll(l.dir, 0o700); err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "make data directory "+l.dir)
	}
	lock, err := fs.Lock(l.lock())
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fsapi.Errorf(fsapi.Busy, "data directory %s is in use by another strake process: stop it first, or talk to it without opening the directory", l.dir)
	}
	if err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "lock data directory "+l.dir)
	}
	return lock, nil
}
