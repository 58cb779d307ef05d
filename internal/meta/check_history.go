package meta

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/fsapi"
)

// history checks what is kept for snapshots: that each has its records, and
// each entry a snapshot.
func (c *check) history() error {
	held := map[fsapi.SnapshotID]int64{}
	known := map[fsapi.SnapshotID]snapRef{}
	for _, ref := range c.tx.volume.snaps {
		known[ref.id] = ref
		held[ref.id] = 0
		if err := c.snapshot(ref); err != nil {
			return err
		}
	}
	for _, tab := range []byte{tabSnapshot, tabHeld} {
		err := c.table(tab, snapKeyLen, func(k, _ []byte) error {
			if _, ok := known[keySnapshot(k)]; !ok {
				c.bad(ProblemHistory, deleteKey(k), "there is a record of snapshot %d, which the volume does not list", keySnapshot(k))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := c.snapNames(known); err != nil {
		return err
	}
	err := c.table(tabHistory, snapKeyLen+1, func(k, v []byte) error {
		ref, ok := known[keySnapshot(k)]
		if !ok {
			c.bad(ProblemHistory, nil, "something is kept for snapshot %d, which the volume does not list", keySnapshot(k))
			return nil
		}
		return c.kept(ref, k, v, held)
	})
	if err != nil {
		return err
	}
	for id, want := range held {
		if err := c.counter(ProblemHistory, snapKey(nil, tabHeld, c.tx.vol, id), want, "what is held for snapshot "+utoa(uint64(id))); err != nil {
			return err
		}
	}
	return nil
}

// snapshot checks the records of one snapshot.
func (c *check) snapshot(ref snapRef) error {
	key := snapKey(nil, tabSnapshot, c.tx.vol, ref.id)
	ok, err := c.there(key)
	if err != nil {
		return err
	}
	if !ok {
		c.bad(ProblemHistory, renamed(ref), "the volume lists snapshot %d, which has no record", ref.id)
		return nil
	}
	s, err := readSnapshot(c.tx.r, c.tx.vol, ref)
	if err != nil || ref.deleting {
		return c.damaged(err)
	}
	name := snapNameKey(c.tx.vol, s.Name)
	v, ok, err := c.tx.r.Get(name)
	if err != nil {
		return err
	}
	if d := (dec{b: v}); !ok || d.uint() != uint64(ref.id) {
		c.bad(ProblemHistory, func(tx *Tx) error {
			tx.w.Put(name, putUint(nil, uint64(ref.id)))
			return nil
		}, "snapshot %d cannot be found by its name %q", ref.id, s.Name)
	}
	return nil
}

// renamed gives a snapshot whose record is lost a new one; its name, if that is
// there, goes as one of no snapshot.
func renamed(ref snapRef) func(tx *Tx) error {
	return func(tx *Tx) error {
		s := Snapshot{Name: "lost-" + utoa(uint64(ref.id)), Created: tx.Now()}
		tx.w.Put(snapKey(nil, tabSnapshot, tx.vol, ref.id), appendSnapshot(nil, &s))
		return nil
	}
}

// snapNames looks for names that no snapshot has.
func (c *check) snapNames(known map[fsapi.SnapshotID]snapRef) error {
	return c.table(tabSnapName, volKeyLen+1, func(k, v []byte) error {
		d := dec{b: v}
		ref, ok := known[fsapi.SnapshotID(d.u32())]
		if ok = ok && d.done() && !ref.deleting; ok {
			s, err := readSnapshot(c.tx.r, c.tx.vol, ref)
			if err != nil && fsapi.KindOf(err) == fsapi.Corrupt {
				return nil // reported before
			}
			if err != nil {
				return err
			}
			ok = s.Name == string(k[volKeyLen:])
		}
		if !ok {
			c.bad(ProblemHistory, deleteKey(k), "%q is the name of no snapshot", k[volKeyLen:])
		}
		return nil
	})
}

// kept checks an entry of a history.
func (c *check) kept(ref snapRef, k, v []byte, held map[fsapi.SnapshotID]int64) error {
	key := presentKey(k)
	if len(key) < inoKeyLen || !versioned(key[0]) {
		c.bad(ProblemDamaged, nil, "%v", corrupt(k, "bad key"))
		return nil
	}
	if keyIno(key) >= ref.limit {
		c.bad(ProblemHistory, nil, "something of inode %d is kept for snapshot %d, which is older", keyIno(key), ref.id)
	}
	e, err := historyExtent(k, key, v)
	if err != nil || e == nil {
		return c.damaged(err)
	}
	held[ref.id] += e.Len
	if e.Kind != fsapi.ExtentData {
		return nil
	}
	return c.extentChunk(keyIno(key), e)
}

// eachReference calls fn for every extent that counts as a reference to its
// chunk, those of history included. Damaged ones were reported before.
func (c *check) eachReference(fn func(e *fsapi.Extent)) error {
	see := func(e *fsapi.Extent, err error) {
		if err == nil && e != nil && e.Kind == fsapi.ExtentData {
			fn(e)
		}
	}
	err := c.table(tabExtent, extentKeyLen, func(k, v []byte) error {
		e, err := decodeExtent(k, v)
		see(&e, err)
		return nil
	})
	if err != nil {
		return err
	}
	return c.table(tabHistory, snapKeyLen+1, func(k, v []byte) error {
		see(historyExtent(k, presentKey(k), v))
		return nil
	})
}

// CheckSnapshot verifies the invariants between the records of a volume as a
// snapshot sees it: names, links, attributes and extents; not usage and queues,
// which are of the present. It is as Check otherwise; what it finds cannot be
// mended.
func (s *Store) CheckSnapshot(ctx context.Context, vol fsapi.VolumeID, id fsapi.SnapshotID, progress func(stage string, done int64), report func(Problem)) (err error) {
	snap, err := s.e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	rec, err := readVolume(snap, vol)
	if err != nil {
		return err
	}
	tx := &Tx{s: s}
	if err := tx.beginAt(rec, id, &past{get: snap.Get, scan: snap.Scan, counter: snap.Counter}); err != nil {
		return err
	}
	c := newCheck(ctx, tx, progress, func(p Problem) {
		p.Mendable, p.mend = false, nil
		report(p)
	})
	c.next = uint64(MaxSnapIno)
	return c.run([]checkStep{{"names", c.names}, {"inodes", c.inodes}, {"attributes", c.attributes}, {"extents", c.extents}})
}
