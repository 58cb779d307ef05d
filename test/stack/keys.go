package stack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
)

// password opens the keyrings of tests.
const password = "test"

func (s *Stack) openKeys() (err error) {
	if s.NewKeys != nil {
		s.Keys, err = s.NewKeys(s.FS)
		return err
	}
	if !s.Keyring {
		s.Keys = fixed{s.Cipher}
		return nil
	}
	file := path.Join(s.Dir, "keyring")
	k, err := keyring.Open(s.FS, file, []byte(password))
	if errors.Is(err, fsapi.NotExist) {
		// The least that Argon2 takes: a test does not wait for a password.
		k, err = keyring.Create(s.FS, file, []byte(password), keyring.Params{Passes: 1, MemoryKiB: 8, Lanes: 1})
	}
	if err != nil {
		return err
	}
	s.Keys = k
	s.onClose("keyring", k.Close)
	return nil
}

// volumeKeys gives a volume its keys where it has none.
func (s *Stack) volumeKeys(vol fsapi.VolumeID) error {
	_, _, err := s.Keys.Current(vol)
	if k, ok := s.Keys.(*keyring.Keyring); ok && errors.Is(err, fsapi.NotExist) {
		return k.AddVolume(vol, s.Cipher)
	}
	return err
}

// fixed is keys that are the same in every run.
type fixed struct{ cipher fsapi.Cipher }

var _ blob.Keys = fixed{}

func derive(parts ...any) []byte {
	h := sha256.Sum256(fmt.Append(nil, parts...))
	return h[:]
}

// Current implements blob.Keys.
func (f fixed) Current(fsapi.VolumeID) (fsapi.KeyVersion, fsapi.Cipher, error) {
	if f.cipher == fsapi.CipherNone {
		return 0, f.cipher, nil
	}
	return 1, f.cipher, nil
}

// DataKey implements blob.Keys.
func (f fixed) DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error) {
	return derive("data", vol, v), nil
}

// IDKey implements blob.Keys.
func (f fixed) IDKey(vol fsapi.VolumeID) ([]byte, error) {
	if f.cipher == fsapi.CipherNone {
		return nil, nil
	}
	return derive("id", vol), nil
}

// StoreKey implements blob.Keys.
func (fixed) StoreKey() []byte { return derive("store") }
