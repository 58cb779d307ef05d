package meta

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Snapshot is a volume as it was at one moment. It holds no copy: what changes
// after it is kept in its history, key by key, when it is first changed.
type Snapshot struct {
	ID      fsapi.SnapshotID
	Name    string
	Created time.Time
	// Until is before when it cannot be deleted; zero: it can.
	Until time.Time
	// Auto says that a schedule, or an operation that wants a way back, made it.
	Auto bool
	// Deleting says that it is gone for everybody but ReclaimSnapshots.
	Deleting bool
	// Held is the bytes of file ranges that are kept for it, and perhaps for
	// older ones, though the volume does not have them any more.
	Held int64
}

// Bounds of snapshots. A number of an inode of a snapshot's tree holds both:
// 2,097,151 snapshots in the life of a volume, and 2 Ti numbers of inodes.
const (
	MaxSnapshots  = 4096
	MaxSnapshotID = fsapi.SnapshotID(1)<<21 - 1
	MaxSnapIno    = fsapi.Ino(1)<<41 - 1
)

// snapRef is what every transaction knows of a snapshot.
type snapRef struct {
	id       fsapi.SnapshotID
	limit    fsapi.Ino // inodes from here up were made after it
	deleting bool
}

// appendSnapRefs writes the snapshots of a volume's record.
func appendSnapRefs(b []byte, list []snapRef) []byte {
	b = putUint(b, uint64(len(list)))
	last := fsapi.SnapshotID(0)
	for _, s := range list {
		var bits uint64
		if s.deleting {
			bits = 1
		}
		b = putUint(putUint(putUint(b, uint64(s.id-last)), uint64(s.limit)), bits)
		last = s.id
	}
	return b
}

func (d *dec) snapRefs(newest fsapi.SnapshotID) []snapRef {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	var list []snapRef
	last := fsapi.SnapshotID(0)
	for range n {
		step, limit, bits := d.u32(), d.uint(), d.uint()
		if step == 0 || step > uint32(newest-last) || bits > 1 {
			d.fail()
			return nil
		}
		last += fsapi.SnapshotID(step)
		list = append(list, snapRef{last, fsapi.Ino(limit), bits == 1})
	}
	return list
}

const snapshotForm = 1

// Bits of a snapshot's record.
const snapshotAuto = 1 << 0

func appendSnapshot(b []byte, s *Snapshot) []byte {
	var bits uint64
	if s.Auto {
		bits |= snapshotAuto
	}
	b = putTime(putStr(append(b, snapshotForm), s.Name), 0, s.Created)
	b = putUint(b, bits)
	if s.Until.IsZero() {
		return append(b, 0)
	}
	return putTime(append(b, 1), 0, s.Until)
}

func decodeSnapshot(key, v []byte) (Snapshot, error) {
	var s Snapshot
	if len(key) != snapKeyLen {
		return s, corrupt(key, "bad key")
	}
	s.ID = keySnapshot(key)
	d := dec{b: v}
	if d.byte() != snapshotForm {
		return s, corrupt(key, "unknown form")
	}
	s.Name = d.str()
	s.Created = d.time(0)
	bits := d.uint()
	s.Auto = bits&snapshotAuto != 0
	switch d.byte() {
	case 0:
	case 1:
		s.Until = d.time(0)
	default:
		d.fail()
	}
	if !d.done() || bits&^snapshotAuto != 0 {
		return s, corrupt(key, "bad snapshot")
	}
	return s, nil
}

func checkSnapshotName(name string) error {
	bad := name == "" || name == "." || name == ".." || len(name) > fsapi.MaxName
	for _, c := range []byte(name) {
		bad = bad || c == '/' || c == 0
	}
	if bad {
		return fsapi.Errorf(fsapi.Invalid, "%q is no name for a snapshot: want 1 to %d bytes without slash, not . or ..", name, fsapi.MaxName)
	}
	return nil
}

