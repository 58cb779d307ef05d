package meta

import (
	"context"

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
	State   string // "up", "readonly", "leaving", ...
	Reserve int64  // bytes kept free
	// Spindown: it sleeps while nothing is asked of it.
	Spindown bool
	Cache    int64 // bytes of it that are cached on a local disk; 0: none
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
	var bits uint64
	if d.Spindown {
		bits |= driveSpindown
	}
	return putUint(putUint(putInt(b, d.Reserve), bits), uint64(d.Cache))
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
	bits := d.uint()
	r.Spindown = bits&driveSpindown != 0
	r.Cache = d.size()
	if !d.done() || bits&^driveAll != 0 {
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
