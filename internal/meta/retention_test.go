package meta

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

func until(mode policy.RetentionMode, t time.Time) policy.Retained {
	return policy.Retained{Mode: mode, Until: t}
}

func (f *fixture) retain(ino fsapi.Ino, r policy.Retained, override bool) error {
	return f.try(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.SetRetention(in, r, override)
	})
}

// What is in force only grows, but for governance with the word for it.
func TestRetentionOnlyGrows(t *testing.T) {
	now := startOfTests()
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	hold := policy.Retained{Hold: true}
	for _, c := range []struct {
		name     string
		from, to policy.Retained
		override bool
		want     fsapi.Kind
	}{
		{"first", policy.Retained{}, until(policy.Compliance, day(1)), false, 0},
		{"longer", until(policy.Compliance, day(1)), until(policy.Compliance, day(2)), false, 0},
		{"shorter", until(policy.Compliance, day(2)), until(policy.Compliance, day(1)), true, fsapi.Immutable},
		{"none", until(policy.Compliance, day(2)), policy.Retained{}, true, fsapi.Immutable},
		{"weaker", until(policy.Compliance, day(2)), until(policy.Governance, day(9)), true, fsapi.Immutable},
		{"only a hold", until(policy.Compliance, day(2)), hold, true, fsapi.Immutable},
		{"and a hold", until(policy.Compliance, day(2)), policy.Retained{Mode: policy.Compliance, Until: day(2), Hold: true}, false, 0},
		{"governance longer", until(policy.Governance, day(1)), until(policy.Governance, day(2)), false, 0},
		{"governance stronger", until(policy.Governance, day(1)), until(policy.Compliance, day(1)), false, 0},
		{"governance shorter", until(policy.Governance, day(2)), until(policy.Governance, day(1)), false, fsapi.Immutable},
		{"governance shorter, overridden", until(policy.Governance, day(2)), until(policy.Governance, day(1)), true, 0},
		{"governance ended, overridden", until(policy.Governance, day(2)), policy.Retained{}, true, 0},
		{"expired", until(policy.Compliance, day(-1)), policy.Retained{}, false, 0},
		{"a hold released", hold, policy.Retained{}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
			if err := f.retain(ino, c.from, false); err != nil {
				t.Fatal(err)
			}
			err := f.retain(ino, c.to, c.override)
			if c.want == 0 && err != nil || c.want != 0 && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			f.allClean()
		})
	}
}

func TestRetentionRefusesEveryChange(t *testing.T) {
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	other := f.make(fsapi.RootIno, "other", fsapi.TypeRegular)
	f.write(ino, 0, 4096, 1)
	f.change(ino, func(tx *Tx, in *Inode) error { return tx.SetXattr(in, "user.a", nil) })
	if err := f.retain(ino, until(policy.Compliance, startOfTests().Add(time.Hour)), false); err != nil {
		t.Fatal(err)
	}
	for name, fn := range map[string]func(tx *Tx, root, in, o *Inode) error{
		"unlink": func(tx *Tx, root, in, _ *Inode) error { return tx.Unlink(root, "f", in, KeepTrash) },
		"rename": func(tx *Tx, root, in, _ *Inode) error {
			return tx.Rename(root, "f", in, root, "g", nil, false, KeepNone)
		},
		"rename over": func(tx *Tx, root, in, o *Inode) error {
			return tx.Rename(root, "other", o, root, "f", in, false, KeepNone)
		},
		"exchange": func(tx *Tx, root, in, o *Inode) error {
			return tx.Rename(root, "other", o, root, "f", in, true, KeepNone)
		},
		"link":     func(tx *Tx, root, in, _ *Inode) error { return tx.Link(root, "g", in) },
		"write":    func(tx *Tx, _, in, _ *Inode) error { return tx.SetExtents(in, 0, 10, nil) },
		"truncate": func(tx *Tx, _, in, _ *Inode) error { _, err := tx.TruncateExtents(in, 0, 10); return err },
		"shift":    func(tx *Tx, _, in, _ *Inode) error { return tx.ShiftExtents(in, 0, 4096) },
		"xattr":    func(tx *Tx, _, in, _ *Inode) error { return tx.SetXattr(in, "user.b", nil) },
		"no xattr": func(tx *Tx, _, in, _ *Inode) error { return tx.RemoveXattr(in, "user.a") },
		"policy":   func(tx *Tx, _, in, _ *Inode) error { return tx.SetPolicy(in, policy.Policy{Ack: policy.AckAsync}) },
	} {
		err := f.try(func(tx *Tx) error {
			root, err := tx.Inode(fsapi.RootIno)
			if err != nil {
				return err
			}
			in, err := tx.Inode(ino)
			if err != nil {
				return err
			}
			o, err := tx.Inode(other)
			if err != nil {
				return err
			}
			return fn(tx, root, in, o)
		})
		if !errors.Is(err, fsapi.Immutable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.s.DeleteVolume(context.Background(), f.vol); !errors.Is(err, fsapi.Immutable) {
		t.Errorf("the volume: %v", err)
	}
	f.allClean()
	f.clock.t = f.clock.t.Add(2 * time.Hour)
	if err := f.remove(fsapi.RootIno, "f", KeepNone); err != nil {
		t.Errorf("after its time: %v", err)
	}
	f.do(func(tx *Tx) error { _, err := tx.Reclaim(100); return err })
	f.allClean()
	if err := f.s.DeleteVolume(context.Background(), f.vol); err != nil {
		t.Errorf("the volume, after its time: %v", err)
	}
}

// A machine's clock that is set back ends nothing sooner: neither at once nor
// after a restart.
func TestRetentionClockNeverGoesBack(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	if err := f.retain(ino, until(policy.Compliance, startOfTests().Add(time.Hour)), false); err != nil {
		t.Fatal(err)
	}
	f.clock.t = f.clock.t.Add(30 * time.Minute)
	was := f.s.RetentionNow()
	if err := f.s.KeepRetentionClock(ctx); err != nil {
		t.Fatal(err)
	}
	f.clock.t = f.clock.t.Add(-48 * time.Hour)
	if now := f.s.RetentionNow(); now.Before(was) {
		t.Errorf("it went back from %v to %v", was, now)
	}
	s, err := Open(ctx, f.e, Options{Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	if now := s.RetentionNow(); now.Before(was) {
		t.Errorf("it went back from %v to %v over a restart", was, now)
	}
}
