package blob

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// segmentIDs makes ids of segments. Safe for concurrent use.
type segmentIDs struct {
	clock clock.Clock
	mu    sync.Mutex
	rand  io.Reader // guarded by mu
}

// next is a new id. fsapi.IO where there is no randomness.
func (g *segmentIDs) next(journal bool) (fsapi.SegmentID, error) {
	var b [8]byte
	var id fsapi.SegmentID
	binary.BigEndian.PutUint64(b[:], uint64(g.clock.Now().UnixMilli()))
	copy(id[:6], b[2:])
	g.mu.Lock()
	_, err := io.ReadFull(g.rand, id[6:])
	g.mu.Unlock()
	if err != nil {
		return id, fsapi.Wrap(fsapi.IO, err, "make a segment id")
	}
	id[15] &^= 1
	if journal {
		id[15] |= 1
	}
	return id, nil
}

// SegmentName is the name of a segment's blob on its drives: SegmentPrefix, two
// digits that spread over directories, the id.
func SegmentName(id fsapi.SegmentID) string {
	h := id.String()
	return SegmentPrefix + h[len(h)-4:len(h)-2] + "/" + h
}

// SegmentPrefix starts the names of segments.
const SegmentPrefix = "seg/"

// ParseSegmentName is the id in a name that SegmentName made; fsapi.Invalid.
func ParseSegmentName(name string) (fsapi.SegmentID, error) {
	const at = len(SegmentPrefix) + 3
	if len(name) < at {
		return fsapi.SegmentID{}, fsapi.Errorf(fsapi.Invalid, "%q is not the name of a segment", name)
	}
	id, err := fsapi.ParseSegmentID(name[at:])
	if err != nil || SegmentName(id) != name {
		return fsapi.SegmentID{}, fsapi.Errorf(fsapi.Invalid, "%q is not the name of a segment", name)
	}
	return id, nil
}
