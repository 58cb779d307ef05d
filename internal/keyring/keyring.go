package keyring

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// Keyring is an open keyring. Safe for concurrent use. Its reading methods are
// those of blob.Keys; the slices they return must not be changed.
type Keyring struct {
	state  atomic.Pointer[state]
	change sync.Mutex // serializes changes; held while the file is written

	fs   osfs.FS // guarded by change; nil: bound to no file
	path string  // guarded by change
	lock *lock   // guarded by change
	file []byte  // guarded by change: the file as it is now
	last uint64  // guarded by change: the highest generation that may be in the file
	now  func() time.Time
}

// state is one immutable generation of the keys.
type state struct {
	generation uint64
	store      []byte
	volumes    map[fsapi.VolumeID]*volume
}

// volume is the keys of one volume, immutable.
type volume struct {
	cipher fsapi.Cipher
	id     []byte    // nil where cipher is CipherNone, as data
	data   []dataKey // ascending by version, never empty
}

type dataKey struct {
	version fsapi.KeyVersion
	created time.Time
	key     []byte
}

// Create is CreateWith one password, which stays the caller's to wipe.
func Create(fsys osfs.FS, path string, password []byte, p Params) (*Keyring, error) {
	return CreateWith(context.Background(), fsys, path, Password(password, p))
}

// CreateWith makes a keyring with a fresh store key and no volumes in a new
// file, mode 0600, durably, wrapped with each of keks. fsapi.Exist where the
// file is there already; fsapi.Invalid where two have one name.
func CreateWith(ctx context.Context, fsys osfs.FS, path string, keks ...KEK) (*Keyring, error) {
	if _, err := fsys.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return nil, wrapIO(err, "create keyring "+path)
	}
	var wraps []*wrapping
	for _, kek := range keks {
		if find(wraps, kek.Name()) >= 0 {
			return nil, fsapi.Errorf(fsapi.Invalid, "keyring: two wrappings are named %s", kek.Name())
		}
		w, err := newWrapping(ctx, kek, time.Now())
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	l, err := newLock(wraps)
	if err != nil {
		return nil, err
	}
	k := &Keyring{fs: fsys, path: path, lock: l, now: time.Now}
	s := &state{store: random(keyLen), volumes: map[fsapi.VolumeID]*volume{}}
	if err := k.commit(s, l); err != nil {
		return nil, err
	}
	return k, nil
}

// Open is OpenWith a password.
func Open(fsys osfs.FS, path string, password []byte) (*Keyring, error) {
	return OpenWith(context.Background(), fsys, path, Password(password, Params{}))
}

// OpenWith opens a keyring file with the first of keks that does; changes are
// written back to it. Errors: fsapi.NotExist; fsapi.Unauthorized where none of
// keks opens it; fsapi.IO and fsapi.TimedOut where a KMS that may open it does
// not answer; fsapi.Corrupt where the file is damaged; fsapi.NotSupported where
// another release wrote it.
func OpenWith(ctx context.Context, fsys osfs.FS, path string, keks ...KEK) (*Keyring, error) {
	data, err := readFile(fsys, path, maxFile)
	if err != nil {
		return nil, wrapIO(err, "open keyring "+path)
	}
	k, err := ParseWith(ctx, data, keks...)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, path)
	}
	k.fs, k.path = fsys, path
	return k, nil
}

// Parse is ParseWith a password.
func Parse(data, password []byte) (*Keyring, error) {
	return ParseWith(context.Background(), data, Password(password, Params{}))
}

// ParseWith opens a keyring's bytes, as Bytes gave them. It is bound to no file
// and refuses changes with fsapi.ReadOnly until Bind. Errors as OpenWith. data
// may be changed afterwards.
func ParseWith(ctx context.Context, data []byte, keks ...KEK) (*Keyring, error) {
	data = slices.Clone(data)
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	l, err := h.unlock(ctx, keks)
	if err != nil {
		return nil, err
	}
	s, err := h.open(l)
	if err != nil {
		l.wipe()
		return nil, err
	}
	s.generation = h.generation
	k := &Keyring{lock: l, file: data, last: h.generation, now: time.Now}
	k.state.Store(s)
	return k, nil
}

// Wrappings lists the ways to open a keyring's bytes, without opening them.
// Errors as of Generation.
func Wrappings(data []byte) ([]Wrapping, error) {
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	return describe(h.wraps), nil
}

func describe(wraps []*wrapping) []Wrapping {
	var list []Wrapping
	for _, w := range wraps {
		list = append(list, w.describe())
	}
	return list
}

// Wrappings lists the ways to open the keyring.
func (k *Keyring) Wrappings() []Wrapping {
	k.change.Lock()
	defer k.change.Unlock()
	return describe(k.lock.wraps)
}

// Generation is the generation of a keyring's bytes, which grows with every
// change, read without a password: it tells the newest of several copies.
// fsapi.Corrupt where they are damaged.
func Generation(data []byte) (uint64, error) {
	h, err := parseHeader(data)
	if err != nil {
		return 0, err
	}
	return h.generation, nil
}

