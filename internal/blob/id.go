package blob

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// hasher computes the chunk ids of one volume. Safe for concurrent use.
type hasher struct {
	keyed bool
	pool  sync.Pool // of hash.Hash: HMACs with the key already absorbed
}

// newHasher makes a hasher; a nil key is plain SHA-256.
func newHasher(key []byte) *hasher {
	h := &hasher{keyed: key != nil}
	h.pool.New = func() any {
		m := hmac.New(sha256.New, key)
		m.Reset() // saves the state after the key's block, see crypto/hmac
		return m
	}
	return h
}

// sum is the id of a chunk.
func (h *hasher) sum(data []byte) fsapi.ChunkID {
	if !h.keyed {
		return sha256.Sum256(data)
	}
	m := h.pool.Get().(hash.Hash)
	m.Reset()
	_, _ = m.Write(data)
	var id fsapi.ChunkID
	m.Sum(id[:0])
	h.pool.Put(m)
	return id
}
