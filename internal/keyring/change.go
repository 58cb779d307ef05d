package keyring

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

const errNoSpace = syscall.ENOSPC

// Every change below is durable in the keyring's file when it returns nil.
// When it returns an error of the file system, the keyring goes on as before
// but the file may hold the old or the new state, whole in either case.

// AddVolume draws keys for a new volume. fsapi.Exist where it has keys.
func (k *Keyring) AddVolume(id fsapi.VolumeID, cipher fsapi.Cipher) error {
	if id == 0 || cipher > fsapi.CipherXChaCha20 {
		return fsapi.Errorf(fsapi.Invalid, "keyring: volume %d with cipher %d is not possible", id, cipher)
	}
	return k.update(func(volumes map[fsapi.VolumeID]*volume) error {
		if volumes[id] != nil {
			return fsapi.Errorf(fsapi.Exist, "keyring: volume %d has keys already", id)
		}
		v := &volume{cipher: cipher}
		if cipher != fsapi.CipherNone {
			v.id = random(keyLen)
			v.data = []dataKey{k.draw(1)}
		}
		volumes[id] = v
		return nil
	})
}

// RemoveVolume forgets a volume's keys: what is left of its data anywhere can
// never be read again, except with an older copy of the keyring. The keys in
// memory are wiped by Close, not here: a reader may still hold them.
func (k *Keyring) RemoveVolume(id fsapi.VolumeID) error {
	return k.update(func(volumes map[fsapi.VolumeID]*volume) error {
		if volumes[id] == nil {
			return fsapi.Errorf(fsapi.NotExist, "keyring: volume %d has no keys", id)
		}
		delete(volumes, id)
		return nil
	})
}

// NewVersion draws a data key for a volume and makes it the current one; the
// older ones stay, to read what they sealed. fsapi.Invalid where the volume is
// not encrypted.
func (k *Keyring) NewVersion(id fsapi.VolumeID) (fsapi.KeyVersion, error) {
	var next fsapi.KeyVersion
	err := k.updateVolume(id, func(v *volume) error {
		last := v.data[len(v.data)-1].version
		if last == math.MaxUint32 {
			return fsapi.Errorf(fsapi.Range, "keyring: volume %d has used up its key versions", id)
		}
		next = last + 1
		v.data = append(slices.Clip(v.data), k.draw(next))
		return nil
	})
	return next, err
}

// DropVersion forgets a data key that nothing is sealed with any more, which
// the caller has made sure of. fsapi.Busy for the current version.
func (k *Keyring) DropVersion(id fsapi.VolumeID, ver fsapi.KeyVersion) error {
	return k.updateVolume(id, func(v *volume) error {
		i := slices.IndexFunc(v.data, func(d dataKey) bool { return d.version == ver })
		switch {
		case i < 0:
			return fsapi.Errorf(fsapi.NotExist, "keyring: volume %d has no data key of version %d", id, ver)
		case i == len(v.data)-1:
			return fsapi.Errorf(fsapi.Busy, "keyring: version %d is the current data key of volume %d: rotate the key first", ver, id)
		}
		v.data = slices.Delete(slices.Clone(v.data), i, i+1)
		return nil
	})
}

// ChangePassword wraps the keys under another password. The old one must be
// right: fsapi.Unauthorized otherwise; fsapi.NotExist where no password wraps
// the keys. Until it returns, and after an error of the file system, one of the
// two passwords opens the file, never neither.
func (k *Keyring) ChangePassword(old, password []byte, p Params) error {
	return k.rewrap(func(wraps []*wrapping) ([]*wrapping, error) {
		i := find(wraps, KindPassword.String())
		if i < 0 {
			return nil, fsapi.Errorf(fsapi.NotExist, "keyring: no password wraps it: add one with `strake key wrap password`")
		}
		ctx := context.Background() // a password needs no I/O
		was, err := wraps[i].open(ctx, Password(old, Params{}))
		if err != nil {
			return nil, err
		}
		clear(was)
		return k.with(ctx, wraps, Password(password, p))
	})
}

// Wrap lets another key open the keyring: besides those that do, or in place
// of the wrapping of its name. It is seen to open before the file changes.
// Errors of the key; none of the others is needed.
func (k *Keyring) Wrap(ctx context.Context, kek KEK) error {
	return k.rewrap(func(wraps []*wrapping) ([]*wrapping, error) { return k.with(ctx, wraps, kek) })
}

