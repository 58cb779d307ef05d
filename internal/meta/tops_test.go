package meta

import (
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// TestAppendSeesWhatLiesAbove appends to a file, so that its end is known, and
// then writes over what other transactions put above that end.
func TestAppendSeesWhatLiesAbove(t *testing.T) {
	unwritten := func(off, n int64) []fsapi.Extent {
		return []fsapi.Extent{{Off: off, Len: n, Kind: fsapi.ExtentUnwritten}}
	}
	for name, raise := range map[string]func(tx *Tx, in *Inode) error{
		"preallocated": func(tx *Tx, in *Inode) error { return tx.SetExtents(in, 8<<20, 9<<20, unwritten(8<<20, 1<<20)) },
		"moved up": func(tx *Tx, in *Inode) error {
			in.Size += 8<<20 - 4096
			return tx.ShiftExtents(in, 4096, 8<<20-4096)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ino := f.make(fsapi.RootIno, "file", fsapi.TypeRegular)
			for i := range int64(4) {
				f.write(ino, i*4096, 4096, byte(i+1))
			}
			if _, ok := f.s.tops.get(topKey{f.vol, ino}, f.attr(ino).Change); !ok {
				t.Error("after appends the end of the file is not known")
			}
			f.do(func(tx *Tx) error {
				in, err := tx.Inode(ino)
				if err != nil {
					return err
				}
				return raise(tx, in)
			})
			f.write(ino, 8<<20, 4096, 9)
			f.view(func(tx *Tx) error {
				list, err := tx.Extents(ino, 8<<20, 8<<20+4096, 10)
				if err != nil || len(list) != 1 || list[0].Kind != fsapi.ExtentData || list[0].Len != 4096 {
					t.Errorf("extents %+v, %v; want the one written last", list, err)
				}
				return nil
			})
			f.clean()
		})
	}
}
