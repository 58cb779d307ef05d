package keyring

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bounds of a wrapping's parts in the file, in bytes.
const (
	maxWrappings = 16
	idLen        = 8
	publicLen    = 1216                   // of an MLKEM768-X25519 key
	masterLen    = 1120 + keyLen + tagLen // encapsulated key, sealed master key
	maxSealed    = 16 << 10               // of a seed, as a service gives it
	minWrapping  = 1 + idLen + 8 + 1 + 2 + 2 + publicLen + masterLen
)

// wrapping is one way to open a keyring. It has a key pair of its own, whose
// private key, the seed, is sealed under the key-encryption key, and the master
// key sealed to the public key: so the master key can be changed without
// asking for any key-encryption key.
type wrapping struct {
	kind    Kind
	id      []byte // random, never used again
	created time.Time
	name    string
	params  []byte
	sealed  []byte // the seed
	public  []byte
	master  []byte // sealed to public
}

func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// newWrapping draws a key pair and seals it. The master key is set by to. It
// is seen to open again before it is returned.
func newWrapping(ctx context.Context, kek KEK, now time.Time) (*wrapping, error) {
	w := &wrapping{kind: kek.kind(), id: random(idLen), created: now.Truncate(time.Millisecond), name: kek.Name()}
	private, err := kem().GenerateKey()
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Other, err, "keyring: draw a key pair")
	}
	seed, err := private.Bytes()
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Other, err, "keyring: draw a key pair")
	}
	defer clear(seed)
	w.public = private.PublicKey().Bytes()
	if w.params, w.sealed, err = kek.seal(ctx, seed, w.bind()); err != nil {
		return nil, err
	}
	if len(w.sealed) > maxSealed || len(w.params) > maxSealed {
		return nil, fsapi.Errorf(fsapi.TooBig, "keyring: %s gave %d bytes, the most is %d", w.name, len(w.sealed), maxSealed)
	}
	again, err := kek.open(ctx, w.params, w.sealed, w.bind())
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if subtle.ConstantTimeCompare(seed, again) != 1 {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: %s unwrapped something else than it wrapped: nothing was changed", w.name)
	}
	return w, nil
}

// bind is what the key-encryption key seals a seed for.
func (w *wrapping) bind() []byte { return append([]byte("strake keyring seed v1"), w.id...) }

// info is what the master key is sealed for: all of the wrapping but that.
func (w *wrapping) info() []byte { return w.appendHead([]byte("strake keyring master v1")) }

// to is a copy of w with a master key sealed to it.
func (w *wrapping) to(master []byte) (*wrapping, error) {
	public, err := kem().NewPublicKey(w.public)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Corrupt, err, "keyring: the public key of wrapping "+w.name)
	}
	next := *w
	next.master, err = hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), w.info(), master)
	return &next, fsapi.Wrap(fsapi.Other, err, "keyring: seal the master key")
}

// open is the master key.
func (w *wrapping) open(ctx context.Context, kek KEK) ([]byte, error) {
	seed, err := kek.open(ctx, w.params, w.sealed, w.bind())
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	private, err := kem().NewPrivateKey(seed)
	if err == nil && !bytes.Equal(private.PublicKey().Bytes(), w.public) {
		err = fmt.Errorf("it does not belong to the public key")
	}
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Corrupt, err, "keyring: the private key of wrapping "+w.name)
	}
	master, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), w.info(), w.master)
	if err != nil || len(master) != keyLen {
		return nil, fsapi.Errorf(fsapi.Corrupt, "keyring: the master key does not verify: the file was altered; take the copy meta/keyring of a drive")
	}
	return master, nil
}

// appendHead writes all but the master key.
func (w *wrapping) appendHead(b []byte) []byte {
	le := binary.LittleEndian
	b = append(append(b, byte(w.kind)), w.id...)
	b = le.AppendUint64(b, uint64(w.created.UnixMilli()))
	b = append(append(b, byte(len(w.name))), w.name...)
	b = append(le.AppendUint16(b, uint16(len(w.params))), w.params...)
	b = append(le.AppendUint16(b, uint16(len(w.sealed))), w.sealed...)
	return append(b, w.public...)
}

// wrapping reads one. The result points into the file.
func (r *reader) wrapping() *wrapping {
	w := &wrapping{kind: Kind(r.byte()), id: r.take(idLen)}
	w.created = time.UnixMilli(int64(binary.LittleEndian.Uint64(r.take(8))))
	w.name = string(r.take(int(r.byte())))
	w.params = r.take(int(r.uint16()))
	w.sealed = r.take(int(r.uint16()))
	r.fail(len(w.params) > maxSealed || len(w.sealed) > maxSealed)
	w.public, w.master = r.take(publicLen), r.take(masterLen)
	return w
}

// check refuses what no writer of this version makes.
func (w *wrapping) check() (err error) {
	switch w.kind {
	case KindPassword:
		_, err = parsePassword(w.params)
	case KindFile:
		if len(w.params) != fingerprintLen {
			err = fsapi.Errorf(fsapi.Corrupt, "keyring: the fingerprint of the key file has %d bytes", len(w.params))
		}
	case KindKMS:
		_, err = parseIdentity(w.name, w.params)
	default:
		return fsapi.Errorf(fsapi.NotSupported, "keyring: wrapping %q is of kind %d, which this program does not know: use a newer release", w.name, w.kind)
	}
	if err == nil && w.kind != KindKMS && w.name != w.kind.String() {
		err = fsapi.Errorf(fsapi.Corrupt, "keyring: a wrapping of kind %v has the name %q", w.kind, w.name)
	}
	return err
}

// Wrapping describes one way to open a keyring.
type Wrapping struct {
	ID       string // 16 hexadecimal digits, new with each wrapping
	Kind     Kind
	Name     string
	Provider string // of a KMS
	Key      string // of a KMS: which key; of a file: its fingerprint; of a password: the cost of guessing
	Created  time.Time
}

// describe is w for people. It was checked.
func (w *wrapping) describe() Wrapping {
	d := Wrapping{ID: fmt.Sprintf("%x", w.id), Kind: w.kind, Name: w.name, Created: w.created}
	switch w.kind {
	case KindPassword:
		p, _ := parsePassword(w.params)
		d.Key = fmt.Sprintf("argon2id: %d passes, %d MiB, %d lanes", p.Passes, p.MemoryKiB>>10, p.Lanes)
	case KindFile:
		d.Key = fmt.Sprintf("fingerprint %x", w.params)
	case KindKMS:
		id, _ := parseIdentity(w.name, w.params)
		d.Provider, d.Key = id.Provider, id.Key
	}
	return d
}
