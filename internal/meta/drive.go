package meta

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// DriveRecord is what the metadata knows of a drive. What the words mean is
// for those who use them.
type DriveRecord struct {
	ID      fsapi.DriveID
	Name    string
	Kind    string // "dir", ...
	Where   string // a directory, or the address of a bucket
	Tier    string
	Domain  string // failure domain
	State   string // what an administrator wants: "online", "readonly", "draining", "retired"
	Reserve int64  // bytes kept free
	DriveLimits
}

// DriveLimits bound how a drive is used. 0 is no bound, or the default.
type DriveLimits struct {
	Quota    int64         // bytes that may be used
	Rate     int64         // bytes per second
	Calls    int           // calls at a time
	Deadline time.Duration // of one call
	Spindown bool          // it sleeps while nothing is asked of it
	Cache    int64         // bytes of it that are kept on a local disk
}

const driveForm = 2

// Bits of a drive.
const (
	driveSpindown = 1 << iota
	driveAll      = 1<<iota - 1
)

func appendDrive(b []byte, d *DriveRecord) []byte {
	b = append(b, driveForm)
	for _, s := range []string{d.Name, d.Kind, d.Where, d.Tier, d.Domain, d.State} {
		b = putStr(b, s)
	}
	b = putInt(b, d.Reserve)
	var bits uint64
	if d.Spindown {
		bits |= driveSpindown
	}
	for _, n := range []uint64{uint64(d.Quota), uint64(d.Rate), uint64(d.Calls), uint64(d.Deadline), uint64(d.Cache), bits} {
		b = putUint(b, n)
	}
	return b
}

func decodeDrive(key, v []byte) (DriveRecord, error) {
	var r DriveRecord
	if len(key) != 9 {
		return r, corrupt(key, "bad key")
	}
	r.ID = fsapi.DriveID(keyU64(key, 1))
	d := dec{b: v}
	if d.byte() != driveForm {
		return r, corrupt(key, "unknown form")
	}
	for _, s := range []*string{&r.Name, &r.Kind, &r.Where, &r.Tier, &r.Domain, &r.State} {
		*s = d.str()
	}
	r.Reserve = d.int()
	r.Quota, r.Rate = d.size(), d.size()
	r.Calls, r.Deadline = int(d.u32()), time.Duration(d.size())
	r.Cache = d.size()
	bits := d.uint()
	r.Spindown = bits&driveSpindown != 0
	if bits&^driveAll != 0 {
		d.fail()
	}
	if !d.done() {
		return r, corrupt(key, "bad drive")
	}
	return r, nil
}

func driveKey(id fsapi.DriveID) []byte { return be64([]byte{tabDrive}, uint64(id)) }

// Drives lists the drives by id.
func (s *Store) Drives(ctx context.Context) ([]DriveRecord, error) {
	var list []DriveRecord
	err := s.e.View(ctx, func(r kv.Reader) error {
		list = nil
		return r.Scan([]byte{tabDrive}, []byte{tabDrive + 1}, func(k, v []byte) (bool, error) {
			d, err := decodeDrive(k, v)
			list = append(list, d)
			return true, err
		})
	})
	return list, err
}

// PutDrive adds or changes a drive: fsapi.Exist where another has the name.
// It returns when that is durable.
func (s *Store) PutDrive(ctx context.Context, d DriveRecord) error {
	if d.ID == 0 || d.Name == "" {
		return fsapi.Errorf(fsapi.Invalid, "a drive needs an id and a name")
	}
	return s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		err := w.Scan([]byte{tabDrive}, []byte{tabDrive + 1}, func(k, v []byte) (bool, error) {
			o, err := decodeDrive(k, v)
			if err == nil && o.Name == d.Name && o.ID != d.ID {
				err = fsapi.Errorf(fsapi.Exist, "there is a drive %q already", d.Name)
			}
			return true, err
		})
		if err != nil {
			return err
		}
		w.Put(driveKey(d.ID), appendDrive(nil, &d))
		return nil
	})
}

// DeleteDrive forgets a drive: fsapi.NotExist; Busy where a segment has a copy
// there (found by a scan of all segments).
func (s *Store) DeleteDrive(ctx context.Context, id fsapi.DriveID) error {
	return s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		_, ok, err := w.Get(driveKey(id))
		if err != nil {
			return err
		}
		if !ok {
			return fsapi.Errorf(fsapi.NotExist, "there is no drive %s", id)
		}
		err = w.Scan([]byte{tabSegment}, []byte{tabSegment + 1}, func(k, v []byte) (bool, error) {
			seg, err := decodeSegment(k, v)
			if err != nil {
				return false, err
			}
			for _, c := range seg.Copies {
				for _, d := range c.Drives {
					if d == id && id != 0 {
						return false, fsapi.Errorf(fsapi.Busy, "drive %s holds a copy of segment %s", id, seg.ID)
					}
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		w.Delete(driveKey(id))
		return nil
	})
}