// with is wraps with one added or replaced.
func (k *Keyring) with(ctx context.Context, wraps []*wrapping, kek KEK) ([]*wrapping, error) {
	w, err := newWrapping(ctx, kek, k.now())
	if err != nil {
		return nil, err
	}
	if i := find(wraps, w.name); i >= 0 {
		wraps[i] = w
		return wraps, nil
	}
	return append(wraps, w), nil
}

// Unwrap takes the wrapping of a name away. One that stays must open with one
// of keks, now: fsapi.Busy otherwise, and for the last. fsapi.NotExist.
func (k *Keyring) Unwrap(ctx context.Context, name string, keks ...KEK) error {
	return k.rewrap(func(wraps []*wrapping) ([]*wrapping, error) {
		i := find(wraps, name)
		if i < 0 {
			return nil, fsapi.Errorf(fsapi.NotExist, "keyring: no wrapping is named %q: `strake key list` shows them", name)
		}
		wraps = slices.Delete(wraps, i, i+1)
		if len(wraps) == 0 {
			return nil, fsapi.Errorf(fsapi.Busy, "keyring: %s is the only wrapping: nothing would open the keyring any more; add another first", name)
		}
		h := &header{wraps: wraps}
		l, err := h.unlock(ctx, keks)
		if err != nil {
			return nil, fsapi.Errorf(fsapi.Busy, "%s is kept, as no other wrapping was seen to open: %w", name, err)
		}
		l.wipe()
		return wraps, nil
	})
}

// rewrap lets fn change a copy of the wrappings and seals a new master key to
// them, so that the key of a wrapping that went opens nothing that is written
// later.
func (k *Keyring) rewrap(fn func([]*wrapping) ([]*wrapping, error)) error {
	k.change.Lock()
	defer k.change.Unlock()
	wraps, err := fn(slices.Clone(k.lock.wraps))
	if err != nil {
		return err
	}
	l, err := newLock(wraps)
	if err != nil {
		return err
	}
	next := *k.state.Load()
	if err := k.commit(&next, l); err != nil {
		l.wipe()
		return err
	}
	return nil
}

func (k *Keyring) draw(v fsapi.KeyVersion) dataKey {
	created := k.now().Truncate(time.Millisecond) // as it comes back from the file
	return dataKey{version: v, created: created, key: random(keyLen)}
}

// update lets fn change a copy of the volumes and commits it.
func (k *Keyring) update(fn func(map[fsapi.VolumeID]*volume) error) error {
	k.change.Lock()
	defer k.change.Unlock()
	next := *k.state.Load()
	next.volumes = maps.Clone(next.volumes)
	if err := fn(next.volumes); err != nil {
		return err
	}
	return k.commit(&next, k.lock)
}

// updateVolume lets fn change a copy of one encrypted volume and commits it.
func (k *Keyring) updateVolume(id fsapi.VolumeID, fn func(*volume) error) error {
	return k.update(func(volumes map[fsapi.VolumeID]*volume) error {
		v := volumes[id]
		switch {
		case v == nil:
			return fsapi.Errorf(fsapi.NotExist, "keyring: volume %d has no keys", id)
		case v.cipher == fsapi.CipherNone:
			return fsapi.Errorf(fsapi.Invalid, "keyring: volume %d is not encrypted: it has no data keys", id)
		}
		next := *v
		volumes[id] = &next
		return fn(&next)
	})
}

// commit writes a state as the next generation, wrapped by l, and then shows
// it to readers. REQUIRES change, except in Create.
func (k *Keyring) commit(next *state, l *lock) error {
	if k.fs == nil {
		return fsapi.Errorf(fsapi.ReadOnly, "keyring: it was opened from a copy: bind it to a file before changing it")
	}
	k.last++
	next.generation = k.last
	file, err := l.seal(next)
	if err != nil {
		return err
	}
	if err := replace(k.fs, k.path, file); err != nil {
		return wrapIO(err, "write keyring "+k.path)
	}
	if k.lock != l {
		k.lock.wipe()
	}
	k.lock, k.file = l, bytes.Clone(file)
	k.state.Store(next)
	return nil
}
