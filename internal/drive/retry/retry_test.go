package retry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/drive/retry"
	"github.com/strakefs/strake/internal/fsapi"
)

// TestConformance runs the suite over a drive every third call of which fails,
// but for writes and commits.
func TestConformance(t *testing.T) {
	drivetest.Run(t, func(t *testing.T) drive.Drive {
		return retry.New(fault.New(mem.New(mem.Options{}), func(c fault.Call) fault.Outcome {
			if c.Op == fault.Write || c.Op == fault.Commit || rand.IntN(3) > 0 {
				return fault.Outcome{}
			}
			return fault.Outcome{Err: fsapi.Errorf(fsapi.IO, "now and then"), Late: c.Op == fault.Delete || c.Op == fault.Replace}
		}, nil), backoff.Policy{Attempts: 50})
	}, drivetest.Capabilities{})
}

func calls(ctx context.Context) map[fault.Op]func(d drive.Drive) error {
	return map[fault.Op]func(d drive.Drive) error{
		fault.Create: func(d drive.Drive) error {
			w, err := d.Create(ctx, "new", 0)
			if err == nil {
				w.Abort()
			}
			return err
		},
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
		fault.Replace: func(d drive.Drive) error { return d.Replace(ctx, "x", []byte("y")) },
		fault.Capacity: func(d drive.Drive) error {
			_, err := d.Capacity(ctx)
			return err
		},
	}
}

func TestAttempts(t *testing.T) {
	for op, call := range calls(t.Context()) {
		for kind, want := range map[fsapi.Kind]int64{fsapi.IO: 4, fsapi.TimedOut: 4, fsapi.Busy: 4, fsapi.NoSpace: 1, fsapi.NoDevice: 1, fsapi.Closed: 1} {
			below := fault.New(mem.New(mem.Options{}), nil, nil)
			if err := below.Replace(t.Context(), "x", []byte("x")); err != nil {
				t.Fatal(err)
			}
			var n atomic.Int64
			below.SetRule(func(c fault.Call) fault.Outcome {
				n.Add(1)
				return fault.Outcome{Err: fsapi.Errorf(kind, "always")}
			})
			err := call(retry.New(below, backoff.Policy{Attempts: 4}))
			if fsapi.KindOf(err) != kind || n.Load() != want {
				t.Errorf("%s with %q: %d attempts, %v", op, kind, n.Load(), err)
			}
		}
	}
}

func TestCommitOnce(t *testing.T) {
	below := fault.New(mem.New(mem.Options{}), fault.FailOp(fault.Commit, "*", fsapi.Errorf(fsapi.IO, "no")), nil)
	d := retry.New(below, backoff.Policy{Attempts: 4})
	if err := drivetest.Put(t.Context(), d, "x", []byte("x"), 0, 1); !errors.Is(err, fsapi.IO) {
		t.Errorf("commit: %v", err)
	}
}

// TestListOnce breaks a listing off in its midst: each blob is seen once. An
// error of the caller's own is not repeated.
func TestListOnce(t *testing.T) {
	m := mem.New(mem.Options{})
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := m.Replace(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	d := retry.New(&breaking{Drive: m}, backoff.Policy{Attempts: 10})
	var got string
	if err := d.List(t.Context(), "", "", func(b drive.Blob) error {
		got += b.Name
		return nil
	}); err != nil || got != "abcd" {
		t.Errorf("listed %q, %v", got, err)
	}
	n := 0
	mine := fsapi.Errorf(fsapi.IO, "mine")
	if err := d.List(t.Context(), "", "", func(drive.Blob) error { n++; return mine }); !errors.Is(err, mine) || n != 1 {
		t.Errorf("%d calls, %v", n, err)
	}
}

// breaking breaks each listing off after one blob.
type breaking struct{ drive.Drive }

// List implements drive.Drive.
func (d *breaking) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	n := 0
	broke := fsapi.Errorf(fsapi.IO, "broke off")
	return d.Drive.List(ctx, prefix, after, func(b drive.Blob) error {
		if n++; n > 1 {
			return broke
		}
		return fn(b)
	})
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := fault.New(mem.New(mem.Options{}), fault.FailOp(fault.Stat, "*", fsapi.Errorf(fsapi.IO, "no")), nil)
		d := retry.New(below, backoff.Policy{Attempts: 4, Base: time.Second, Random: func() float64 { return 1 }})
		start := time.Now()
		_, err := d.Stat(t.Context(), "x")
		if took := time.Since(start); took != 7*time.Second || !errors.Is(err, fsapi.IO) {
			t.Errorf("took %v, %v", took, err)
		}
	})
}
