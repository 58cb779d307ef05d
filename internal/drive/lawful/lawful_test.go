package lawful

import (
	"context"
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/mem"
	"github.com/strakefs/strake/internal/fsapi"
)

// Who was replaced deletes nothing, not even what its metadata does not know.
func TestFencedDeletesNothing(t *testing.T) {
	ctx := context.Background()
	var fence error
	d := New(mem.New(mem.Options{}), func(context.Context) error { return fence })
	write := func(name string) {
		t.Helper()
		w, err := d.Create(ctx, name, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	write("b")
	fence = fsapi.Errorf(fsapi.Fenced, "another has taken over")
	if err := d.Delete(ctx, "a"); !errors.Is(err, fsapi.Fenced) {
		t.Errorf("Delete: %v, want Fenced", err)
	}
	if err := drive.DeleteMany(ctx, d, []string{"a", "b"}); !errors.Is(err, fsapi.Fenced) {
		t.Errorf("DeleteMany: %v, want Fenced", err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := d.Stat(ctx, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	fence = nil
	if err := d.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if err := drive.DeleteMany(ctx, d, []string{"b"}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := d.Stat(ctx, name); !errors.Is(err, fsapi.NotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}
