package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// vault is a service in memory.
type vault struct {
	name string
	key  []byte
	fail error // of each call
	lies bool  // unwraps something else
	n    int   // calls
}

func newVault(name string) *vault { return &vault{name: name, key: random(keyLen)} }

func (v *vault) Identity() Identity { return Identity{v.name, "test", "keys/" + v.name} }

func (v *vault) Wrap(_ context.Context, secret, bind []byte) ([]byte, error) {
	if v.n++; v.fail != nil {
		return nil, v.fail
	}
	return sealLocal(v.key, secret, bind, nil), nil
}

func (v *vault) Unwrap(_ context.Context, sealed, bind []byte) ([]byte, error) {
	if v.n++; v.fail != nil {
		return nil, v.fail
	}
	if v.lies {
		return random(keyLen), nil
	}
	b, ok := openLocal(v.key, sealed, bind, nil)
	if !ok {
		return nil, fsapi.Errorf(fsapi.Invalid, "not ours")
	}
	return b, nil
}

func names(list []Wrapping) (n []string) {
	for _, w := range list {
		n = append(n, w.Name)
	}
	return n
}

// Any one of several keys opens the keyring, and none is needed to change how
// the others open it.
func TestSeveralWrappings(t *testing.T) {
	m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
	k := create(t, m)
	must(t, k.AddVolume(1, fsapi.CipherAES256GCM))
	made, err := EnsureKeyFile(m, "key")
	if err != nil || !made {
		t.Fatal(made, err)
	}
	v := newVault("vault1")
	must(t, k.Wrap(ctx, KeyFile(m, "key")))
	must(t, k.Wrap(ctx, External(v)))
	want := keys(t, k)
	opens := func(what string, kek KEK) {
		t.Helper()
		again, err := OpenWith(ctx, m, "keyring", kek)
		must(t, err)
		if diff := cmp.Diff(want, keys(t, again)); diff != "" {
			t.Errorf("%s opens other keys:\n%s", what, diff)
		}
	}
	opens("password", Password(right, Params{}))
	opens("file", KeyFile(m, "key"))
	opens("kms", External(v))
	if diff := cmp.Diff([]string{"password", "file", "vault1"}, names(k.Wrappings())); diff != "" {
		t.Error(diff)
	}
	listed, err := Wrappings(k.Bytes())
	must(t, err)
	if diff := cmp.Diff(k.Wrappings(), listed); diff != "" {
		t.Errorf("a locked file lists other wrappings:\n%s", diff)
	}
	if w := listed[2]; w.Kind != KindKMS || w.Provider != "test" || w.Key != "keys/vault1" || len(w.ID) != 16 {
		t.Errorf("%+v", w)
	}

	// The service is away: all else can still be changed.
	v.fail = fsapi.Errorf(fsapi.IO, "away")
	asked := v.n
	must(t, k.ChangePassword(right, []byte("new"), cheap))
	must(t, k.AddVolume(2, fsapi.CipherNone))
	if v.n != asked {
		t.Error("the service was asked")
	}
	want = keys(t, k)
	opens("new password", Password([]byte("new"), Params{}))
	if _, err := OpenWith(ctx, m, "keyring", External(v)); !errors.Is(err, fsapi.IO) {
		t.Errorf("a service that is away: %v, want IO", err)
	}
	v.fail = nil
	opens("kms", External(v))
	if _, err := Open(m, "keyring", right); !errors.Is(err, fsapi.Unauthorized) {
		t.Errorf("the old password: %v", err)
	}
}

// What is taken away opens nothing that is written later, even with an older
// copy of the file.
func TestUnwrap(t *testing.T) {
	m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
	k := create(t, m)
	v := newVault("vault1")
	if err := k.Unwrap(ctx, "password", Password(right, Params{})); !errors.Is(err, fsapi.Busy) {
		t.Errorf("the last wrapping: %v, want Busy", err)
	}
	must(t, k.Wrap(ctx, External(v)))
	old := k.Bytes()
	v.fail = fsapi.Errorf(fsapi.IO, "away")
	for _, keks := range [][]KEK{nil, {External(v)}, {Password(right, Params{})}} {
		if err := k.Unwrap(ctx, "password", keks...); !errors.Is(err, fsapi.Busy) {
			t.Errorf("the other wrapping was not seen to open: %v, want Busy", err)
		}
	}
	v.fail = nil
	must(t, k.Unwrap(ctx, "password", External(v)))
	if err := k.Unwrap(ctx, "password", External(v)); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("taken away twice: %v", err)
	}
	must(t, k.AddVolume(7, fsapi.CipherAES256GCM))
	if _, err := Open(m, "keyring", right); !errors.Is(err, fsapi.Unauthorized) {
		t.Errorf("the password still opens it: %v", err)
	}
	h, err := parseHeader(old)
	must(t, err)
	l, err := h.unlock(ctx, []KEK{Password(right, Params{})})
	must(t, err)
	now, err := parseHeader(k.Bytes())
	must(t, err)
	if _, err := now.open(l); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("an old copy and the old password open the new file: %v", err)
	}
	if err := k.ChangePassword(right, []byte("x"), cheap); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("change of no password: %v", err)
	}
}

