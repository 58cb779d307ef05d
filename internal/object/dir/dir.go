// Package dir is an object store in a directory of a local disk or of a NAS
// mount: for tests, and for those who have a NAS and no bucket.
//
// It owns: the layout of the directory, and how objects are replaced under
// conditions. It must not know what is in the objects. It starts no goroutine.
//
// Layout: an object is the file of its key below the root. Names with "~", which
// no key has, are not objects: ~tmp holds bodies on their way, each in a file of
// a random name, ~lock is locked while an object is replaced or removed.
// Directories stay when their last object goes.
//
// Conditions: if-absent is link(2), which is atomic; where there are no hard
// links, and for all else, the lock is taken, between processes by flock(2) and
// between calls of one process by Bucket.mu, which is held during I/O. Where the
// mount has no locks, if-version is refused. Readers may see an object a moment
// before its name is durable; who wrote it is told after.
//
// A file is the body and a trailer of 40 bytes, numbers little-endian:
//
//	0   8  "strkobj" and the version of the format, 1
//	8   8  bytes of the body
//	16 16  the mark of the write, random, which is the object's version too
//	32  4  zero
//	36  4  CRC-32C of the bytes before
package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

const (
	tempDir  = "~tmp"
	lockFile = "~lock"
	// staleTemp is how old a body on its way must be for Open to remove it:
	// other machines may be writing.
	staleTemp = 24 * time.Hour
)

// Options say which directory, and how.
type Options struct {
	FS    osfs.FS     // nil: osfs.OS
	Path  string      // absolute; made if it is not there
	Clock clock.Clock // nil: the machine's

	provider.Options
}

// Open opens a directory. Unless Retry says so attempts are not
// repeated: what a file system refuses once it refuses again.
func Open(o Options) (*provider.Store, error) {
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if !path.IsAbs(o.Path) {
		return nil, fsapi.Errorf(fsapi.Invalid, "dir: %q is not an absolute path", o.Path)
	}
	o.Retry.Attempts = max(o.Retry.Attempts, 1)
	b := &bucket{fs: o.FS, root: path.Clean(o.Path), clock: o.Clock}
	if err := osfs.MkdirSynced(b.fs, path.Join(b.root, tempDir), 0o700); err != nil {
		return nil, fsapi.Errorf(kindOf(err), "dir: open %s: %w", o.Path, err)
	}
	if err := b.clearTemps(); err != nil {
		return nil, fsapi.Errorf(kindOf(err), "dir: open %s: %w", o.Path, err)
	}
	return provider.New(b, o.Options)
}

// bucket is a provider.API.
type bucket struct {
	fs    osfs.FS
	root  string
	clock clock.Clock

	mu sync.Mutex // held while an object is replaced or removed
}

var _ provider.API = (*bucket)(nil)

// Traits implements provider.API.
func (b *bucket) Traits() provider.Traits {
	return provider.Traits{Kind: "dir", URL: "file://" + b.root, DeleteBatch: 1000, MinPart: 1, MaxParts: 1 << 30}
}

// Close implements provider.API.
func (b *bucket) Close() error { return nil }

func (b *bucket) file(key string) string { return path.Join(b.root, key) }

// clearTemps removes bodies whose writers are long gone.
func (b *bucket) clearTemps() error {
	names, err := b.fs.ReadDir(path.Join(b.root, tempDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		at := path.Join(b.root, tempDir, name)
		info, err := b.fs.Stat(at)
		if err == nil && b.clock.Now().Sub(info.ModTime()) > staleTemp {
			err = b.fs.Remove(at)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// kindOf is the kind of an error of osfs.
func kindOf(err error) fsapi.Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return fsapi.NotExist
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fsapi.NoSpace
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fsapi.Access
	case errors.Is(err, syscall.ETIMEDOUT):
		return fsapi.TimedOut
	}
	if k := fsapi.KindOf(err); k != fsapi.Other {
		return k
	}
	return fsapi.IO
}

// kinded gives an error of osfs its kind. nil stays nil.
func kinded(err error, verb string) error {
	if err == nil {
		return nil
	}
	return fsapi.Wrap(kindOf(err), err, verb)
}

// open opens an object and says what it is.
func (b *bucket) open(key string) (osfs.File, object.Object, error) {
	f, err := b.fs.OpenFile(b.file(key), os.O_RDONLY, 0)
	if err != nil {
		return nil, object.Object{}, kinded(err, "open")
	}
	o, err := describe(f)
	o.Key = key
	if err != nil {
		f.Close()
		return nil, object.Object{}, err
	}
	return f, o, nil
}

// describe reads what a file is from its trailer.
func describe(f osfs.File) (object.Object, error) {
	info, err := f.Stat()
	if err != nil {
		return object.Object{}, kinded(err, "stat")
	}
	if info.IsDir() {
		return object.Object{}, fsapi.Errorf(fsapi.NotExist, "it is a directory")
	}
	var text [trailerSize]byte
	if _, err := f.ReadAt(text[:], max(info.Size()-trailerSize, 0)); err != nil && !errors.Is(err, io.EOF) {
		return object.Object{}, kinded(err, "read trailer")
	}
	tr, err := parseTrailer(text[:])
	if err == nil && tr.size != info.Size()-trailerSize {
		err = fsapi.Errorf(fsapi.Corrupt, "the file has %d bytes and its trailer says %d", info.Size()-trailerSize, tr.size)
	}
	return object.Object{Size: tr.size, Modified: info.ModTime(), Version: object.Version(tr.mark)}, err
}

// Get implements provider.API.
func (b *bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, object.Object{}, err
	}
	f, o, err := b.open(key)
	if err != nil || off >= o.Size {
		if f != nil {
			f.Close()
		}
		return nil, o, err
	}
	return body{io.NewSectionReader(f, off, min(n, o.Size-off)), f}, o, nil
}

// body is a part of an object's file.
type body struct {
	part *io.SectionReader
	f    osfs.File
}

// Read implements io.Reader.
func (b body) Read(p []byte) (int, error) {
	n, err := b.part.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the section's own
		err = kinded(err, "read")
	}
	return n, err
}

// Close implements io.Closer.
func (b body) Close() error { return b.f.Close() }

// Head implements provider.API.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, provider.Mark, error) {
	if err := ctx.Err(); err != nil {
		return object.Object{}, "", err
	}
	o, err := b.stat(key)
	return o, provider.Mark(o.Version), err
}

// stat opens the file, so that a NAS answers with what is there now.
func (b *bucket) stat(key string) (object.Object, error) {
	f, o, err := b.open(key)
	if err != nil {
		return o, err
	}
	f.Close() // only looked at
	return o, nil
}

// Delete implements provider.API.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	unlock, _, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	dirs := map[string]bool{}
	for _, key := range keys {
		if err := b.remove(key); err != nil {
			return err
		}
		dirs[path.Dir(b.file(key))] = true
	}
	for dir := range dirs {
		if err := b.fs.SyncDir(dir); err != nil && kindOf(err) != fsapi.NotExist {
			return kinded(err, "sync directory")
		}
	}
	return nil
}

// remove removes an object, not a directory of its name.
func (b *bucket) remove(key string) error {
	info, err := b.fs.Stat(b.file(key))
	if err == nil && !info.IsDir() {
		err = b.fs.Remove(b.file(key))
	}
	if err != nil && kindOf(err) != fsapi.NotExist {
		return kinded(err, "remove")
	}
	return nil
}

// hidden reports whether a name in the directory belongs to no object.
func hidden(name string) bool { return strings.Contains(name, "~") }