// Bind writes the keyring to a file, whatever is there, and has later changes
// written to it: for a keyring restored from a drive's copy.
func (k *Keyring) Bind(fsys osfs.FS, path string) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := replace(fsys, path, k.file); err != nil {
		return wrapIO(err, "write keyring "+path)
	}
	k.fs, k.path = fsys, path
	return nil
}

// Adopt makes the keyring what another one is, which was read from a newer state of
// the same file and is used up. What was got from this one before stays valid.
func (k *Keyring) Adopt(next *Keyring) {
	k.change.Lock()
	defer k.change.Unlock()
	k.lock, k.file, k.last = next.lock, next.file, next.last
	k.state.Store(next.state.Load())
}

// Bytes is the wrapped file as it is now, for copies on drives: without the
// password or another key it gives nothing away but how it is wrapped. The
// caller owns the slice.
func (k *Keyring) Bytes() []byte {
	k.change.Lock()
	defer k.change.Unlock()
	return slices.Clone(k.file)
}

// Generation grows by one with every change.
func (k *Keyring) Generation() uint64 { return k.state.Load().generation }

// Close wipes the keys. Nothing may be asked of the keyring afterwards, and
// slices that it gave are zero.
func (k *Keyring) Close() error {
	k.change.Lock()
	defer k.change.Unlock()
	k.lock.wipe()
	k.state.Load().wipe()
	return nil
}

// Current is the version and cipher that new frames of a volume are sealed
// with: 0 and CipherNone where the volume is not encrypted. fsapi.NotExist for
// an unknown volume.
func (k *Keyring) Current(vol fsapi.VolumeID) (fsapi.KeyVersion, fsapi.Cipher, error) {
	v, err := k.state.Load().volume(vol)
	if err != nil || v.cipher == fsapi.CipherNone {
		return 0, fsapi.CipherNone, err
	}
	return v.data[len(v.data)-1].version, v.cipher, nil
}

// DataKey is the 32-byte key of one version. fsapi.NotExist for an unknown
// volume or version.
func (k *Keyring) DataKey(vol fsapi.VolumeID, ver fsapi.KeyVersion) ([]byte, error) {
	v, err := k.state.Load().volume(vol)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(v.data, ver, func(d dataKey, ver fsapi.KeyVersion) int { return int(int64(d.version) - int64(ver)) })
	if !ok {
		return nil, fsapi.Errorf(fsapi.NotExist, "keyring: volume %d has no data key of version %d", vol, ver)
	}
	return v.data[i].key, nil
}

// IDKey is the 32-byte key of a volume's chunk ids, or nil where the volume is
// not encrypted. fsapi.NotExist for an unknown volume.
func (k *Keyring) IDKey(vol fsapi.VolumeID) ([]byte, error) {
	v, err := k.state.Load().volume(vol)
	if err != nil {
		return nil, err
	}
	return v.id, nil
}

// StoreKey is the 32-byte key of what belongs to no volume. Its users derive
// keys of their own from it.
func (k *Keyring) StoreKey() []byte { return k.state.Load().store }

// Volume says what keys a volume has, without the keys.
type Volume struct {
	ID       fsapi.VolumeID
	Cipher   fsapi.Cipher
	Versions []Version // ascending; the last one is current; none where Cipher is CipherNone
}

// Version is one data key of a volume.
type Version struct {
	Number  fsapi.KeyVersion
	Created time.Time // to the millisecond
}

// Volumes lists the volumes, ascending by id.
func (k *Keyring) Volumes() []Volume {
	s := k.state.Load()
	list := make([]Volume, 0, len(s.volumes))
	for _, id := range s.ids() {
		v := Volume{ID: id, Cipher: s.volumes[id].cipher}
		for _, d := range s.volumes[id].data {
			v.Versions = append(v.Versions, Version{d.version, d.created})
		}
		list = append(list, v)
	}
	return list
}

func (s *state) volume(id fsapi.VolumeID) (*volume, error) {
	if v, ok := s.volumes[id]; ok {
		return v, nil
	}
	return nil, fsapi.Errorf(fsapi.NotExist, "keyring: volume %d has no keys", id)
}

// ids are the volumes' ids, ascending.
func (s *state) ids() []fsapi.VolumeID {
	ids := make([]fsapi.VolumeID, 0, len(s.volumes))
	for id := range s.volumes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *state) wipe() {
	clear(s.store)
	for _, v := range s.volumes {
		v.wipe()
	}
}

func (v *volume) wipe() {
	clear(v.id)
	for _, d := range v.data {
		clear(d.key)
	}
}

// wrapIO gives an error of the file system below its kind.
func wrapIO(err error, what string) error {
	kind := fsapi.IO
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = fsapi.NotExist
	case errors.Is(err, fs.ErrExist):
		kind = fsapi.Exist
	case errors.Is(err, fs.ErrPermission):
		kind = fsapi.Access
	case errors.Is(err, errNoSpace):
		kind = fsapi.NoSpace
	}
	return fsapi.Wrap(kind, err, what)
}

// readFile reads at most limit bytes, and one more to show that there are.
func readFile(fsys osfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
