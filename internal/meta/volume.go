package meta

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// volumeRecord is a volume with what transactions need to know about all of
// it.
type volumeRecord struct {
	Volume
	epoch    uint64 // counts changes of directory quotas
	quotas   uint64 // directories with a quota
	policies uint64 // inodes with a policy of their own

	snaps    []snapRef // ascending; replaced, never changed in place
	lastSnap fsapi.SnapshotID
}

// volumeState is what a Store keeps in memory of a volume. Every Update of the
// volume holds the gate: shared, or alone where it changes the record, so that
// rec is always the record as it is stored and need not be read each time.
type volumeState struct {
	id      fsapi.VolumeID
	numbers numbers

	gate sync.RWMutex
	rec  volumeRecord // guarded by gate
}

// The forms of a volume's record.
const (
	volumeForm     = 1
	volumeSnapForm = 2 // one that has, or had, snapshots
)

// Bits of a volume record.
const (
	volumeEncrypted = 1 << 0
	volumeDeleting  = 1 << 1
)

func appendVolume(b []byte, v *volumeRecord) []byte {
	var bits uint64
	if v.Encrypted {
		bits |= volumeEncrypted
	}
	if v.Deleting {
		bits |= volumeDeleting
	}
	form := byte(volumeForm)
	if v.lastSnap > 0 {
		form = volumeSnapForm
	}
	b = putStr(append(b, form), v.Name)
	b = putUint(putTime(b, 0, v.Created), bits)
	b = appendQuota(b, v.Quota)
	b = putUint(putUint(putUint(b, v.epoch), v.quotas), v.policies)
	if form == volumeSnapForm {
		b = appendSnapRefs(putUint(b, uint64(v.lastSnap)), v.snaps)
	}
	return appendPolicy(b, v.Policy)
}

func decodeVolume(key, val []byte, id fsapi.VolumeID) (volumeRecord, error) {
	v := volumeRecord{Volume: Volume{ID: id}}
	d := dec{b: val}
	form := d.byte()
	if form != volumeForm && form != volumeSnapForm {
		return v, corrupt(key, "unknown form")
	}
	v.Name = d.str()
	v.Created = d.time(0)
	bits := d.uint()
	v.Encrypted, v.Deleting = bits&volumeEncrypted != 0, bits&volumeDeleting != 0
	v.Quota = d.quota()
	v.epoch, v.quotas, v.policies = d.uint(), d.uint(), d.uint()
	if form == volumeSnapForm {
		v.lastSnap = fsapi.SnapshotID(d.u32())
		v.snaps = d.snapRefs(v.lastSnap)
	}
	v.Policy = d.policy()
	if !d.done() {
		return v, corrupt(key, "bad volume")
	}
	return v, nil
}

func errNoVolume(id fsapi.VolumeID) error {
	return fsapi.Errorf(fsapi.NotExist, "there is no volume %d", id)
}