// Wrapping anew under one name replaces: as after a rotation in the service.
func TestWrapAgain(t *testing.T) {
	m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
	v := newVault("vault1")
	k, err := CreateWith(ctx, m, "keyring", External(v))
	must(t, err)
	before := k.Wrappings()[0]
	must(t, k.Wrap(ctx, External(v)))
	after := k.Wrappings()
	if len(after) != 1 || after[0].ID == before.ID {
		t.Errorf("%+v then %+v", before, after)
	}
	lying := newVault("liar")
	lying.lies = true
	if err := k.Wrap(ctx, External(lying)); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("a service that gives back something else: %v", err)
	}
	if len(k.Wrappings()) != 1 {
		t.Error("what does not open was added")
	}
	if err := k.Wrap(ctx, External(newVault("password"))); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("a service named as a password: %v", err)
	}
	for i := range maxWrappings {
		err = k.Wrap(ctx, External(newVault(string(rune('a'+i)))))
	}
	if !errors.Is(err, fsapi.TooBig) {
		t.Errorf("too many wrappings: %v", err)
	}
	_, err = CreateWith(ctx, m, "other", External(v), External(v))
	if !errors.Is(err, fsapi.Invalid) {
		t.Errorf("two of a name: %v", err)
	}
	_, err = CreateWith(ctx, m, "other")
	if !errors.Is(err, fsapi.Busy) {
		t.Errorf("none: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
	must(t, replace(m, "key", random(keyLen)))
	k, err := CreateWith(ctx, m, "keyring", KeyFile(m, "key"))
	must(t, err)
	must(t, k.Close())
	for _, c := range []struct {
		data []byte
		mode os.FileMode
		want fsapi.Kind
	}{{random(keyLen), 0o600, fsapi.Unauthorized}, {random(keyLen - 1), 0o600, fsapi.Invalid}, {random(keyLen + 1), 0o600, fsapi.Invalid}, {random(keyLen), 0o640, fsapi.NotPermitted}} {
		must(t, osfs.ReplaceFile(m, "other", c.data, c.mode))
		if _, err := OpenWith(ctx, m, "keyring", KeyFile(m, "other")); !errors.Is(err, c.want) {
			t.Errorf("%d bytes, mode %o: %v, want %v", len(c.data), c.mode, err, c.want)
		}
	}
	if _, err := OpenWith(ctx, m, "keyring", KeyFile(m, "none")); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := OpenWith(ctx, m, "keyring", Password(right, Params{})); !errors.Is(err, fsapi.Unauthorized) || !bytes.Contains([]byte(err.Error()), []byte("wrapped with file")) {
		t.Errorf("a key of another kind: %v", err)
	}
	if made, err := EnsureKeyFile(m, "key"); made || err != nil {
		t.Errorf("made %v over another, %v", made, err)
	}
}

// stepping is a clock that jumps to whatever is waited for.
type stepping struct{ now time.Time }

func (s *stepping) Now() time.Time { return s.now }
func (s *stepping) After(d time.Duration) <-chan time.Time {
	s.now = s.now.Add(d)
	c := make(chan time.Time, 1)
	c <- s.now
	return c
}

func TestPatient(t *testing.T) {
	v, ctx := newVault("v"), t.Context()
	sealed, err := v.Wrap(ctx, []byte("secret"), nil)
	must(t, err)
	c := &stepping{now: time.Unix(1e9, 0)}
	away := fsapi.Errorf(fsapi.TimedOut, "away")
	told := 0
	p := Patient(v, c, time.Minute, func(err error, _ time.Duration) {
		if told++; told == 5 {
			v.fail = nil
		}
	})
	v.fail = away
	got, err := p.Unwrap(ctx, sealed, nil)
	if err != nil || string(got) != "secret" || told != 5 {
		t.Errorf("%q, %v after %d failures", got, err, told)
	}
	v.fail, told = away, 100
	start := c.now
	if _, err := p.Unwrap(ctx, sealed, nil); !errors.Is(err, fsapi.TimedOut) {
		t.Errorf("%v", err)
	}
	if waited := c.now.Sub(start); waited > time.Minute || waited < 50*time.Second {
		t.Errorf("waited %v", waited)
	}
	v.fail, told = fsapi.Errorf(fsapi.Unauthorized, "no"), 0
	if _, err := p.Unwrap(ctx, sealed, nil); !errors.Is(err, fsapi.Unauthorized) || told != 0 {
		t.Errorf("a refusal was repeated: %v", err)
	}
}
