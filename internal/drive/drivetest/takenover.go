package drivetest

import (
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// TakenOver tests a drive that another store takes over while it is open: nothing is
// removed, replaced or added there any more (D7). mine opens it for one store, which
// takes it over where it is another's; theirs has another store take it over, and
// later has ten minutes go by on the drive's clock.
func TakenOver(t *testing.T, mine func() drive.Drive, theirs, later func()) {
	t.Helper()
	ctx := t.Context()
	put := func(d drive.Drive, name string) error { return Put(ctx, d, name, nil, 0, 1) }
	d := mine()
	must(t, put(d, "a"))
	must(t, d.Replace(ctx, "p", nil))
	theirs()
	must(t, put(d, "b")) // as far as is known
	must(t, d.Close())
	for what, change := range map[string]func(d drive.Drive) error{
		"commit":      func(d drive.Drive) error { return put(d, "c") },
		"delete":      func(d drive.Drive) error { return d.Delete(ctx, "a") },
		"delete many": func(d drive.Drive) error { return drive.DeleteMany(ctx, d, []string{"a", "b"}) },
		"replace":     func(d drive.Drive) error { return d.Replace(ctx, "p", []byte("new")) },
	} {
		d := mine()
		theirs()
		later()
		if err := change(d); !errors.Is(err, fsapi.NoDevice) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := d.Stat(ctx, "a"); !errors.Is(err, fsapi.NoDevice) {
			t.Errorf("stat after %s: %v", what, err)
		}
		must(t, d.Close())
	}
	d = mine()
	for name, want := range map[string]error{"a": nil, "b": nil, "c": fsapi.NotExist} {
		if _, err := d.Stat(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if b, err := d.Stat(ctx, "p"); err != nil || b.Size != 0 {
		t.Errorf("p: %+v, %v", b, err)
	}
	must(t, d.Close())
}