// state is what is kept in memory of a volume that exists.
func (s *Store) state(ctx context.Context, id fsapi.VolumeID) (*volumeState, error) {
	s.mu.Lock()
	v := s.volumes[id]
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	var rec volumeRecord
	err := s.e.View(ctx, func(r kv.Reader) (err error) {
		rec, err = readVolume(r, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Whoever changes the record comes here first, so one that is in the map
	// by now is at least as new.
	if v = s.volumes[id]; v == nil {
		v = &volumeState{id: id, rec: rec}
		s.volumes[id] = v
	}
	return v, nil
}

func errDeleting(name string) error {
	return fsapi.Errorf(fsapi.NotExist, "volume %q is being deleted", name)
}

// readVolume makes tx.volume the volume's record.
func (tx *Tx) readVolume() error {
	if tx.haveVolume {
		return nil
	}
	rec, err := readVolume(tx.r, tx.vol)
	if err == nil {
		tx.volume, tx.haveVolume = rec, true
	}
	return err
}

// needGate ends an attempt that changes the volume's record without having the
// gate alone; Update runs it again with.
func (tx *Tx) needGate() error {
	if tx.alone {
		return nil
	}
	tx.wantGate = true
	return errGate
}

var errGate = errors.New("the volume's record changes: run again alone")

// putVolume writes the volume's record back.
func (tx *Tx) putVolume() {
	tx.wantGate = true
	tx.key = volKey(tx.key, tabVolume, tx.vol)
	tx.val = appendVolume(tx.val[:0], &tx.volume)
	tx.w.Put(tx.key, tx.val)
}

// Volume is the volume's record (policy and quota). The slices in it must not
// be changed. Zero where the record cannot be read, which in an Update cannot
// be.
func (tx *Tx) Volume() Volume {
	if tx.readVolume() != nil {
		return Volume{}
	}
	return tx.volume.Volume
}

// CreateVolume makes a volume with a root directory, owned by root, mode 0755.
// ID and Created are chosen here; fields of Policy that are zero are taken
// from policy.Default. fsapi.Exist where the name is taken, Invalid where it
// is empty, longer than fsapi.MaxName or contains a slash or NUL. It returns
// when the volume is durable.
func (s *Store) CreateVolume(ctx context.Context, v Volume) (Volume, error) {
	if err := checkVolumeName(v.Name); err != nil {
		return Volume{}, err
	}
	v.Created = s.now()
	v.Deleting = false
	v.Policy = v.Policy.Or(policy.Default())
	err := s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		id, err := nextVolumeID(w)
		if err != nil {
			return err
		}
		v.ID = id
		if err := claimVolumeName(w, v.Name, id); err != nil {
			return err
		}
		w.Put(volKey(nil, tabVolume, id), appendVolume(nil, &volumeRecord{Volume: v}))
		w.Put(inoKey(nil, tabInode, id, fsapi.RootIno), appendInode(nil, newRoot(v.Created)))
		w.Add(usageKey(nil, id, 0, usageTreeInodes), 1)
		return nil
	})
	if err != nil {
		return Volume{}, err
	}
	return v, nil
}

func newRoot(now time.Time) *Inode {
	return &Inode{Attr: fsapi.Attr{
		Ino: fsapi.RootIno, Type: fsapi.TypeDirectory, Mode: 0o755, Nlink: 2,
		Atime: now, Mtime: now, Ctime: now, Btime: now, Change: 1,
	}}
}

func checkVolumeName(name string) error {
	bad := name == "" || len(name) > fsapi.MaxName
	for _, c := range []byte(name) {
		bad = bad || c == '/' || c == 0
	}
	if bad {
		return fsapi.Errorf(fsapi.Invalid, "%q is no name for a volume: want 1 to %d bytes without slash", name, fsapi.MaxName)
	}
	return nil
}

// nextVolumeID takes a volume number; number 0 of the table counts them.
func nextVolumeID(w kv.Tx) (fsapi.VolumeID, error) {
	key := volKey(nil, tabNumber, 0)
	val, ok, err := w.Get(key)
	if err != nil {
		return 0, err
	}
	id := uint32(1)
	if ok {
		d := dec{b: val}
		if id = d.u32(); !d.done() || id == 0 || id == 1<<32-1 {
			return 0, corrupt(key, "bad number")
		}
	}
	w.Put(key, putUint(nil, uint64(id)+1))
	return fsapi.VolumeID(id), nil
}

func claimVolumeName(w kv.Tx, name string, id fsapi.VolumeID) error {
	key := namedKey(tabVolName, name)
	_, ok, err := w.Get(key)
	if err != nil {
		return err
	}
	if ok {
		return fsapi.Errorf(fsapi.Exist, "there is a volume %q already", name)
	}
	w.Put(key, putUint(nil, uint64(id)))
	return nil
}

// Volumes lists all volumes by number, those being deleted included.
func (s *Store) Volumes(ctx context.Context) ([]Volume, error) {
	var list []Volume
	err := s.e.View(ctx, func(r kv.Reader) error {
		list = nil
		return r.Scan([]byte{tabVolume}, []byte{tabVolume + 1}, func(k, val []byte) (bool, error) {
			if len(k) != volKeyLen {
				return false, corrupt(k, "bad key")
			}
			v, err := decodeVolume(k, val, keyVolume(k))
			list = append(list, v.Volume)
			return true, err
		})
	})
	return list, err
}

// Volume is the record of a volume: fsapi.NotExist.
func (s *Store) Volume(ctx context.Context, id fsapi.VolumeID) (Volume, error) {
	var rec volumeRecord
	err := s.e.View(ctx, func(r kv.Reader) (err error) {
		rec, err = readVolume(r, id)
		return err
	})
	return rec.Volume, err
}

// VolumePolicy is how a volume wants data stored, every field set: the default where
// the volume is gone already.
func (s *Store) VolumePolicy(ctx context.Context, id fsapi.VolumeID) (policy.Policy, error) {
	v, err := s.Volume(ctx, id)
	if err != nil && !errors.Is(err, fsapi.NotExist) {
		return policy.Policy{}, err
	}
	return v.Policy.Or(policy.Default()), nil
}

func readVolume(r kv.Reader, id fsapi.VolumeID) (volumeRecord, error) {
	key := volKey(nil, tabVolume, id)
	val, ok, err := r.Get(key)
	if err != nil {
		return volumeRecord{}, err
	}
	if !ok {
		return volumeRecord{}, errNoVolume(id)
	}
	return decodeVolume(key, val, id)
}

// VolumeByName is the record of a volume that is not being deleted:
// fsapi.NotExist.
func (s *Store) VolumeByName(ctx context.Context, name string) (Volume, error) {
	var rec volumeRecord
	err := s.e.View(ctx, func(r kv.Reader) error {
		key := namedKey(tabVolName, name)
		val, ok, err := r.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fsapi.Errorf(fsapi.NotExist, "there is no volume %q", name)
		}
		d := dec{b: val}
		id := d.u32()
		if !d.done() {
			return corrupt(key, "bad volume number")
		}
		rec, err = readVolume(r, fsapi.VolumeID(id))
		return err
	})
	return rec.Volume, err
}

