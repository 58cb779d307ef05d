package keyring

import (
	"bytes"
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
// right: fsapi.Unauthorized otherwise. Until it returns, and after an error of
// the file system, one of the two passwords opens the file, never neither.
func (k *Keyring) ChangePassword(old, password []byte, p Params) error {
	k.change.Lock()
	defer k.change.Unlock()
	h, err := parseHeader(k.file)
	if err != nil {
		return err
	}
	was, err := h.unlock(old)
	if err != nil {
		return err
	}
	was.wipe()
	l, err := newLock(password, p)
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
