package bucket

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Keys of objects. Those of manifests and tables are never used again: they end
// with the object's salt.
const (
	keyHead        = "head"
	keyLease       = "lease"
	prefixJournal  = "journal/"
	prefixManifest = "manifest/"
	prefixTable    = "table/"
)

// ref names a manifest or table: what its header says, but for the size.
type ref struct {
	epoch  uint64
	number uint64 // of a manifest; 0 of a table
	salt   salt
}

func (r ref) table() string { return fmt.Sprintf("%s%016x-%x", prefixTable, r.epoch, r.salt) }

func (r ref) manifest() string {
	return fmt.Sprintf("%s%016x-%016x-%x", prefixManifest, r.epoch, r.number, r.salt)
}

func journalKey(n uint64) string { return fmt.Sprintf("%s%016d", prefixJournal, n) }

// parseJournal reads what journalKey wrote.
func parseJournal(key string) (n uint64, ok bool) {
	rest, ok := strings.CutPrefix(key, prefixJournal)
	n, err := strconv.ParseUint(rest, 10, 64)
	return n, ok && err == nil && journalKey(n) == key
}

// parseRef reads the key of a manifest or table.
func parseRef(key string) (r ref, ok bool) {
	kind, rest, _ := strings.Cut(key, "/")
	parts := strings.Split(rest, "-")
	last := len(parts) - 1
	b, err := hex.DecodeString(parts[last])
	if err != nil || len(b) != saltLen {
		return r, false
	}
	copy(r.salt[:], b)
	for i, p := range parts[:last] {
		n, err := strconv.ParseUint(p, 16, 64)
		if err != nil || i > 1 {
			return r, false
		}
		if i == 0 {
			r.epoch = n
		} else {
			r.number = n
		}
	}
	return r, kind+"/" == prefixTable && r.table() == key || kind+"/" == prefixManifest && r.manifest() == key
}
