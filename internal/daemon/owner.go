package daemon

import (
	"crypto/hkdf"
	"crypto/sha256"
	"os"

	"github.com/strakefs/strake/internal/drive/identity"
)

// owner is this store, as the places that belong to it know it: by an id that is
// derived from the store key (HKDF-SHA-256 without salt, info "strake store id
// v1"), and so is the same after a rebuild and in a copy of the data directory, which
// incarnations tell apart on drives: see claims.
func (n *Node) owner() *identity.Owner {
	id, err := hkdf.Key(sha256.New, n.keys.StoreKey(), nil, "strake store id v1", len(identity.StoreID{}))
	if err != nil {
		panic(err) // 16 bytes are within HKDF's limit
	}
	return &identity.Owner{Store: identity.StoreID(id), Host: hostname(), Since: n.clock.Now()}
}

// hostname is this machine's name, for people.
func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
