package blob

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// capacityAge is how long a drive's measured capacity is believed.
const capacityAge = 2 * time.Second

// DriveSet is Drives over drives in this process. Safe for concurrent use.
type DriveSet struct {
	clock clock.Clock
	mu    sync.RWMutex
	m     map[fsapi.DriveID]*member // guarded by mu
}

// member is a drive with its capacity, measured now and then.
type member struct {
	drive.Drive
	mu    sync.Mutex
	avail int64     // bytes; guarded by mu
	at    time.Time // when measured; guarded by mu
}

var _ Drives = (*DriveSet)(nil)

// NewDriveSet makes a set. It does not close the drives. Of drives with one id
// the first counts.
func NewDriveSet(drives ...drive.Drive) *DriveSet {
	s := &DriveSet{clock: clock.Real, m: make(map[fsapi.DriveID]*member)}
	for _, d := range drives {
		_ = s.Add(d)
	}
	return s
}

// Add puts a drive in; fsapi.Exist where its id is there.
func (s *DriveSet) Add(d drive.Drive) error {
	i := d.Info()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[i.ID] != nil {
		return fsapi.Errorf(fsapi.Exist, "drive %s (%v) is in use already", i.Name, i.ID)
	}
	s.m[i.ID] = &member{Drive: d}
	return nil
}

// Remove takes a drive out and returns it; fsapi.NotExist.
func (s *DriveSet) Remove(id fsapi.DriveID) (drive.Drive, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.m[id]
	if m == nil {
		return nil, noDrive(id)
	}
	delete(s.m, id)
	return m.Drive, nil
}

func noDrive(id fsapi.DriveID) error {
	return fsapi.Errorf(fsapi.NotExist, "drive %v is not attached", id)
}

// All are the drives, ordered by id.
func (s *DriveSet) All() []drive.Drive {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]drive.Drive, 0, len(s.m))
	for _, id := range slices.Sorted(maps.Keys(s.m)) {
		all = append(all, s.m[id].Drive)
	}
	return all
}

// Drive is one drive, or fsapi.NotExist.
func (s *DriveSet) Drive(id fsapi.DriveID) (drive.Drive, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.m[id]; m != nil {
		return m.Drive, nil
	}
	return nil, noDrive(id)
}

// Place picks n drives of a tier at random, a drive with twice the room twice
// as often, in n failure domains while that is possible. So a segment's
// partners spread over all drives, and drives fill up together.
func (s *DriveSet) Place(ctx context.Context, tier string, n int, size int64) ([]drive.Drive, error) {
	cands, why, kind := s.candidates(ctx, tier, size)
	if len(cands) < n {
		return nil, fsapi.Errorf(kind, "a segment of %d bytes needs %d drives of tier %s with room: %d can take it%s", size, n, tier, len(cands), why)
	}
	picked := make([]drive.Drive, 0, n)
	domains := make(map[string]bool)
	for _, other := range []bool{true, false} { // other domains first, then any
		rest := cands[:0:0]
		for _, c := range cands {
			if len(picked) < n && !(other && domains[c.domain]) {
				picked = append(picked, c.d)
				domains[c.domain] = true
			} else {
				rest = append(rest, c)
			}
		}
		cands = rest
	}
	return picked, nil
}

// candidate is a drive with the key that orders it for picking.
type candidate struct {
	d      drive.Drive
	domain string
	key    float64
}

// candidates are the drives of a tier with room for size bytes, in random
// order weighted by room (Efraimidis and Spirakis, 2006); why says what the
// others lack, and kind is the error where that is too few: room, or what kept
// a drive from saying how much it has.
func (s *DriveSet) candidates(ctx context.Context, tier string, size int64) (cands []candidate, why string, kind fsapi.Kind) {
	s.mu.RLock()
	members := slices.Collect(maps.Values(s.m))
	s.mu.RUnlock()
	var lack []string
	kind = fsapi.NoSpace
	for _, m := range members {
		i := m.Info()
		if i.Tier != tier {
			continue
		}
		avail, err := m.room(ctx, s.clock.Now())
		switch {
		case err != nil:
			lack = append(lack, fmt.Sprintf("%s: %v", i.Name, err))
			if k := fsapi.KindOf(err); k != fsapi.Other {
				kind = k
			}
		case avail < size:
			lack = append(lack, fmt.Sprintf("%s has %d bytes left", i.Name, avail))
		default:
			domain := i.Domain
			if domain == "" {
				domain = i.ID.String()
			}
			u := 1 - rand.Float64() // not 0
			cands = append(cands, candidate{m.Drive, domain, -math.Log(u) / float64(avail)})
		}
	}
	slices.SortFunc(cands, func(a, b candidate) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	if len(lack) > 0 {
		why = " (" + strings.Join(lack, "; ") + ")"
	}
	return cands, why, kind
}

// room is what may be written to the drive, in bytes. A failure is not believed
// for a while, as a result is.
func (m *member) room(ctx context.Context, now time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if age := now.Sub(m.at); m.at.IsZero() || age > capacityAge || age < 0 {
		c, err := m.Capacity(ctx)
		if err != nil {
			m.at = time.Time{}
			return 0, err
		}
		m.avail, m.at = c.Avail, now
	}
	return m.avail, nil
}
