package drivetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// OpenAs opens one drive for a store, always the same, beside others that have it
// open. incarnation is what the store has; zero: none, as with earlier releases.
// claiming is asked before the drive is marked, and told which it has.
type OpenAs func(incarnation [16]byte, takeOver bool, claiming func(ctx context.Context, found [16]byte) error) (drive.Drive, error)

// Copies tests a drive that two copies of one store open: the one that was not the
// last to have it is refused, and one that has it open when the other opens it leaves
// it alone from then on. Nobody may have claimed the drive yet. later has ten minutes
// go by on its clock.
func Copies(t *testing.T, open OpenAs, later func()) {
	t.Helper()
	ctx := t.Context()
	drawn := byte(0)
	one := &copyOf{t: t, open: open, drawn: &drawn}

	// As a release left it that knew no incarnations.
	d, err := open([16]byte{}, false, func(context.Context, [16]byte) error { return nil })
	must(t, err)
	must(t, Put(ctx, d, "old", nil, 0, 1))
	must(t, d.Close())

	// A crash between the record and the mark leaves the drive the store's, and so
	// does one after the mark.
	one.crash = true
	if _, err := one.opens(false); !errors.Is(err, errCrash) {
		t.Fatalf("opened in spite of a crash: %v", err)
	}
	one.crash = false
	for range 3 {
		must(t, one.mustOpen(false).Close())
	}

	// A copy is the store as long as the other has not been opened again.
	other := *one
	d = one.mustOpen(false)
	if _, err := other.opens(false); !errors.Is(err, errCopy) {
		t.Fatalf("a copy opened what it does not know: %v", err)
	}
	must(t, Put(ctx, d, "beside", nil, 0, 1)) // which did not harm the first
	later()
	must(t, d.Replace(ctx, "first", nil))
	other = *one // while the first is running
	theirs := other.mustOpen(false)
	err = d.Delete(ctx, "old")
	if !errors.Is(err, fsapi.NoDevice) || !strings.Contains(err.Error(), "another copy of this store") {
		t.Errorf("delete where a copy has opened the drive: %v", err)
	}
	must(t, d.Close())
	for range 2 {
		if _, err := one.opens(false); !errors.Is(err, errCopy) {
			t.Errorf("opened again: %v", err)
		}
	}
	must(t, theirs.Replace(ctx, "second", nil)) // which did not harm the other
	must(t, theirs.Close())

	// Taken over in turns, whichever has it.
	must(t, one.mustOpen(true).Close())
	if _, err := other.opens(false); !errors.Is(err, errCopy) {
		t.Errorf("the copy opened it again: %v", err)
	}
	TakenOver(t, func() drive.Drive { return one.mustOpen(true) }, func() { must(t, other.mustOpen(true).Close()) }, later)
}

var (
	errCrash = errors.New("crash")
	errCopy  = fsapi.Errorf(fsapi.Busy, "another copy of this store")
)

// copyOf is one copy of a store, with what its metadata knows of the drive.
type copyOf struct {
	t        *testing.T
	open     OpenAs
	drawn    *byte // incarnations, of all copies
	was, now [16]byte
	crash    bool // after the record
}

func (c *copyOf) opens(takeOver bool) (drive.Drive, error) {
	*c.drawn++
	mine := [16]byte{*c.drawn}
	return c.open(mine, takeOver, func(_ context.Context, found [16]byte) error {
		if !takeOver && found != c.was && found != c.now {
			return errCopy
		}
		c.was, c.now = found, mine
		if c.crash {
			return errCrash
		}
		return nil
	})
}

func (c *copyOf) mustOpen(takeOver bool) drive.Drive {
	c.t.Helper()
	d, err := c.opens(takeOver)
	must(c.t, err)
	return d
}
