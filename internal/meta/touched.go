package meta

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// OpenReadOnly is Open for an engine that follows another one (kv.Follower):
// nothing is written, and every Update fails. Refreshed is to be called when the
// engine shows new batches. fsapi.NotExist where it holds nothing yet.
func OpenReadOnly(ctx context.Context, e kv.Engine, o Options) (*Store, error) {
	s := newStore(e, o)
	err := e.View(ctx, func(r kv.Reader) error {
		key := []byte{tabFormat}
		v, ok, err := r.Get(key)
		switch {
		case err != nil:
			return err
		case !ok:
			return fsapi.Errorf(fsapi.NotExist, "there is no metadata yet")
		}
		return cmpErr(checkFormat(key, v), s.openRetention(r))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Refreshed drops what was cached of batches before those that the engine shows
// now.
func (s *Store) Refreshed() { s.moved.Add(1) }

// Name is a name in a directory.
type Name struct {
	Dir  fsapi.Ino
	Name string
}

// Touched is what a batch changed of one volume, as the caches of who follows the
// batches know it.
type Touched struct {
	Volume  fsapi.VolumeID
	Inodes  map[fsapi.Ino]bool // records of inodes and what belongs to them; true: extents
	Names   map[Name]bool      // dentries
	Changes []fsapi.Change     // that were noted, in order

	Inherited bool            // policies or quotas, of directories or of the volume
	Snapshots map[string]bool // names of snapshots that were taken or deleted
}

// TouchedBy reads what a tailed batch changed: of volumes, ascending, and in store
// whether of what belongs to none: the records of volumes and drives, and settings.
// fsapi.Corrupt.
func TouchedBy(b kv.Batch) (vols []*Touched, store bool, err error) {
	all := map[fsapi.VolumeID]*Touched{}
	of := func(k []byte) *Touched {
		id := keyVolume(k)
		if all[id] == nil {
			all[id] = &Touched{Volume: id, Inodes: map[fsapi.Ino]bool{}, Names: map[Name]bool{}, Snapshots: map[string]bool{}}
		}
		return all[id]
	}
	for i := range b.Ops {
		op := &b.Ops[i]
		if len(op.Key) == 0 {
			return nil, false, corrupt(op.Key, "bad key")
		}
		switch tab := op.Key[0]; tab {
		case tabDrive, tabSetting, tabVolName:
			store = true
		case tabVolume:
			if len(op.Key) != volKeyLen {
				return nil, false, corrupt(op.Key, "bad key")
			}
			store, of(op.Key).Inherited = true, true
		case tabSnapName:
			if len(op.Key) <= volKeyLen {
				return nil, false, corrupt(op.Key, "bad key")
			}
			of(op.Key).Snapshots[string(op.Key[volKeyLen:])] = true
		case tabDentry, tabInode, tabExtent, tabXattr, tabPolicy, tabQuota:
			if len(op.Key) < inoKeyLen {
				return nil, false, corrupt(op.Key, "bad key")
			}
			if err := of(op.Key).record(op); err != nil {
				return nil, false, err
			}
		}
	}
	changes, err := Changes(b)
	if err != nil {
		return nil, false, err
	}
	for _, c := range changes {
		t := of(volKey(nil, 0, c.Volume))
		t.Changes = append(t.Changes, c)
		t.touch(c.Ino, c.Kind == fsapi.ChangeContent)
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *Touched) int { return cmp.Compare(a.Volume, b.Volume) }), store, nil
}

// record takes in one operation on a record of an inode.
func (t *Touched) record(op *kv.Op) error {
	ino := keyIno(op.Key)
	switch op.Key[0] {
	case tabDentry:
		t.Names[Name{ino, string(op.Key[inoKeyLen:])}] = true
		if op.Kind != kv.OpPut {
			return nil
		}
		e, err := decodeDentry(op.Key, op.Value)
		if err != nil {
			return err
		}
		t.touch(e.Ino, false)
	case tabPolicy, tabQuota:
		t.Inherited = true
		t.touch(ino, false)
	default:
		t.touch(ino, op.Key[0] == tabExtent)
	}
	return nil
}

func (t *Touched) touch(ino fsapi.Ino, extents bool) {
	t.Inodes[ino] = t.Inodes[ino] || extents
}
