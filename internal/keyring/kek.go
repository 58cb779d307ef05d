package keyring

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// Kind says what a wrapping's key-encryption key is. The numbers are in the
// file: append only.
type Kind uint8

// The kinds.
const (
	KindPassword Kind = 1
	KindFile     Kind = 2
	KindKMS      Kind = 3
)

// String is the kind as people write it.
func (k Kind) String() string {
	switch k {
	case KindPassword:
		return "password"
	case KindFile:
		return "file"
	case KindKMS:
		return "kms"
	}
	return "unknown"
}

// KEK is a key-encryption key as it is given to open a keyring or to wrap it:
// made by Password, PasswordFile, Asked, KeyFile and External.
type KEK interface {
	// Name is the name of the wrapping that it makes and opens; one keyring
	// has one wrapping of a name.
	Name() string
	kind() Kind
	// seal wraps a seed for bind; params is what open needs besides the key.
	seal(ctx context.Context, seed, bind []byte) (params, sealed []byte, err error)
	// open is the seed again: fsapi.Unauthorized where this key did not seal
	// it, fsapi.IO or TimedOut where that cannot be known now.
	open(ctx context.Context, params, sealed, bind []byte) (seed []byte, err error)
}

// sealLocal seals under a 32-byte key, with a random nonce in front.
func sealLocal(kek, seed, bind, params []byte) []byte {
	nonce := random(nonceLen)
	return aead(kek).Seal(nonce, nonce, seed, append(bytes.Clone(bind), params...))
}

func openLocal(kek, sealed, bind, params []byte) ([]byte, bool) {
	if len(sealed) < nonceLen {
		return nil, false
	}
	seed, err := aead(kek).Open(nil, sealed[:nonceLen], sealed[nonceLen:], append(bytes.Clone(bind), params...))
	return seed, err == nil
}

// password is the KEK that Argon2id makes of a password.
type password struct {
	text []byte
	p    Params
}

// Password is the key made of a password, which stays the caller's to wipe.
// Params are for wrapping: opening takes those of the file.
func Password(text []byte, p Params) KEK { return &password{text, p} }

func (w *password) Name() string { return KindPassword.String() }
func (w *password) kind() Kind   { return KindPassword }

const passwordParams = saltLen + 4 + 4 + 1

func (w *password) seal(_ context.Context, seed, bind []byte) (params, sealed []byte, err error) {
	if err := w.p.check(); err != nil {
		return nil, nil, err
	}
	if len(w.text) == 0 {
		return nil, nil, fsapi.Errorf(fsapi.Invalid, "keyring: the password is empty: give one of at least one byte")
	}
	le := binary.LittleEndian
	params = le.AppendUint32(random(saltLen), w.p.Passes)
	params = append(le.AppendUint32(params, w.p.MemoryKiB), w.p.Lanes)
	kek := derive(w.text, params[:saltLen], w.p)
	defer clear(kek)
	return params, sealLocal(kek, seed, bind, params), nil
}

func (w *password) open(_ context.Context, params, sealed, bind []byte) ([]byte, error) {
	p, err := parsePassword(params)
	if err != nil {
		return nil, err
	}
	kek := derive(w.text, params[:saltLen], p)
	defer clear(kek)
	seed, ok := openLocal(kek, sealed, bind, params)
	if !ok {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "keyring: wrong password: give the one this store was made with or the one set last with `strake key passwd`")
	}
	return seed, nil
}

// parsePassword reads the parameters of a password's wrapping.
func parsePassword(params []byte) (Params, error) {
	if len(params) != passwordParams {
		return Params{}, fsapi.Errorf(fsapi.Corrupt, "keyring: the parameters of the password have %d bytes, want %d", len(params), passwordParams)
	}
	le := binary.LittleEndian
	p := Params{Passes: le.Uint32(params[saltLen:]), MemoryKiB: le.Uint32(params[saltLen+4:]), Lanes: params[saltLen+8]}
	return p, fsapi.Wrap(fsapi.Corrupt, p.check(), "keyring")
}

// passwordFile is a password in a file that ChangePasswordFile keeps.
type passwordFile struct {
	fs   osfs.FS
	path string
}

// PasswordFile is the key made of the password in a file. Opening a keyring
// with it finishes or drops a ChangePasswordFile that was cut short. It opens
// only; to wrap, read the file and use Password.
func PasswordFile(fsys osfs.FS, path string) KEK { return &passwordFile{fsys, path} }

func (w *passwordFile) Name() string { return KindPassword.String() }
func (w *passwordFile) kind() Kind   { return KindPassword }

func (w *passwordFile) seal(ctx context.Context, seed, bind []byte) (params, sealed []byte, err error) {
	text, err := PasswordFrom(Sources{FS: w.fs, File: w.path})
	if err != nil {
		return nil, nil, err
	}
	defer clear(text)
	return Password(text, DefaultParams()).seal(ctx, seed, bind)
}

