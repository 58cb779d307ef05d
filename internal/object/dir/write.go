package dir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
)

// upload is a body on its way, in a file of ~tmp.
type upload struct {
	b    *bucket
	key  string
	opts provider.PutOptions
	temp string

	mu   sync.Mutex
	size int64     // guarded by mu
	file osfs.File // nil: done; guarded by mu, but for WriteAt
}

// Put implements provider.API.
func (b *bucket) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (object.Version, error) {
	u, err := b.begin(ctx, key, o)
	if err != nil {
		return "", err
	}
	defer u.drop()
	if err := u.Part(ctx, 0, body); err != nil {
		return "", err
	}
	return u.Complete(ctx, 1)
}

// Begin implements provider.API.
func (b *bucket) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	u, err := b.begin(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (b *bucket) begin(ctx context.Context, key string, o provider.PutOptions) (*upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	temp := path.Join(b.root, tempDir, hex.EncodeToString(nonce[:]))
	f, err := b.fs.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, missing(err, "create")
	}
	return &upload{b: b, key: key, opts: o, temp: temp, file: f}, nil
}

// missing is kinded for what must be there: the directory itself.
func missing(err error, verb string) error {
	if err != nil && kindOf(err) == fsapi.NotExist {
		return fsapi.Wrap(fsapi.NoDevice, err, verb+": the directory is missing")
	}
	return kinded(err, verb)
}

// Part implements provider.Upload.
func (u *upload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	off := int64(n) * u.opts.PartSize
	u.mu.Lock()
	u.size = max(u.size, off+body.Size())
	u.mu.Unlock()
	p := make([]byte, min(body.Size(), 1<<20))
	for done := int64(0); done < body.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(int64(len(p)), body.Size()-done)
		if _, err := body.ReadAt(p[:k], done); err != nil && !errors.Is(err, io.EOF) {
			return fsapi.Errorf(fsapi.Invalid, "read the body: %w", err)
		} else if err != nil && done+k < body.Size() {
			return fsapi.Errorf(fsapi.Invalid, "the body is shorter than its size")
		}
		if _, err := u.file.WriteAt(p[:k], off+done); err != nil {
			return missing(err, "write")
		}
		done += k
	}
	return nil
}

// Complete implements provider.Upload.
func (u *upload) Complete(ctx context.Context, _ int) (object.Version, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return "", fsapi.Errorf(fsapi.NotExist, "no such upload")
	}
	text, err := formatTrailer(trailer{u.size, u.opts.Mark})
	if err != nil {
		return "", err
	}
	if _, err = u.file.WriteAt(text, u.size); err == nil {
		err = u.file.Sync()
	}
	if err != nil {
		return "", missing(err, "write")
	}
	if err := u.publish(ctx); err != nil {
		return "", err
	}
	u.dropLocked()
	return object.Version(u.opts.Mark), nil
}

// Abort implements provider.Upload.
func (u *upload) Abort(context.Context) error {
	u.drop()
	return nil
}

func (u *upload) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dropLocked()
}

// dropLocked ends the upload; its file goes, under that name. Requires mu.
func (u *upload) dropLocked() {
	if u.file == nil {
		return
	}
	u.file.Close() // synced already, or not wanted
	u.file = nil
	_ = u.b.fs.Remove(u.temp) // or Open will, in time
}

// publish gives the file the object's name, if the condition holds.
func (u *upload) publish(ctx context.Context) error {
	b, name := u.b, u.b.file(u.key)
	if err := osfs.MkdirSynced(b.fs, path.Dir(name), 0o700); err != nil {
		return missing(err, "make directory")
	}
	if u.opts.Cond.Absent() {
		done, err := u.link(name)
		if done || err != nil {
			return err
		}
	}
	unlock, held, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := u.check(held); err != nil {
		return err
	}
	if err := b.fs.Rename(u.temp, name); err != nil {
		return missing(err, "rename")
	}
	return missing(b.fs.SyncDir(path.Dir(name)), "sync directory")
}

// link places the file unless its name is taken. done is false where the file
// system has no hard links.
func (u *upload) link(name string) (done bool, err error) {
	err = u.b.fs.Link(u.temp, name)
	switch {
	case err == nil:
		return true, missing(u.b.fs.SyncDir(path.Dir(name)), "sync directory")
	case errors.Is(err, fs.ErrExist):
		return true, fsapi.Errorf(fsapi.Precondition, "there is an object")
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EMLINK):
		return false, nil
	}
	return false, missing(err, "link")
}

// check looks whether the condition holds. The lock is taken; held says whether
// it keeps other machines off too.
func (u *upload) check(held bool) error {
	c := u.opts.Cond
	if c == (object.Condition{}) {
		return nil
	}
	if !held {
		return fsapi.Errorf(fsapi.NotSupported, "the mount has no locks, which conditions need here")
	}
	o, err := u.b.stat(u.key)
	switch {
	case err != nil && !errors.Is(err, fsapi.NotExist):
		return err
	case o.Version != c.Version(): // empty where there is no object, or where none is wanted
		return fsapi.Errorf(fsapi.Precondition, "the object has version %q", o.Version)
	}
	return nil
}
