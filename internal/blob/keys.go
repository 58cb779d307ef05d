package blob

import (
	"sync"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/fsapi"
)

// maxKeys bounds the segment keys kept.
const maxKeys = 1024

// keyCache keeps derived keys of segments. Safe for concurrent use.
type keyCache struct {
	keys Keys
	mu   sync.Mutex
	m    map[keyName]*frame.Key // guarded by mu
}

type keyName struct {
	segment fsapi.SegmentID
	volume  fsapi.VolumeID
	version fsapi.KeyVersion
	cipher  Cipher
}

func newKeyCache(keys Keys) *keyCache {
	return &keyCache{keys: keys, m: make(map[keyName]*frame.Key)}
}

// get is the key of a segment's frames.
func (c *keyCache) get(n keyName) (*frame.Key, error) {
	c.mu.Lock()
	k := c.m[n]
	c.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := deriveKey(c.keys, n)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxKeys {
		for old := range c.m { // any: map order is as good as random
			delete(c.m, old)
			break
		}
	}
	c.m[n] = k
	return k, nil
}

func deriveKey(keys Keys, n keyName) (*frame.Key, error) {
	var secret []byte
	if n.cipher != CipherNone {
		var err error
		if secret, err = keys.DataKey(n.volume, n.version); err != nil {
			return nil, err
		}
	}
	return frame.NewKey(n.cipher, secret, n.segment, frame.FrameInfo)
}

// directoryKey is the key of a segment's directory, and its cipher: none only
// in a store that has no key.
func directoryKey(keys Keys, id fsapi.SegmentID) (*frame.Key, Cipher, error) {
	secret, c := keys.StoreKey(), CipherAES256GCM
	if secret == nil {
		c = CipherNone
	}
	k, err := frame.NewKey(c, secret, id, frame.DirectoryInfo)
	return k, c, err
}
