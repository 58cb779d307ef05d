package chaos

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
)

// keys are data keys that depend on the seed, with versions: rotation makes one
// more, pruning forgets the old ones for good. They outlive kills, as a keyring
// file does.
type keys struct {
	seed   uint64
	cipher fsapi.Cipher

	mu          sync.Mutex
	first, last fsapi.KeyVersion // guarded by mu
}

var (
	_ blob.Keys   = (*keys)(nil)
	_ upkeep.Keys = (*keys)(nil)
)

func (k *keys) derive(parts ...any) []byte {
	h := sha256.Sum256(fmt.Append(nil, append(parts, k.seed)...))
	return h[:]
}

// rotate makes a new version.
func (k *keys) rotate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
}

// one reports whether all versions but the last are gone.
func (k *keys) one() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.first == k.last
}

// Current implements blob.Keys.
func (k *keys) Current(fsapi.VolumeID) (fsapi.KeyVersion, fsapi.Cipher, error) {
	if k.cipher == fsapi.CipherNone {
		return 0, k.cipher, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last, k.cipher, nil
}

// DataKey implements blob.Keys.
func (k *keys) DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v < k.first || v > k.last {
		return nil, fsapi.Errorf(fsapi.NotExist, "volume %v has no data key %d, only %d to %d", vol, v, k.first, k.last)
	}
	return k.derive("data", vol, v), nil
}

// IDKey implements blob.Keys.
func (k *keys) IDKey(vol fsapi.VolumeID) ([]byte, error) {
	if k.cipher == fsapi.CipherNone {
		return nil, nil
	}
	return k.derive("id", vol), nil
}

// StoreKey implements blob.Keys.
func (k *keys) StoreKey() []byte { return k.derive("store") }

// Versions implements upkeep.Keys.
func (k *keys) Versions(fsapi.VolumeID) (list []fsapi.KeyVersion) {
	if k.cipher == fsapi.CipherNone {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for v := k.first; v <= k.last; v++ {
		list = append(list, v)
	}
	return list
}

// Prune implements upkeep.Keys.
func (k *keys) Prune(_ context.Context, _ fsapi.VolumeID, v fsapi.KeyVersion) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.first = max(k.first, v)
	return nil
}
