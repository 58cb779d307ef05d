package meta

import (
	"context"
	"math"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// RetentionXattr is the extended attribute that holds a file's retention, as
// policy.Retained's text. SetXattr and RemoveXattr leave it alone.
const RetentionXattr = "user.strake.retention"

// Retention is what holds a file; zero: nothing.
func (tx *Tx) Retention(in *Inode) (policy.Retained, error) {
	if in.Flags&HasRetention == 0 {
		return policy.Retained{}, nil
	}
	key := xattrKey(nil, tx.vol, in.Ino, RetentionXattr)
	v, ok, err := tx.r.Get(key)
	if err != nil {
		return policy.Retained{}, err
	}
	if !ok {
		return policy.Retained{}, corrupt(key, "the inode says that it is under retention, which is not there")
	}
	r, err := policy.ParseRetained(string(v))
	if err != nil {
		err = corrupt(key, "bad retention")
	}
	return r, err
}

// Mutable fails with fsapi.Immutable where an inode is under retention.
func (tx *Tx) Mutable(in *Inode) error {
	r, err := tx.Retention(in)
	if err != nil || !r.Active(tx.s.RetentionNow()) {
		return err
	}
	return errRetained(in.Ino, r)
}

func errRetained(ino fsapi.Ino, r policy.Retained) error {
	if r.Hold {
		return fsapi.Errorf(fsapi.Immutable, "inode %d is under legal hold", ino)
	}
	return fsapi.Errorf(fsapi.Immutable, "inode %d is under %s retention until %s", ino, r.Mode, r.Until.Format(time.RFC3339))
}

// SetRetention sets what holds a file, stamps it and stores it. What is in
// force only grows: fsapi.Immutable where r would end it sooner, or under a
// weaker mode; with override, governance may be ended all the same. A legal hold
// may be set and released: who may is the caller's to say.
func (tx *Tx) SetRetention(in *Inode, r policy.Retained, override bool) error {
	switch err := tx.writable(); {
	case err != nil:
		return err
	case in.Type != fsapi.TypeRegular || in.Nlink == 0:
		return fsapi.Errorf(fsapi.Invalid, "inode %d is no regular file with a name: it cannot be under retention", in.Ino)
	}
	old, err := tx.Retention(in)
	if err != nil {
		return err
	}
	if err := tx.s.mayRetain(in.Ino, old, r, override); err != nil {
		return err
	}
	if in.Flags&HasRetention != 0 {
		tx.w.Delete(retentionKey(tx.vol, old, in.Ino))
	}
	key := xattrKey(nil, tx.vol, in.Ino, RetentionXattr)
	if r == (policy.Retained{}) {
		if in.Flags&HasRetention == 0 {
			return nil
		}
		tx.w.Delete(key)
		in.Flags &^= HasRetention
		if err := tx.recountXattrs(in); err != nil {
			return err
		}
	} else {
		tx.w.Put(key, []byte(r.String()))
		tx.w.Put(retentionKey(tx.vol, r, in.Ino), nil)
		in.Flags |= HasRetention | HasXattr
	}
	tx.w.Put(namedKey(tabSetting, retentionClock), putUint(nil, uint64(tx.s.RetentionNow().UnixNano())))
	tx.changed(in)
	tx.store(in)
	return nil
}

// mayRetain checks a change of retention.
func (s *Store) mayRetain(ino fsapi.Ino, old, r policy.Retained, override bool) error {
	if !old.Timed(s.RetentionNow()) {
		return nil
	}
	longer := !r.Until.Before(old.Until)
	switch {
	case old.Mode == policy.Compliance && (r.Mode != policy.Compliance || !longer):
		return errRetained(ino, policy.Retained{Mode: old.Mode, Until: old.Until})
	case old.Mode == policy.Governance && !override && (r.Mode == "" || !longer):
		return errRetained(ino, policy.Retained{Mode: old.Mode, Until: old.Until})
	}
	return nil
}

// retentionKey lists an inode under retention by when that ends; under a legal
// hold, last of all.
func retentionKey(vol fsapi.VolumeID, r policy.Retained, ino fsapi.Ino) []byte {
	until := uint64(0)
	if r.Mode != "" {
		until = uint64(max(r.Until.UnixNano(), 0))
	}
	if r.Hold {
		until = math.MaxUint64
	}
	return be64(be64(volKey(nil, tabRetention, vol), until), uint64(ino))
}

const retentionKeyLen = volKeyLen + 16

// forgetRetention takes an inode that goes off the list.
func (tx *Tx) forgetRetention(in *Inode) error {
	if in.Flags&HasRetention == 0 {
		return nil
	}
	r, err := tx.Retention(in)
	if err == nil {
		tx.w.Delete(retentionKey(tx.vol, r, in.Ino))
	}
	return err
}

// recountXattrs takes HasXattr off an inode that has none left.
func (tx *Tx) recountXattrs(in *Inode) error {
	left := false
	err := tx.scan(inoKey(nil, tabXattr, tx.vol, in.Ino), func(_, _ []byte) (bool, error) {
		left = true
		return false, nil
	})
	if err == nil && !left {
		in.Flags &^= HasXattr
	}
	return err
}

// retained reports whether anything of a volume is under retention.
func (s *Store) retained(r kv.Reader, vol fsapi.VolumeID) (found fsapi.Ino, err error) {
	from := be64(volKey(nil, tabRetention, vol), uint64(s.RetentionNow().UnixNano())+1)
	err = r.Scan(from, after(nil, from[:volKeyLen]), func(k, _ []byte) (bool, error) {
		if len(k) != retentionKeyLen {
			return false, corrupt(k, "bad key")
		}
		found = fsapi.Ino(keyU64(k, volKeyLen+8))
		return false, nil
	})
	return found, err
}

// Commit is a file that is to come under retention when its policy says so.
type Commit struct {
	Ino fsapi.Ino
	Due time.Time // by the retention clock
}

// AddCommit lists a file to be looked at when it is due.
func (tx *Tx) AddCommit(c Commit) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Put(commitKey(tx.vol, c), nil)
	return nil
}

