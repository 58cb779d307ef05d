package meta

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// walkFiles lists the files below a directory, stopping after each `step` files
// to go on from where it was.
func (f *fixture) walkFiles(top fsapi.Ino, step int) (list []FileWant) {
	f.t.Helper()
	stop := errors.New("stop")
	var after []byte
	for {
		n := 0
		err := f.s.FilesBelow(f.t.Context(), f.vol, top, after, func(w FileWant) error {
			list, after = append(list, w), w.Next
			if n++; n == step {
				return stop
			}
			return nil
		})
		if err == nil {
			return list
		}
		if !errors.Is(err, stop) {
			f.t.Fatal(err)
		}
	}
}

// Every file below a directory is met once, wherever the walk is interrupted, with
// what its policy asks for.
func TestFilesBelow(t *testing.T) {
	f := newFixture(t)
	a := f.make(fsapi.RootIno, "a", fsapi.TypeDirectory)
	b := f.make(a, "b", fsapi.TypeDirectory)
	c := f.make(b, "c", fsapi.TypeDirectory)
	f.make(fsapi.RootIno, "empty", fsapi.TypeDirectory)
	want := map[fsapi.Ino]int{}
	for i, dir := range []fsapi.Ino{fsapi.RootIno, a, b, c, fsapi.RootIno, b} {
		for k := range 3 {
			ino := f.make(dir, fmt.Sprint("f", i, k), fsapi.TypeRegular)
			f.write(ino, 0, 4096, byte(10*i+k))
			want[ino] = 1
			if dir == b || dir == c {
				want[ino] = 3
			}
		}
		f.make(dir, fmt.Sprint("none", i), fsapi.TypeRegular)
	}
	if _, uniform, err := f.s.UniformCopies(t.Context(), f.vol); err != nil || !uniform {
		t.Errorf("uniform: %v, %v", uniform, err)
	}
	f.do(func(tx *Tx) error {
		in, err := tx.Inode(b)
		if err != nil {
			return err
		}
		return tx.SetPolicy(in, policy.Policy{Copies: []fsapi.CopySpec{{Tier: "hot", Replicas: 3}}})
	})
	if _, uniform, err := f.s.UniformCopies(t.Context(), f.vol); err != nil || uniform {
		t.Errorf("uniform: %v, %v", uniform, err)
	}
	for _, step := range []int{1, 2, 7, 100} {
		got := map[fsapi.Ino]int{}
		for _, w := range f.walkFiles(fsapi.RootIno, step) {
			if _, twice := got[w.Ino]; twice {
				t.Errorf("step %d: inode %d twice", step, w.Ino)
			}
			got[w.Ino] = w.Copies[0].Replicas
		}
		if len(got) != len(want) {
			t.Errorf("step %d: %d files of %d", step, len(got), len(want))
		}
		for ino, n := range want {
			if got[ino] != n {
				t.Errorf("step %d: inode %d wants %d replicas, not %d", step, ino, got[ino], n)
			}
		}
	}
	if n := len(f.walkFiles(b, 2)); n != 9 {
		t.Errorf("%d files below b", n)
	}
	var one fsapi.Ino
	for ino := range want {
		one = max(one, ino)
	}
	if l := f.walkFiles(one, 5); len(l) != 1 || l[0].Ino != one {
		t.Errorf("a file itself: %+v", l)
	}
	if err := f.s.FilesBelow(t.Context(), f.vol, 999_999, nil, nil); !errors.Is(err, fsapi.Stale) {
		t.Errorf("below nothing: %v", err)
	}
}

// The extents of a file come in order, each once, however many there are.
func TestFileExtents(t *testing.T) {
	f := newFixture(t)
	ino := f.make(fsapi.RootIno, "f", fsapi.TypeRegular)
	for i := range 5 {
		f.write(ino, int64(i)*4096, 4096, byte(i))
	}
	var offs []int64
	if err := f.s.FileExtents(t.Context(), f.vol, ino, func(list []fsapi.Extent) error {
		for _, e := range list {
			offs = append(offs, e.Off)
		}
		refs, err := f.s.ChunkRefs(t.Context(), f.vol, []fsapi.ChunkID{list[0].Chunk, {1}})
		if err != nil || refs[0].Refs != 1 || refs[0].Loc.Segment.IsZero() || !refs[1].Loc.Segment.IsZero() {
			t.Errorf("%+v, %v", refs, err)
		}
		return nil
	}); err != nil || len(offs) != 5 || !slices.IsSorted(offs) {
		t.Errorf("%v, %v", offs, err)
	}
}

func FuzzWalkPlace(f *testing.F) {
	f.Add((&fileWalk{stack: []walkLevel{{1, 2}, {3, 0}}, name: "x"}).place())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var w fileWalk
		if w.parse(b) != nil {
			return
		}
		var again fileWalk
		if err := again.parse(w.place()); err != nil || !bytes.Equal(again.place(), w.place()) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}
