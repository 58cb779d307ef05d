package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/osfs"
)

// Layout of the object that holds the keyring in a bucket: magic, 16 random bytes
// that make every writing of it another version, the keyring's file.
const (
	keyringObject = "keyring"
	keyringMagic  = "STRKKEYS"
	keyringHead   = len(keyringMagic) + 16
	maxKeyring    = 64 << 20 // bytes
)

// bucketKeyring is a file system on which the keyring's file is in the bucket
// before it gets its name here: no key is used that another machine could not
// find.
type bucketKeyring struct {
	osfs.FS
	ctx         context.Context
	store       object.Store
	path        string
	conditional bool
	version     object.Version // as this process read or wrote it last; "": there is none
	tried       []byte         // what it wrote last, whatever came of it
}

// load reads the keyring from the bucket.
func (k *bucketKeyring) load() ([]byte, error) {
	b, o, err := object.ReadAll(k.ctx, k.store, keyringObject, 16<<10, maxKeyring)
	if err != nil {
		return nil, err
	}
	if len(b) < keyringHead || string(b[:len(keyringMagic)]) != keyringMagic {
		return nil, fsapi.Errorf(fsapi.Corrupt, "%s: %s does not start with %q", k.store.Info().URL, keyringObject, keyringMagic)
	}
	k.version = o.Version
	_, err = keyring.Generation(b[keyringHead:])
	return b[keyringHead:], err
}

// Rename implements osfs.FS.
func (k *bucketKeyring) Rename(from, to string) error {
	if to == k.path {
		f, err := k.OpenFile(from, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := k.save(data); err != nil {
			return err
		}
	}
	return k.FS.Rename(from, to)
}

// save writes the keyring to the bucket, unless another machine has.
func (k *bucketKeyring) save(data []byte) error {
	body := append(make([]byte, 0, keyringHead+len(data)), keyringMagic...)
	var nonce [16]byte
	rand.Read(nonce[:])
	body = append(append(body, nonce[:]...), data...)
	cond := object.IfAbsent()
	switch {
	case !k.conditional:
		cond = object.Condition{}
	case k.version != "":
		cond = object.IfVersion(k.version)
	}
	tried := k.tried
	k.tried = body
	v, err := object.PutBytes(k.ctx, k.store, keyringObject, body, cond)
	if errors.Is(err, fsapi.Precondition) {
		if k.took(tried) {
			return k.save(data)
		}
		return fsapi.Errorf(fsapi.Fenced, "%s: another machine has changed the keyring: start this one again", k.store.Info().URL)
	}
	if err == nil {
		k.version = v
	}
	return err
}

// took reports whether what is in the bucket is what this process wrote before,
// without having learnt that it got there.
func (k *bucketKeyring) took(tried []byte) bool {
	there, o, err := object.ReadAll(k.ctx, k.store, keyringObject, 16<<10, maxKeyring)
	if err != nil || tried == nil || o.Version == k.version || !bytes.Equal(there, tried) {
		return false
	}
	k.version = o.Version
	return true
}

// fence makes what another machine knows of the keyring's version old. Where it
// has changed the keyring since it was read here, that is an error.
func (k *bucketKeyring) fence() error {
	mine := k.version
	data, err := k.load()
	switch {
	case err != nil:
		return err
	case k.version != mine:
		return fsapi.Errorf(fsapi.Busy, "%s: another machine changed the keyring just now: start again", k.store.Info().URL)
	}
	here, err := k.OpenFile(k.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	local, err := io.ReadAll(here)
	if err = errors.Join(err, here.Close()); err != nil {
		return err
	}
	if !bytes.Equal(local, data) {
		return fsapi.Errorf(fsapi.Corrupt, "%s: the keyring is not the one in %s", k.store.Info().URL, k.path)
	}
	return k.save(data)
}
