package meta

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv/mem"
)

func TestDumpLoadsIntoAnotherEngine(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.furnish()
	var dump bytes.Buffer
	if err := f.s.Dump(ctx, &dump); err != nil {
		t.Fatal(err)
	}
	if err := Load(ctx, f.e, bytes.NewReader(dump.Bytes())); !errors.Is(err, fsapi.Exist) {
		t.Errorf("load into a full engine: %v", err)
	}
	for _, cut := range []int{0, 1, dump.Len() / 2, dump.Len() - 10} {
		e, _ := mem.Open(mem.Options{})
		if err := Load(ctx, e, bytes.NewReader(dump.Bytes()[:cut])); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("load of %d bytes of %d: %v", cut, dump.Len(), err)
		}
		e.Close()
	}
	part, _ := mem.Open(mem.Options{})
	defer part.Close()
	if err := loadLines(ctx, part, []dumpLine{{Key: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, part, Options{}); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("open of a store loaded in part: %v", err)
	}
	e, err := mem.Open(mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := Load(ctx, e, &dump); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, e, Options{Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	g := &fixture{t: t, e: e, s: s, vol: f.vol, clock: f.clock}
	g.clean()
	wantK, wantV := f.records()
	gotK, gotV := g.records()
	if diff := cmp.Diff(wantK, gotK) + cmp.Diff(wantV, gotV); diff != "" {
		t.Error(diff)
	}
	if first := f.make(fsapi.RootIno, "new", fsapi.TypeRegular); g.make(fsapi.RootIno, "new", fsapi.TypeRegular) < first {
		t.Error("a loaded store gives out numbers again")
	}
}
