package keyring

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

func create(t testing.TB, fsys osfs.FS) *Keyring {
	t.Helper()
	k, err := Create(fsys, "keyring", right, cheap)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keys is all that a keyring holds, to be compared.
func keys(t testing.TB, k *Keyring) map[string][]byte {
	t.Helper()
	all := map[string][]byte{"store": bytes.Clone(k.StoreKey())}
	for _, v := range k.Volumes() {
		id, err := k.IDKey(v.ID)
		if err != nil {
			t.Fatal(err)
		}
		name := string(rune('a' + v.ID))
		all[name] = bytes.Clone(id)
		for _, ver := range v.Versions {
			key, err := k.DataKey(v.ID, ver.Number)
			if err != nil {
				t.Fatal(err)
			}
			all[name+string(rune('0'+ver.Number))] = bytes.Clone(key)
		}
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	k := create(t, m)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	must(t, k.AddVolume(2, fsapi.CipherXChaCha20))
	must(t, k.AddVolume(3, fsapi.CipherNone))
	if v, err := k.NewVersion(1); v != 2 || err != nil {
		t.Fatalf("new version %d, %v", v, err)
	}
	again, err := Open(m, "keyring", right)
	must(t, err)
	if diff := cmp.Diff(k.Volumes(), again.Volumes()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(keys(t, k), keys(t, again)); diff != "" {
		t.Error(diff)
	}
	if k.Generation() != again.Generation() {
		t.Errorf("generations %d and %d", k.Generation(), again.Generation())
	}
	seen := map[string]bool{}
	for name, key := range keys(t, again) {
		if key == nil { // the id key of the volume that is not encrypted
			continue
		}
		if len(key) != keyLen || seen[string(key)] || bytes.Equal(key, make([]byte, keyLen)) {
			t.Errorf("key %s is %x", name, key)
		}
		seen[string(key)] = true
	}
	if len(seen) != 1+2+3 {
		t.Errorf("%d keys", len(seen))
	}
}

func TestErrors(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	k := create(t, m)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	must(t, k.AddVolume(2, fsapi.CipherNone))
	_, err := k.NewVersion(1)
	must(t, err)
	fails := func(what string, err error, kind fsapi.Kind) {
		t.Helper()
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
	}
	_, err = Create(m, "keyring", right, cheap)
	fails("create over another", err, fsapi.Exist)
	_, err = Open(m, "other", right)
	fails("open nothing", err, fsapi.NotExist)
	_, err = Open(m, "keyring", []byte("wrong"))
	fails("wrong password", err, fsapi.Unauthorized)
	fails("volume 0", k.AddVolume(0, fsapi.CipherNone), fsapi.Invalid)
	fails("unknown cipher", k.AddVolume(7, 9), fsapi.Invalid)
	fails("volume twice", k.AddVolume(1, fsapi.CipherNone), fsapi.Exist)
	fails("remove nothing", k.RemoveVolume(7), fsapi.NotExist)
	_, err = k.NewVersion(7)
	fails("rotate nothing", err, fsapi.NotExist)
	_, err = k.NewVersion(2)
	fails("rotate an unencrypted volume", err, fsapi.Invalid)
	fails("drop the current key", k.DropVersion(1, 2), fsapi.Busy)
	fails("drop no key", k.DropVersion(1, 3), fsapi.NotExist)
	_, err = k.DataKey(1, 3)
	fails("no such version", err, fsapi.NotExist)
	_, err = k.DataKey(2, 0)
	fails("key of an unencrypted volume", err, fsapi.NotExist)
	_, err = k.IDKey(7)
	fails("no such volume", err, fsapi.NotExist)
	_, _, err = k.Current(7)
	fails("no such volume", err, fsapi.NotExist)

	must(t, k.DropVersion(1, 1))
	must(t, k.RemoveVolume(2))
	if got := k.Volumes(); len(got) != 1 || len(got[0].Versions) != 1 || got[0].Versions[0].Number != 2 {
		t.Errorf("left: %+v", got)
	}
}

func TestChangePassword(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	k := create(t, m)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	before := keys(t, k)
	old := k.Bytes()
	if err := k.ChangePassword([]byte("wrong"), []byte("new"), cheap); !errors.Is(err, fsapi.Unauthorized) {
		t.Fatalf("wrong old password: %v", err)
	}
	must(t, k.ChangePassword(right, []byte("new"), cheap))
	if _, err := Open(m, "keyring", right); !errors.Is(err, fsapi.Unauthorized) {
		t.Errorf("the old password: %v", err)
	}
	again, err := Open(m, "keyring", []byte("new"))
	must(t, err)
	if diff := cmp.Diff(before, keys(t, again)); diff != "" {
		t.Errorf("changing the password changed keys:\n%s", diff)
	}
	// An old copy and the old password do not open what came after.
	h, err := parseHeader(old)
	must(t, err)
	l, err := h.unlock(t.Context(), []KEK{Password(right, Params{})})
	must(t, err)
	if h, err = parseHeader(k.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.open(l); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("the old master key opens the new file: %v", err)
	}
	must(t, k.AddVolume(2, fsapi.CipherNone)) // under the new lock
	_, err = Open(m, "keyring", []byte("new"))
	must(t, err)
}

func TestBind(t *testing.T) {
	k := create(t, osfs.NewMem(osfs.MemOptions{}))
	must(t, k.AddVolume(4, fsapi.CipherXChaCha20))
	copied, err := Parse(k.Bytes(), right)
	must(t, err)
	m := osfs.NewMem(osfs.MemOptions{})
	must(t, copied.Bind(m, "keyring"))
	must(t, copied.AddVolume(5, fsapi.CipherNone))
	again, err := Open(m, "keyring", right)
	must(t, err)
	if diff := cmp.Diff(keys(t, copied), keys(t, again)); diff != "" || len(again.Volumes()) != 2 {
		t.Errorf("%d volumes\n%s", len(again.Volumes()), diff)
	}
}

func TestClose(t *testing.T) {
	k := create(t, osfs.NewMem(osfs.MemOptions{}))
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	data, err := k.DataKey(1, 1)
	must(t, err)
	store := k.StoreKey()
	must(t, k.Close())
	if zero := make([]byte, keyLen); !bytes.Equal(data, zero) || !bytes.Equal(store, zero) || !bytes.Equal(k.lock.master, zero) {
		t.Error("keys are left in memory")
	}
}

// Readers see whole generations while the keys change below them.
func TestConcurrent(t *testing.T) {
	k := create(t, osfs.NewMem(osfs.MemOptions{}))
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				v, c, err := k.Current(1)
				if err != nil || c != fsapi.CipherAES256GCM {
					t.Errorf("current: %d, %v, %v", v, c, err)
					return
				}
				if key, err := k.DataKey(1, v); err != nil || len(key) != keyLen {
					t.Errorf("version %d: %v", v, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		_, err := k.NewVersion(1)
		must(t, err)
		must(t, k.AddVolume(fsapi.VolumeID(10+i), fsapi.CipherNone))
	}
	close(done)
	wg.Wait()
}

func TestPasswordFiles(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	p, made, err := EnsurePasswordFile(m, "password")
	if err != nil || !made {
		t.Fatalf("%v, %v", made, err)
	}
	info, err := m.Stat("password")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// It is durable before it is used.
	c := m.CrashClone(rand.New(rand.NewPCG(1, 2)), osfs.CrashLose)
	q, made, err := EnsurePasswordFile(c, "password")
	if err != nil || made || !bytes.Equal(p, q) {
		t.Errorf("second time %q, %v, %v; first %q", q, made, err, p)
	}
	for text, want := range map[string]string{"secret\n": "secret", "secret\r\n": "secret", "two\nlines\n\n": "two\nlines\n", " spaced ": " spaced "} {
		must(t, replace(m, "p", []byte(text)))
		if got, err := PasswordFrom(Sources{FS: m, File: "p"}); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "\n", string(make([]byte, maxPassword+1))} {
		must(t, replace(m, "p", []byte(text)))
		if _, err := PasswordFrom(Sources{FS: m, File: "p"}); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	if _, err := PasswordFrom(Sources{FS: m, File: "nowhere"}); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A refused change leaves no second password behind; the machine's file system
// is where a password file is by default.
func TestChangePasswordFileRefused(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	k := create(t, m)
	must(t, replace(m, "password", right))
	if err := k.ChangePasswordFile(m, "password", []byte("wrong"), []byte("new"), cheap); !errors.Is(err, fsapi.Unauthorized) {
		t.Errorf("wrong old password: %v", err)
	}
	if err := k.ChangePasswordFile(m, "password", right, nil, cheap); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("empty new password: %v", err)
	}
	if _, err := m.Stat("password" + nextSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	name := t.TempDir() + "/password"
	must(t, replace(osfs.OS{}, name, []byte("here\n")))
	if got, err := PasswordFrom(Sources{File: name}); err != nil || string(got) != "here" {
		t.Errorf("%q, %v", got, err)
	}
}

// hookFS calls before ahead of every call that changes something.
type hookFS struct {
	*osfs.Mem
	before func() error
}

type hookFile struct {
	osfs.File
	before func() error
}

func (h hookFS) OpenFile(name string, flag int, perm fs.FileMode) (osfs.File, error) {
	if err := h.before(); err != nil {
		return nil, err
	}
	f, err := h.Mem.OpenFile(name, flag, perm)
	return hookFile{f, h.before}, err
}

func (h hookFS) Rename(from, to string) error {
	if err := h.before(); err != nil {
		return err
	}
	return h.Mem.Rename(from, to)
}

func (h hookFS) Remove(name string) error {
	if err := h.before(); err != nil {
		return err
	}
	return h.Mem.Remove(name)
}

func (h hookFS) SyncDir(name string) error {
	if err := h.before(); err != nil {
		return err
	}
	return h.Mem.SyncDir(name)
}

func (h hookFile) Write(p []byte) (int, error) {
	if err := h.before(); err != nil {
		return 0, err
	}
	return h.File.Write(p)
}

func (h hookFile) Sync() error {
	if err := h.before(); err != nil {
		return err
	}
	return h.File.Sync()
}

// history changes a keyring in every way there is, and calls durable with the
// number of the step that has just returned.
func history(t *testing.T, k *Keyring, fsys osfs.FS, durable func(step int)) {
	pw, next := GeneratePassword(), GeneratePassword()
	must(t, replace(fsys, "password", pw))
	must(t, k.ChangePassword(right, pw, cheap))
	durable(0)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	durable(1)
	must(t, k.AddVolume(2, fsapi.CipherXChaCha20))
	durable(2)
	_, err := k.NewVersion(1)
	must(t, err)
	durable(3)
	must(t, k.ChangePasswordFile(fsys, "password", pw, next, cheap))
	durable(4)
	must(t, k.RemoveVolume(2))
	durable(5)
}

// At whatever instant the power goes, the keyring opens with the password in
// its file and holds every key that a finished change gave out.
func TestCrash(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		m := osfs.NewMem(osfs.MemOptions{})
		type point struct {
			fs   *osfs.Mem
			step int // finished
			keys map[string][]byte
		}
		var points []point
		step, last := -1, map[string][]byte(nil)
		fsys := hookFS{m, func() error {
			points = append(points, point{m.CrashClone(r, osfs.AnyCrash(r)), step, last})
			return nil
		}}
		k, err := Create(fsys, "keyring", right, cheap)
		must(t, err)
		history(t, k, fsys, func(s int) { step, last = s, keys(t, k) })
		if len(points) < 30 {
			t.Fatalf("only %d crash points", len(points))
		}
		for i, p := range points {
			if p.step < 0 {
				continue
			}
			again, err := OpenWithFile(p.fs, "keyring", "password")
			if err != nil {
				t.Fatalf("seed %d, point %d, after step %d: %v", seed, i, p.step, err)
			}
			got := keys(t, again)
			for name, key := range p.keys {
				if !bytes.Equal(got[name], key) && (p.step != 4 || name[0] != 'c') { // step 5 removes volume 2
					t.Fatalf("seed %d, point %d, after step %d: key %s is lost or altered", seed, i, p.step, name)
				}
			}
			if _, err := OpenWithFile(p.fs, "keyring", "password"); err != nil {
				t.Fatalf("seed %d, point %d: opened once but not twice: %v", seed, i, err)
			}
		}
	}
}

// A failing disk fails the change, never the keyring.
func TestFaults(t *testing.T) {
	for n := 1; ; n++ {
		m := osfs.NewMem(osfs.MemOptions{})
		k := create(t, m)
		must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
		calls := 0
		k.fs = hookFS{m, func() error {
			if calls++; calls == n {
				return syscall.ENOSPC
			}
			return nil
		}}
		err := k.AddVolume(2, fsapi.CipherAES256GCM)
		if calls < n {
			break // the change makes no more calls
		}
		if !errors.Is(err, fsapi.NoSpace) {
			t.Fatalf("call %d: %v, want NoSpace", n, err)
		}
		if len(k.Volumes()) != 1 {
			t.Fatalf("call %d: a failed change shows", n)
		}
		again, err := Open(m, "keyring", right)
		if err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
		must(t, again.Close())
		must(t, k.AddVolume(3, fsapi.CipherAES256GCM))
		again, err = Open(m, "keyring", right)
		must(t, err)
		if diff := cmp.Diff(keys(t, k), keys(t, again)); diff != "" {
			t.Fatalf("call %d: %s", n, diff)
		}
	}
}

func TestVersionTimes(t *testing.T) {
	k := create(t, osfs.NewMem(osfs.MemOptions{}))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	k.now = func() time.Time { return at }
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	again, err := Parse(k.Bytes(), right)
	must(t, err)
	if got := again.Volumes()[0].Versions[0].Created; !got.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("created %v", got)
	}
}

func BenchmarkDataKey(b *testing.B) {
	k := create(b, osfs.NewMem(osfs.MemOptions{}))
	must(b, k.AddVolume(1, fsapi.CipherAES256GCM))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.DataKey(1, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAdopt has a keyring take over what another process wrote.
func TestAdopt(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	k := create(t, m)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	follower, err := Open(m, "keyring", right)
	must(t, err)
	old, err := follower.DataKey(1, 1)
	must(t, err)
	was := bytes.Clone(old)
	_, err = k.NewVersion(1)
	must(t, err)
	must(t, k.AddVolume(2, fsapi.CipherXChaCha20))
	next, err := Open(m, "keyring", right)
	must(t, err)
	follower.Adopt(next)
	if diff := cmp.Diff(keys(t, k), keys(t, follower)); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(old, was) {
		t.Error("a key that was given before has changed")
	}
	if k.Generation() != follower.Generation() || !bytes.Equal(k.Bytes(), follower.Bytes()) {
		t.Errorf("generations %d and %d", k.Generation(), follower.Generation())
	}
}