// DropCommit takes a file off the list.
func (tx *Tx) DropCommit(c Commit) error {
	if err := tx.writable(); err != nil {
		return err
	}
	tx.w.Delete(commitKey(tx.vol, c))
	return nil
}

func commitKey(vol fsapi.VolumeID, c Commit) []byte {
	return be64(be64(volKey(nil, tabCommit, vol), uint64(max(c.Due.UnixNano(), 0))), uint64(c.Ino))
}

// Commits lists up to limit files that are due by a time, the earliest first.
func (tx *Tx) Commits(by time.Time, limit int) ([]Commit, error) {
	if limit <= 0 {
		return nil, nil
	}
	var list []Commit
	from := volKey(nil, tabCommit, tx.vol)
	to := be64(volKey(nil, tabCommit, tx.vol), uint64(max(by.UnixNano(), 0))+1)
	err := tx.r.Scan(from, to, func(k, _ []byte) (bool, error) {
		if len(k) != retentionKeyLen {
			return false, corrupt(k, "bad key")
		}
		list = append(list, Commit{Due: timeOf(int64(keyU64(k, volKeyLen))), Ino: fsapi.Ino(keyU64(k, volKeyLen+8))})
		return len(list) < limit, nil
	})
	return list, err
}

// retentionClock is the setting that keeps the retention clock over restarts.
const retentionClock = "retention-clock"

// retentionTime is a clock by which retention ends. It goes on with the
// machine's monotonic time from what was kept of it, or from the machine's
// clock where that is ahead at the start: setting the machine's clock back makes
// nothing end sooner, nor does setting it forward while the store is open.
type retentionTime struct {
	base  time.Time // at start
	start time.Time // with its monotonic reading
}

// RetentionNow is the time by which retention is judged. It never goes back.
func (s *Store) RetentionNow() time.Time {
	n := s.worm.base.Add(s.clock.Now().Sub(s.worm.start)).UnixNano()
	for {
		last := s.wormLast.Load()
		if n <= last {
			return timeOf(last)
		}
		if s.wormLast.CompareAndSwap(last, n) {
			return timeOf(n)
		}
	}
}

// openRetention starts the clock.
func (s *Store) openRetention(r kv.Reader) error {
	s.worm.start = s.clock.Now()
	s.worm.base = s.worm.start
	key := namedKey(tabSetting, retentionClock)
	v, ok, err := r.Get(key)
	if err != nil || !ok {
		return err
	}
	d := dec{b: v}
	n := d.uint()
	if !d.done() || n > math.MaxInt64 {
		return corrupt(key, "bad time")
	}
	if kept := timeOf(int64(n)); kept.After(s.worm.base) {
		s.worm.base = kept
	}
	return nil
}

// KeepRetentionClock writes the retention clock down, where anything is under
// retention, for the next start. It is to be called now and then.
func (s *Store) KeepRetentionClock(ctx context.Context) error {
	return s.update(ctx, kv.UpdateOptions{}, func(w kv.Tx) error {
		any := false
		err := w.PeekScan([]byte{tabRetention}, []byte{tabRetention + 1}, func(_, _ []byte) (bool, error) {
			any = true
			return false, nil
		})
		if err == nil && any {
			w.Put(namedKey(tabSetting, retentionClock), putUint(nil, uint64(s.RetentionNow().UnixNano())))
		}
		return err
	})
}
