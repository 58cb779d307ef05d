package blob

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// segmentIDs makes ids of segments. Safe for concurrent use.
type segmentIDs struct {
	clock clock.Clock
	mu    sync.Mutex
	rand  io.Reader                     // guarded by mu
	made  map[fsapi.SegmentID]time.Time // the newest maxMade stored ones; guarded by mu
	order []fsapi.SegmentID             // of made, oldest first; guarded by mu
}

// maxMade is how many ids are remembered: far more than segments can be under
// way.
const maxMade = 1 << 16

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
	} else {
		g.remember(id)
	}
	return id, nil
}

func (g *segmentIDs) remember(id fsapi.SegmentID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.order) >= maxMade {
		delete(g.made, g.order[0])
		g.order = g.order[1:]
	}
	g.made[id] = g.clock.Now()
	g.order = append(g.order, id)
}

// Made is when a segment was begun by this store, by a clock that does not
// jump; ok is false where it was not, or is none of the newest 65,536. Such a
// segment may still be on its way into the metadata.
func (s *Store) Made(id fsapi.SegmentID) (at time.Time, ok bool) {
	s.ids.mu.Lock()
	defer s.ids.mu.Unlock()
	at, ok = s.ids.made[id]
	return at, ok
}

// SegmentTime is when a segment's id was made, by the clock of its writer.
func SegmentTime(id fsapi.SegmentID) time.Time {
	var b [8]byte
	copy(b[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
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