// CreateSnapshot takes a snapshot of a volume: of it Name, Until and Auto count.
// The cost does not depend on what the volume holds; no other transaction of
// the volume runs meanwhile. fsapi.Exist where the name is taken; TooBig, NoSpace
// where a bound is reached. It returns when the snapshot is durable.
func (s *Store) CreateSnapshot(ctx context.Context, vol fsapi.VolumeID, snap Snapshot) (Snapshot, error) {
	if err := checkSnapshotName(snap.Name); err != nil {
		return Snapshot{}, err
	}
	v, err := s.state(ctx, vol)
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.reserve(ctx, v, numbersLow); err != nil {
		return Snapshot{}, err
	}
	snap.Created, snap.Deleting, snap.Held = s.now(), false, 0
	err = s.changeVolume(ctx, vol, func(w kv.Tx, rec *volumeRecord) error {
		limit := fsapi.Ino(v.numbers.peek())
		switch {
		case len(rec.snaps) >= MaxSnapshots:
			return fsapi.Errorf(fsapi.TooBig, "volume %s has %d snapshots, which is the most: delete some", rec.Name, len(rec.snaps))
		case rec.lastSnap >= MaxSnapshotID || limit > MaxSnapIno:
			return fsapi.Errorf(fsapi.NoSpace, "volume %s has used up its numbers of snapshots, or of inodes in them", rec.Name)
		}
		name := snapNameKey(vol, snap.Name)
		if _, ok, err := w.Get(name); err != nil || ok {
			return cmpErr(err, fsapi.Errorf(fsapi.Exist, "volume %s has a snapshot %q already", rec.Name, snap.Name))
		}
		rec.lastSnap++
		snap.ID = rec.lastSnap
		rec.snaps = append(rec.snaps[:len(rec.snaps):len(rec.snaps)], snapRef{id: snap.ID, limit: limit})
		w.Put(name, putUint(nil, uint64(snap.ID)))
		w.Put(snapKey(nil, tabSnapshot, vol, snap.ID), appendSnapshot(nil, &snap))
		return nil
	})
	if err != nil {
		return Snapshot{}, err
	}
	return snap, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Snapshots lists the snapshots of a volume, the oldest first, those being
// deleted included.
func (s *Store) Snapshots(ctx context.Context, vol fsapi.VolumeID) ([]Snapshot, error) {
	var list []Snapshot
	err := s.e.View(ctx, func(r kv.Reader) (err error) {
		list, err = snapshots(r, vol)
		return err
	})
	return list, err
}

func snapshots(r kv.Reader, vol fsapi.VolumeID) ([]Snapshot, error) {
	rec, err := readVolume(r, vol)
	if err != nil {
		return nil, err
	}
	list := make([]Snapshot, 0, len(rec.snaps))
	for _, ref := range rec.snaps {
		s, err := readSnapshot(r, vol, ref)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func readSnapshot(r kv.Reader, vol fsapi.VolumeID, ref snapRef) (Snapshot, error) {
	key := snapKey(nil, tabSnapshot, vol, ref.id)
	v, ok, err := r.Get(key)
	if err != nil {
		return Snapshot{}, err
	}
	if !ok {
		return Snapshot{}, corrupt(key, "the volume lists this snapshot, which has no record")
	}
	s, err := decodeSnapshot(key, v)
	if err != nil {
		return s, err
	}
	s.Deleting = ref.deleting
	s.Held, err = r.Counter(snapKey(nil, tabHeld, vol, ref.id))
	return s, err
}

// SnapshotByName finds a snapshot that is not being deleted: fsapi.NotExist.
func (s *Store) SnapshotByName(ctx context.Context, vol fsapi.VolumeID, name string) (Snapshot, error) {
	var snap Snapshot
	err := s.e.View(ctx, func(r kv.Reader) error {
		key := snapNameKey(vol, name)
		v, ok, err := r.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fsapi.Errorf(fsapi.NotExist, "there is no snapshot %q of this volume (strake snapshot list shows them)", name)
		}
		d := dec{b: v}
		id := fsapi.SnapshotID(d.u32())
		if !d.done() {
			return corrupt(key, "bad snapshot number")
		}
		snap, err = snapshotByID(r, vol, id)
		return err
	})
	return snap, err
}

// SnapshotByID finds a snapshot that is not being deleted: fsapi.NotExist.
func (s *Store) SnapshotByID(ctx context.Context, vol fsapi.VolumeID, id fsapi.SnapshotID) (Snapshot, error) {
	var snap Snapshot
	err := s.e.View(ctx, func(r kv.Reader) (err error) {
		snap, err = snapshotByID(r, vol, id)
		return err
	})
	return snap, err
}

func snapshotByID(r kv.Reader, vol fsapi.VolumeID, id fsapi.SnapshotID) (Snapshot, error) {
	rec, err := readVolume(r, vol)
	if err != nil {
		return Snapshot{}, err
	}
	i, err := rec.find(id)
	if err != nil {
		return Snapshot{}, err
	}
	return readSnapshot(r, vol, rec.snaps[i])
}

// find is the place in snaps of a snapshot that is not being deleted:
// fsapi.NotExist.
func (rec *volumeRecord) find(id fsapi.SnapshotID) (int, error) {
	for i, ref := range rec.snaps {
		if ref.id == id && !ref.deleting {
			return i, nil
		}
	}
	return 0, fsapi.Errorf(fsapi.NotExist, "volume %s has no snapshot %d", rec.Name, id)
}

func errKeptSnapshot(s *Snapshot) error {
	return fsapi.Errorf(fsapi.Immutable, "snapshot %s is kept until %s", s.Name, s.Until.Format(time.RFC3339))
}

// DeleteSnapshot makes a snapshot go: nobody finds it any more, and
// ReclaimSnapshots releases what only it needs. fsapi.NotExist; Immutable where
// it is kept until later. It returns when that is durable.
func (s *Store) DeleteSnapshot(ctx context.Context, vol fsapi.VolumeID, id fsapi.SnapshotID) error {
	return s.changeVolume(ctx, vol, func(w kv.Tx, rec *volumeRecord) error {
		i, err := rec.find(id)
		if err != nil {
			return err
		}
		snap, err := readSnapshot(w, vol, rec.snaps[i])
		if err != nil {
			return err
		}
		if s.RetentionNow().Before(snap.Until) {
			return errKeptSnapshot(&snap)
		}
		snaps := append([]snapRef(nil), rec.snaps...)
		snaps[i].deleting = true
		rec.snaps = snaps
		w.Delete(snapNameKey(vol, snap.Name))
		return nil
	})
}
