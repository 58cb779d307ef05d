package meta

import (
	"bytes"
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Settings are small records of other layers: tokens, clocks, marks of
// progress. Their names and bytes are their owners'.

// PutSetting sets a record of at most 64 KiB and returns when it is durable.
func (s *Store) PutSetting(ctx context.Context, name string, value []byte) error {
	if name == "" || len(name) > fsapi.MaxName || len(value) > 64<<10 {
		return fsapi.Errorf(fsapi.Invalid, "setting %q of %d bytes: want a name of 1 to %d bytes and at most 65536 bytes", name, len(value), fsapi.MaxName)
	}
	return s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		w.Put(namedKey(tabSetting, name), value)
		return nil
	})
}

// Setting is the value of a record: fsapi.NotExist. The caller owns it.
func (s *Store) Setting(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.e.View(ctx, func(r kv.Reader) error {
		v, ok, err := r.Get(namedKey(tabSetting, name))
		if err == nil && !ok {
			err = fsapi.Errorf(fsapi.NotExist, "there is no setting %q", name)
		}
		value = append([]byte{}, v...)
		return err
	})
	return value, err
}

// DeleteSetting removes a record, there or not, and returns when that is
// durable.
func (s *Store) DeleteSetting(ctx context.Context, name string) error {
	return s.update(ctx, kv.UpdateOptions{Sync: true}, func(w kv.Tx) error {
		w.Delete(namedKey(tabSetting, name))
		return nil
	})
}

// Settings calls fn for the records whose names start with prefix, by name,
// until fn returns false. value belongs to fn.
func (s *Store) Settings(ctx context.Context, prefix string, fn func(name string, value []byte) bool) error {
	return s.e.View(ctx, func(r kv.Reader) error {
		from := namedKey(tabSetting, prefix)
		return r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
			return fn(string(k[1:]), bytes.Clone(v)), nil
		})
	})
}
