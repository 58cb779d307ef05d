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
	pool  sync.Pool // of hash.Hash: SHA-256, or HMACs with the key already absorbed
}

// newHasher makes a hasher; a nil key is plain SHA-256.
func newHasher(key []byte) *hasher {
	h := &hasher{keyed: key != nil}
	h.pool.New = func() any {
		if key == nil {
			return sha256.New()
		}
		m := hmac.New(sha256.New, key)
		m.Reset() // saves the state after the key's block, see crypto/hmac
		return m
	}
	return h
}

// sum is the id of a chunk.
func (h *hasher) sum(data []byte) fsapi.ChunkID {
	m := h.pool.Get().(hash.Hash)
	m.Reset()
	write(m, data)
	var id fsapi.ChunkID
	m.Sum(id[:0])
	h.pool.Put(m)
	return id
}

// fetchSize is how much of a chunk is brought near before it is hashed: what the
// nearest cache holds.
const fetchSize = 16 << 10

// write is m.Write of data that no cache holds. SHA-256 takes one cache line after
// the other and waits for each: memory is read faster ahead of it, many lines at a
// time.
func write(m hash.Hash, data []byte) {
	for len(data) > 0 {
		k := min(len(data), fetchSize)
		_ = touch(data[:k])
		_, _ = m.Write(data[:k])
		data = data[k:]
	}
}

// touch reads a byte of each cache line. It is not inlined, or the compiler would
// see that nobody wants the sum.
//
//go:noinline
func touch(p []byte) (sum byte) {
	for i := 0; i < len(p); i += 64 {
		sum += p[i]
	}
	return sum
}