// SetVolume changes Name, Policy (zero fields are set to the default) and
// Quota of a volume. fsapi.NotExist; fsapi.Exist where the new name is taken.
// It returns when the change is durable.
func (s *Store) SetVolume(ctx context.Context, v Volume) error {
	if err := checkVolumeName(v.Name); err != nil {
		return err
	}
	return s.changeVolume(ctx, v.ID, func(w kv.Tx, rec *volumeRecord) error {
		if rec.Name != v.Name {
			if err := claimVolumeName(w, v.Name, v.ID); err != nil {
				return err
			}
			w.Delete(namedKey(tabVolName, rec.Name))
		}
		rec.Name, rec.Quota, rec.Policy = v.Name, v.Quota, v.Policy.Or(policy.Default())
		return nil
	})
}

// DeleteVolume marks a volume as going and frees its name: every later Update
// of it fails. ReclaimVolume removes what it holds. fsapi.Immutable where a file
// is under retention, or a snapshot is kept until later.
func (s *Store) DeleteVolume(ctx context.Context, id fsapi.VolumeID) error {
	return s.changeVolume(ctx, id, func(w kv.Tx, rec *volumeRecord) error {
		if err := s.mayDelete(w, rec); err != nil {
			return err
		}
		rec.Deleting = true
		w.Delete(namedKey(tabVolName, rec.Name))
		return nil
	})
}

// MayDeleteVolume fails as DeleteVolume would.
func (s *Store) MayDeleteVolume(ctx context.Context, id fsapi.VolumeID) error {
	return s.e.View(ctx, func(r kv.Reader) error {
		rec, err := readVolume(r, id)
		if err != nil {
			return err
		}
		return s.mayDelete(r, &rec)
	})
}