func (w *passwordFile) open(ctx context.Context, params, sealed, bind []byte) ([]byte, error) {
	seed, err := w.openFrom(ctx, w.path, params, sealed, bind)
	next := w.path + nextSuffix
	if _, serr := w.fs.Stat(next); serr != nil {
		return seed, err
	}
	switch {
	case err == nil:
		err = w.fs.Remove(next)
	case errors.Is(err, fsapi.Unauthorized) || errors.Is(err, fs.ErrNotExist):
		if seed, err = w.openFrom(ctx, next, params, sealed, bind); err != nil {
			return nil, err
		}
		err = rename(w.fs, next, w.path)
	default:
		return nil, err
	}
	if err != nil {
		clear(seed)
		return nil, wrapIO(err, "finish the change of the password file "+w.path)
	}
	return seed, nil
}

func (w *passwordFile) openFrom(ctx context.Context, path string, params, sealed, bind []byte) ([]byte, error) {
	text, err := PasswordFrom(Sources{FS: w.fs, File: path})
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return Password(text, Params{}).open(ctx, params, sealed, bind)
}

// asked is a password that a person is asked for.
type asked struct {
	ask func() ([]byte, error)

	mu   sync.Mutex // held while a person is asked
	text []byte     // what opened a keyring; nil: nothing yet; guarded by mu
}

// maxAsks is how often a person may mistype.
const maxAsks = 3

// Asked is the key made of the password that a person is asked for when it is
// needed, again up to three times while it is wrong. What opened a keyring is
// remembered as long as the KEK. It opens only.
func Asked(ask func() ([]byte, error)) KEK { return &asked{ask: ask} }

func (w *asked) Name() string { return KindPassword.String() }
func (w *asked) kind() Kind   { return KindPassword }

func (w *asked) seal(context.Context, []byte, []byte) (params, sealed []byte, err error) {
	return nil, nil, fsapi.Errorf(fsapi.NotSupported, "keyring: nothing is wrapped with a password that was asked for once: give it in a file")
}

func (w *asked) open(ctx context.Context, params, sealed, bind []byte) (seed []byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text != nil {
		return Password(w.text, Params{}).open(ctx, params, sealed, bind)
	}
	for range maxAsks {
		text, err := w.ask()
		if err != nil {
			return nil, err
		}
		if seed, err = Password(text, Params{}).open(ctx, params, sealed, bind); err == nil {
			w.text = text
			return seed, nil
		}
		clear(text)
		if !errors.Is(err, fsapi.Unauthorized) {
			return nil, err
		}
	}
	return nil, fsapi.Errorf(fsapi.Unauthorized, "keyring: a wrong password was given %d times", maxAsks)
}

// keyFile is 32 random bytes in a file.
type keyFile struct {
	fs   osfs.FS
	path string
}

// KeyFile is the key in a file of 32 bytes, read when it is needed. The file
// must be readable by its owner only.
func KeyFile(fsys osfs.FS, path string) KEK { return &keyFile{fsys, path} }

// EnsureKeyFile makes a key file, mode 0600, durable, where there is none;
// made says so.
func EnsureKeyFile(fsys osfs.FS, path string) (made bool, err error) {
	_, err = fsys.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return false, wrapIO(err, "look at key file "+path)
	}
	return true, wrapIO(replace(fsys, path, random(keyLen)), "write key file "+path)
}

func (w *keyFile) Name() string { return KindFile.String() }
func (w *keyFile) kind() Kind   { return KindFile }

// read is the key, which must be nobody else's to read.
func (w *keyFile) read() ([]byte, error) {
	st, err := w.fs.Stat(w.path)
	if err != nil {
		return nil, wrapIO(err, "read key file "+w.path)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fsapi.Errorf(fsapi.NotPermitted, "key file %s has mode %04o: others than its owner may read it; chmod 0600 it, and make a new key if it was read", w.path, st.Mode().Perm())
	}
	b, err := readFile(w.fs, w.path, keyLen+1)
	if err != nil {
		return nil, wrapIO(err, "read key file "+w.path)
	}
	if len(b) != keyLen {
		return nil, fsapi.Errorf(fsapi.Invalid, "key file %s does not have %d bytes: make one with `strake key wrap file` or head -c 32 /dev/urandom", w.path, keyLen)
	}
	return b, nil
}

// fingerprint tells which key file is wanted, without telling the key.
func fingerprint(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("strake key file v1"))
	return m.Sum(nil)[:fingerprintLen]
}

const fingerprintLen = 8

func (w *keyFile) seal(_ context.Context, seed, bind []byte) (params, sealed []byte, err error) {
	key, err := w.read()
	if err != nil {
		return nil, nil, err
	}
	defer clear(key)
	params = fingerprint(key)
	return params, sealLocal(key, seed, bind, params), nil
}

func (w *keyFile) open(_ context.Context, params, sealed, bind []byte) ([]byte, error) {
	key, err := w.read()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	seed, ok := openLocal(key, sealed, bind, params)
	if !ok {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "keyring: key file %s is another key (fingerprint %x) than the one that wraps the keyring (%x)", w.path, fingerprint(key), params)
	}
	return seed, nil
}
