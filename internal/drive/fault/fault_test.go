package fault_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
)

func TestConformance(t *testing.T) {
	drivetest.Run(t, func(*testing.T) drive.Drive {
		return fault.New(mem.New(mem.Options{}), nil, nil)
	}, drivetest.Capabilities{})
}

// faulty is a drive that holds "x" and whose rule is set afterwards.
func faulty(t *testing.T, rule fault.Rule) *fault.Drive {
	t.Helper()
	d := fault.New(mem.New(mem.Options{Info: drive.Info{Name: "one"}}), nil, nil)
	if err := d.Replace(t.Context(), "x", []byte{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	d.SetRule(rule)
	return d
}

func put(t *testing.T, d drive.Drive, name string) error {
	t.Helper()
	return drivetest.Put(t.Context(), d, name, []byte("data"), 0, 2)
}

func kindOf(err error) fsapi.Kind {
	if err == nil {
		return fsapi.KindCount
	}
	return fsapi.KindOf(err)
}

func TestErrors(t *testing.T) {
	ctx := t.Context()
	calls := map[fault.Op]func(d drive.Drive) error{
		fault.Create: func(d drive.Drive) error { return put(t, d, "y") },
		fault.Write:  func(d drive.Drive) error { return put(t, d, "y") },
		fault.Commit: func(d drive.Drive) error { return put(t, d, "y") },
		fault.Read: func(d drive.Drive) error {
			_, err := d.ReadAt(ctx, "x", 0, make([]byte, 1))
			return err
		},
		fault.Stat: func(d drive.Drive) error {
			_, err := d.Stat(ctx, "x")
			return err
		},
		fault.List:    func(d drive.Drive) error { return d.List(ctx, "", "", func(drive.Blob) error { return nil }) },
		fault.Delete:  func(d drive.Drive) error { return d.Delete(ctx, "x") },
		fault.Replace: func(d drive.Drive) error { return d.Replace(ctx, "x", nil) },
		fault.Capacity: func(d drive.Drive) error {
			_, err := d.Capacity(ctx)
			return err
		},
	}
	for op, call := range calls {
		for cause, want := range map[error]fsapi.Kind{
			syscall.EIO: fsapi.IO, syscall.ENOSPC: fsapi.NoSpace, fsapi.Errorf(fsapi.TimedOut, "slow"): fsapi.TimedOut,
		} {
			d := faulty(t, fault.FailOp(op, "*", cause))
			if err := call(d); kindOf(err) != want || !errors.Is(err, cause) {
				t.Errorf("%s with %v: %v", op, cause, err)
			}
			d.SetRule(nil)
			if _, err := d.Stat(ctx, "y"); kindOf(err) != fsapi.NotExist {
				t.Errorf("%s: a failed write left a blob: %v", op, err)
			}
			if err := call(d); err != nil {
				t.Errorf("%s once the fault has ended: %v", op, err)
			}
		}
	}
}

func TestLostAndLate(t *testing.T) {
	ctx := t.Context()
	d := faulty(t, func(c fault.Call) fault.Outcome { return fault.Outcome{Lost: true} })
	if err := errors.Join(put(t, d, "y"), d.Delete(ctx, "x"), d.Replace(ctx, "z", nil)); err != nil {
		t.Errorf("lost calls said so: %v", err)
	}
	want := func(name string, there bool) {
		t.Helper()
		if _, err := d.Stat(ctx, name); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	want("x", true)
	want("y", false)
	want("z", false)
	d.SetRule(func(c fault.Call) fault.Outcome {
		if c.Op == fault.Commit || c.Op == fault.Delete {
			return fault.Outcome{Err: syscall.EIO, Late: true}
		}
		return fault.Outcome{}
	})
	if kindOf(put(t, d, "y")) != fsapi.IO || kindOf(d.Delete(ctx, "x")) != fsapi.IO {
		t.Error("late failures were not seen")
	}
	want("x", false)
	want("y", true)
}

func TestFlip(t *testing.T) {
	d := faulty(t, func(fault.Call) fault.Outcome { return fault.Outcome{FlipBit: 10} })
	p := make([]byte, 3)
	if _, err := d.ReadAt(t.Context(), "x", 0, p); err != nil || !bytes.Equal(p, []byte{0, 2, 0}) {
		t.Errorf("read %v, %v", p, err)
	}
}

func TestHangAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := faulty(t, func(c fault.Call) fault.Outcome { return fault.Outcome{Hang: c.Op == fault.Stat, Delay: time.Hour} })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		start := time.Now()
		if _, err := d.ReadAt(ctx, "x", 0, make([]byte, 1)); err != nil || time.Since(start) != time.Hour {
			t.Errorf("a delayed call took %v: %v", time.Since(start), err)
		}
		if _, err := d.Stat(ctx, "x"); kindOf(err) != fsapi.TimedOut || time.Since(start) != 2*time.Hour {
			t.Errorf("a hanging call ended after %v: %v", time.Since(start), err)
		}
	})
}

func TestRules(t *testing.T) {
	read, commit := fault.Call{Op: fault.Read, Name: "seg/a", Len: 8}, fault.Call{Op: fault.Commit, Name: "db/b"}
	for name, c := range map[string]struct {
		rule fault.Rule
		want []bool // of read, commit, read, commit
	}{
		"nth":     {fault.FailNth(2, syscall.EIO), []bool{false, true, false, false}},
		"op":      {fault.FailOp(fault.Read, "*", syscall.EIO), []bool{true, false, true, false}},
		"glob":    {fault.FailOp("", "db/*", syscall.EIO), []bool{false, true, false, true}},
		"between": {fault.FailBetween(fault.Commit, "*", 2, 9, syscall.EIO), []bool{false, false, false, true}},
	} {
		var got []bool
		for _, call := range []fault.Call{read, commit, read, commit} {
			got = append(got, c.rule(call).Err != nil)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	odds := fault.Odds{Fail: 0.3, Ops: []fault.Op{fault.Commit}, Lost: 0.1, Flip: 0.2, Slow: 0.1, Delay: time.Second}
	one, two := fault.Random(3, odds), fault.Random(3, odds)
	var failed, flipped int
	for i := range 1000 {
		call := []fault.Call{read, commit}[i%2]
		a, b := one(call), two(call)
		if a != b {
			t.Fatalf("call %d: %v and %v", i, a, b)
		}
		if a.Err != nil {
			failed++
		}
		if a.FlipBit > 0 {
			flipped++
		}
		if a.FlipBit > 64 || a.Err != nil && call.Op != fault.Commit || a.FlipBit > 0 && call.Op != fault.Read {
			t.Fatalf("call %d: %v", i, a)
		}
	}
	if failed < 100 || failed > 200 || flipped < 50 || flipped > 150 {
		t.Errorf("%d failed, %d flipped", failed, flipped)
	}
}
