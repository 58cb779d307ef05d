package checkpoint

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// kind tells checkpoints from groups. The numbers are stored.
type kind uint8

const (
	kindCheckpoint kind = 1
	kindGroup      kind = 2
)

// Prefix begins the names of all blobs.
const Prefix = "meta/"

// Names of blobs.
const (
	prefixCheckpoint = "meta/c/"
	prefixGroup      = "meta/b/"
	nameKeyring      = "meta/keyring"
)

// object is what a blob's name says: it identifies the blob on every drive.
type object struct {
	kind  kind
	epoch uint64
	first kv.Seq // of a checkpoint: last
	last  kv.Seq
}

func (o object) name() string {
	if o.kind == kindCheckpoint {
		return fmt.Sprintf("%s%016x-%016x", prefixCheckpoint, o.epoch, uint64(o.last))
	}
	return fmt.Sprintf("%s%016x-%016x-%016x", prefixGroup, o.epoch, uint64(o.first), uint64(o.last))
}

// parseName reads what name wrote; ok is false for anything else.
func parseName(name string) (o object, ok bool) {
	var rest string
	if rest, ok = strings.CutPrefix(name, prefixCheckpoint); ok {
		o.kind = kindCheckpoint
	} else if rest, ok = strings.CutPrefix(name, prefixGroup); ok {
		o.kind = kindGroup
	}
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != int(o.kind)+1 {
		return object{}, false
	}
	var n [3]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 16, 64); err != nil {
			return object{}, false
		}
	}
	o.epoch, o.first, o.last = n[0], kv.Seq(n[1]), kv.Seq(n[len(parts)-1])
	return o, o.first <= o.last && (o.kind == kindCheckpoint || o.first > 0) && o.name() == name
}

// Layout of a blob; FORMAT.md says what each part is.
const (
	magic       = "STRKMETA"
	version     = 1
	headerLen   = 64
	offKind     = 10
	offEpoch    = 12
	offFirst    = 20
	offLast     = 28
	offStamp    = 36
	offSalt     = 44
	offCRC      = 60
	saltLen     = offCRC - offSalt
	blockHeader = 4
)

// header is the head of a blob.
type header struct {
	object
	stamp clock.Stamp
	salt  [saltLen]byte
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, headerLen)
	copy(b, magic)
	le.PutUint16(b[len(magic):], version)
	b[offKind] = byte(h.kind)
	le.PutUint64(b[offEpoch:], h.epoch)
	le.PutUint64(b[offFirst:], uint64(h.first))
	le.PutUint64(b[offLast:], uint64(h.last))
	le.PutUint64(b[offStamp:], uint64(h.stamp))
	copy(b[offSalt:], h.salt[:])
	le.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli()))
	return b
}

// decodeHeader reads a header. fsapi.Corrupt, or NotSupported where a newer
// release wrote it.
func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < headerLen || string(b[:len(magic)]) != magic:
		return h, fsapi.Errorf(fsapi.Corrupt, "it does not start with %q", magic)
	case le.Uint32(b[offCRC:]) != crc32.Checksum(b[:offCRC], castagnoli()):
		return h, fsapi.Errorf(fsapi.Corrupt, "the checksum of its header is wrong")
	case le.Uint16(b[len(magic):]) != version:
		return h, fsapi.Errorf(fsapi.NotSupported, "it has version %d, this program knows version %d: use a newer release", le.Uint16(b[len(magic):]), version)
	}
	h.kind = kind(b[offKind])
	h.epoch = le.Uint64(b[offEpoch:])
	h.first = kv.Seq(le.Uint64(b[offFirst:]))
	h.last = kv.Seq(le.Uint64(b[offLast:]))
	h.stamp = clock.Stamp(le.Uint64(b[offStamp:]))
	copy(h.salt[:], b[offSalt:])
	return h, nil
}

// cover picks out of one epoch's groups those that continue a checkpoint at
// base, each reaching as far as one can, and says how far they come together.
func cover(base kv.Seq, groups []object) (chain []object, end kv.Seq) {
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
	})
	end = base
	for i := 0; i < len(groups); {
		best := object{}
		for ; i < len(groups) && groups[i].first <= end+1; i++ {
			if groups[i].last > max(end, best.last) {
				best = groups[i]
			}
		}
		if best.last == 0 {
			break
		}
		chain, end = append(chain, best), best.last
	}
	return chain, end
}
