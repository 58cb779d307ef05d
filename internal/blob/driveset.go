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
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// capacityAge is how long a drive's measured capacity is believed.
const capacityAge = 2 * time.Second

// sleepyAge is that of a drive that spins down: asking would wake it.
const sleepyAge = time.Hour

// DriveSet is Drives over drives in this process. Safe for concurrent use.
type DriveSet struct {
	clock clock.Clock
	luck  func(w *Wish, id fsapi.DriveID) float64
	mu    sync.RWMutex
	m     map[fsapi.DriveID]*member // guarded by mu
}

// member is a drive with its capacity, measured now and then.
type member struct {
	drive.Drive
	state atomic.Uint32  // drive.State
	turn  chan struct{}  // holds one: the turn to measure, for which callers wait no longer than their ctx
	cap   drive.Capacity // guarded by turn
	at    time.Time      // when measured; guarded by turn
}

var _ Drives = (*DriveSet)(nil)

// NewDriveSet makes a set. It does not close the drives. Of drives with one id
// the first counts.
func NewDriveSet(drives ...drive.Drive) *DriveSet {
	s := &DriveSet{clock: clock.Real, luck: atRandom, m: make(map[fsapi.DriveID]*member)}
	for _, d := range drives {
		_ = s.Add(d)
	}
	return s
}

func atRandom(*Wish, fsapi.DriveID) float64 { return rand.Float64() }

// SetChance replaces what decides between drives that could take the same: a
// number of [0, 1), for each wish and drive, evenly distributed. It may be called
// concurrently. Not once the set is in use.
func (s *DriveSet) SetChance(luck func(w *Wish, id fsapi.DriveID) float64) { s.luck = luck }

// Add puts a drive in; fsapi.Exist where its id is there.
func (s *DriveSet) Add(d drive.Drive) error {
	i := d.Info()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[i.ID] != nil {
		return fsapi.Errorf(fsapi.Exist, "drive %s (%v) is in use already", i.Name, i.ID)
	}
	s.m[i.ID] = &member{Drive: d, turn: make(chan struct{}, 1)}
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

// SetState says what may be done with a drive; fsapi.NotExist.
func (s *DriveSet) SetState(id fsapi.DriveID, st drive.State) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.m[id]
	if m == nil {
		return noDrive(id)
	}
	m.state.Store(uint32(st))
	return nil
}

// Capacity measures a drive; one that spins down is not asked again while what
// it said is not older than an hour. fsapi.NotExist; errors of the drive.
func (s *DriveSet) Capacity(ctx context.Context, id fsapi.DriveID) (drive.Capacity, error) {
	s.mu.RLock()
	m := s.m[id]
	s.mu.RUnlock()
	if m == nil {
		return drive.Capacity{}, noDrive(id)
	}
	if m.Info().Spindown {
		return m.measure(ctx, s.clock.Now(), sleepyAge)
	}
	return m.Capacity(ctx)
}

// State is what may be done with a drive: drive.Offline where it is not there.
func (s *DriveSet) State(id fsapi.DriveID) drive.State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.m[id]; m != nil {
		return drive.State(m.state.Load())
	}
	return drive.Offline
}

// Place picks drives at random, a drive with twice the room twice as often, as
// far apart as there are failure domains. So a segment's partners spread over
// all drives, and drives fill up together.
func (s *DriveSet) Place(ctx context.Context, w Wish) ([]drive.Drive, error) {
	cands, why, kind := s.candidates(ctx, w)
	if len(cands) < w.Min {
		return nil, fsapi.Errorf(kind, "a segment needs %d drives of tier %s with room for %d bytes each, and %d can take it%s: add drives, or choose other copies", w.Min, w.Tier, w.Size, len(cands), why)
	}
	apart := newSpread(s.domains(w.Beside))
	var picked []drive.Drive
	for len(picked) < w.N && len(cands) > 0 {
		i := apart.farthest(cands)
		cands[i].m.took(w.Size)
		picked = append(picked, cands[i].m.Drive)
		apart.add(cands[i].domain)
		cands = slices.Delete(cands, i, i+1)
	}
	return picked, nil
}

// domains are the failure domains of drives.
func (s *DriveSet) domains(ids []fsapi.DriveID) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []string
	for _, id := range ids {
		if m := s.m[id]; m != nil {
			list = append(list, domainOf(m.Info()))
		}
	}
	return list
}

// domainOf is a drive's failure domain: its own where none was given.
func domainOf(i drive.Info) string {
	if i.Domain == "" {
		return i.ID.String()
	}
	return i.Domain
}

// candidate is a member with the key that orders it for picking.
type candidate struct {
	m      *member
	domain string
	key    float64
}

// candidates are the drives that may be picked, in random
// order weighted by room (Efraimidis and Spirakis, 2006); why says what the
// others lack, and kind is the error where that is too few: room, or what kept
// a drive from saying how much it has.
func (s *DriveSet) candidates(ctx context.Context, w Wish) (cands []candidate, why string, kind fsapi.Kind) {
	s.mu.RLock()
	members := make([]*member, 0, len(s.m))
	for _, id := range slices.Sorted(maps.Keys(s.m)) {
		members = append(members, s.m[id])
	}
	s.mu.RUnlock()
	var lack []string
	kind = fsapi.NoSpace
	for _, m := range members {
		i := m.Info()
		if i.Tier != w.Tier {
			continue
		}
		if slices.Contains(w.Avoid, i.ID) || slices.Contains(w.Beside, i.ID) {
			continue
		}
		if st := drive.State(m.state.Load()); !st.Writable() {
			lack = append(lack, i.Name+" is "+st.String())
			continue
		}
		avail, err := m.room(ctx, s.clock.Now(), w.Size)
		switch {
		case err != nil:
			lack = append(lack, fmt.Sprintf("%s: %v", i.Name, err))
			if k := fsapi.KindOf(err); k != fsapi.Other {
				kind = k
			}
		case avail < w.Size:
			lack = append(lack, fmt.Sprintf("%s has %d bytes left", i.Name, avail))
		default:
			u := 1 - s.luck(&w, i.ID) // not 0
			cands = append(cands, candidate{m, domainOf(i), -math.Log(u) / float64(avail)})
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

// room is what may be written to the drive, in bytes. A drive that spins down is
// asked again only where it would be refused for what it said long ago.
func (m *member) room(ctx context.Context, now time.Time, need int64) (int64, error) {
	if m.Info().Spindown {
		if c, err := m.measure(ctx, now, sleepyAge); err != nil || c.Avail >= need {
			return c.Avail, err
		}
	}
	c, err := m.measure(ctx, now, capacityAge)
	return c.Avail, err
}

// measure is the drive's capacity, not older than age. A failure is not believed
// for a while, as a result is.
func (m *member) measure(ctx context.Context, now time.Time, believed time.Duration) (drive.Capacity, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return drive.Capacity{}, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "measure drive "+m.Info().Name)
	}
	defer func() { <-m.turn }()
	if age := now.Sub(m.at); m.at.IsZero() || age > believed || age < 0 {
		c, err := m.Capacity(ctx)
		if err != nil {
			m.at = time.Time{}
			return c, err
		}
		m.cap, m.at = c, now
	}
	return m.cap, nil
}

// took notes what is about to be written, where it is not measured soon.
func (m *member) took(n int64) {
	if !m.Info().Spindown {
		return
	}
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	m.cap.Avail -= n
	m.cap.Used += n
}