// mayDelete refuses to delete a volume that holds what must be kept.
func (s *Store) mayDelete(r kv.Reader, rec *volumeRecord) error {
	ino, err := s.retained(r, rec.ID)
	if err != nil {
		return err
	}
	if ino != 0 {
		return fsapi.Errorf(fsapi.Immutable, "volume %s holds files under retention, inode %d the first to end", rec.Name, ino)
	}
	for _, ref := range rec.snaps {
		if ref.deleting {
			continue
		}
		snap, err := readSnapshot(r, rec.ID, ref)
		if err != nil {
			return err
		}
		if s.RetentionNow().Before(snap.Until) {
			return errKeptSnapshot(&snap)
		}
	}
	return nil
}

func (s *Store) changeVolume(ctx context.Context, id fsapi.VolumeID, fn func(w kv.Tx, rec *volumeRecord) error) error {
	v, err := s.state(ctx, id)
	if err != nil {
		return err
	}
	v.gate.Lock()
	defer v.gate.Unlock()
	if v.rec.Deleting {
		return errDeleting(v.rec.Name)
	}
	var rec volumeRecord
	err = s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		rec = v.rec
		if err := fn(w, &rec); err != nil {
			return err
		}
		w.Put(volKey(nil, tabVolume, id), appendVolume(nil, &rec))
		return nil
	})
	if err != nil {
		return err
	}
	v.rec = rec
	return s.Sync(ctx)
}

// volumeTables are the tables a volume has records in, in the order
// ReclaimVolume empties them: names first, so that nothing of a volume that is
// half gone can be reached.
const volumeTables = "DILdTOQqYXEHGghRKuZcCJ"

// ReclaimVolume removes up to max records of a volume that DeleteVolume marked
// and says whether more are left. Chunks go with it: their bytes in segments
// are no longer live. fsapi.Busy where the volume is not marked.
func (s *Store) ReclaimVolume(ctx context.Context, id fsapi.VolumeID, max int) (more bool, err error) {
	err = s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		more = false
		rec, err := readVolume(w, id)
		if err != nil {
			return err
		}
		if !rec.Deleting {
			return fsapi.Errorf(fsapi.Busy, "volume %q is in use; delete it first", rec.Name)
		}
		left := max
		for i := 0; i < len(volumeTables); i++ {
			n, err := reclaimTable(w, volumeTables[i], id, left)
			if err != nil {
				return err
			}
			if left -= n; left <= 0 {
				more = true
				return nil
			}
		}
		for _, tab := range []byte{tabVolume, tabNumber, tabJournalN} {
			w.Delete(volKey(nil, tab, id))
		}
		return nil
	})
	if err == nil && !more {
		s.mu.Lock()
		delete(s.volumes, id)
		s.mu.Unlock()
	}
	return more, err
}

// reclaimTable removes up to max records of one table. Two at once conflict:
// the records are read.
func reclaimTable(w kv.Tx, tab byte, vol fsapi.VolumeID, max int) (int, error) {
	var keys [][]byte
	var chunks []fsapi.Location
	prefix := volKey(nil, tab, vol)
	err := w.Scan(prefix, after(nil, prefix), func(k, v []byte) (bool, error) {
		if len(keys) == max {
			return false, nil
		}
		if tab == tabChunk {
			c, err := decodeChunk(k, v)
			if err != nil {
				return false, err
			}
			chunks = append(chunks, c.Loc)
		}
		keys = append(keys, bytes.Clone(k))
		return true, nil
	})
	if err != nil {
		return 0, err
	}
	for _, k := range keys {
		w.Delete(k)
	}
	for _, loc := range chunks {
		if !loc.Segment.IsJournal() {
			w.Add(segmentKey(nil, tabLive, loc.Segment), -int64(loc.Length))
		}
	}
	return len(keys), nil
}
