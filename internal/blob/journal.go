package blob

import (
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// maxJournalIndex is where a journal segment's id is changed, far below where
// its 32-bit counter would repeat a nonce.
const maxJournalIndex = 1 << 30

// journal numbers the frames of this process that go to the metadata log. Its
// segment exists as an id only: random for each process, so that no nonce is
// used twice. Safe for concurrent use.
type journal struct {
	ids  *segmentIDs
	mu   sync.Mutex
	id   fsapi.SegmentID // guarded by mu
	next uint32          // guarded by mu
}

// place is where the next frame of length bytes lies.
func (j *journal) place(length int) (fsapi.Location, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.id.IsZero() || j.next >= maxJournalIndex {
		id, err := j.ids.next(true)
		if err != nil {
			return fsapi.Location{}, err
		}
		j.id, j.next = id, 0
	}
	loc := fsapi.Location{Segment: j.id, Offset: j.next, Length: uint32(length)}
	j.next++
	return loc, nil
}
