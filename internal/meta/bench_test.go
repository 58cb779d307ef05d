package meta

import (
	"context"
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
)

// eachEngine runs a benchmark over every engine.
func eachEngine(b *testing.B, fn func(b *testing.B, f *fixture)) {
	b.Run("mem", func(b *testing.B) { fn(b, newFixture(b)) })
	b.Run("pebble", func(b *testing.B) {
		e, err := pebble.Open(pebble.Options{FS: osfs.OS{}, Dir: b.TempDir() + "/kv"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { e.Close() })
		fn(b, newFixtureOn(b, e))
	})
}

func BenchmarkCreate(b *testing.B) {
	eachEngine(b, func(b *testing.B, f *fixture) {
		ctx := context.Background()
		dir := f.make(fsapi.RootIno, "dir", fsapi.TypeDirectory)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			name := fmt.Sprintf("file-%09d", i)
			_, err := f.s.Update(ctx, f.vol, kv.UpdateOptions{}, func(tx *Tx) error {
				d, err := tx.Inode(dir)
				if err != nil {
					return err
				}
				if _, err := tx.Lookup(dir, name); err == nil {
					return fsapi.Exist
				}
				_, err = tx.Create(d, name, NewInode{Type: fsapi.TypeRegular, Mode: 0o644})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkUnlink(b *testing.B) {
	eachEngine(b, func(b *testing.B, f *fixture) {
		dir := f.make(fsapi.RootIno, "dir", fsapi.TypeDirectory)
		f.fill(dir, b.N)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if err := f.remove(dir, fmt.Sprintf("file-%09d", i), KeepNone); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// fill makes n files in a directory, many in a transaction.
func (f *fixture) fill(dir fsapi.Ino, n int) {
	f.t.Helper()
	for at := 0; at < n; {
		end := min(at+1000, n)
		f.do(func(tx *Tx) error {
			d, err := tx.Inode(dir)
			for i := at; i < end && err == nil; i++ {
				_, err = tx.Create(d, fmt.Sprintf("file-%09d", i), NewInode{Type: fsapi.TypeRegular, Mode: 0o644})
			}
			return err
		})
		at = end
	}
}

func BenchmarkLookup(b *testing.B) {
	eachEngine(b, func(b *testing.B, f *fixture) {
		ctx := context.Background()
		const n = 100_000
		f.fill(fsapi.RootIno, n)
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("file-%09d", i)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			err := f.s.View(ctx, f.vol, func(tx *Tx) error {
				_, err := tx.Lookup(fsapi.RootIno, names[i*7919%n])
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReadDir reads 1000 entries with attributes.
func BenchmarkReadDir(b *testing.B) {
	eachEngine(b, func(b *testing.B, f *fixture) {
		ctx := context.Background()
		f.fill(fsapi.RootIno, 100_000)
		b.ReportAllocs()
		last := ""
		for b.Loop() {
			err := f.s.View(ctx, f.vol, func(tx *Tx) error {
				list, err := tx.ReadDir(fsapi.RootIno, last, 1000)
				last = ""
				if len(list) == 1000 {
					last = list[999].Name
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSetExtents overwrites 4 KiB at a time somewhere in a file of 1 GiB,
// each with a new chunk.
func BenchmarkSetExtents(b *testing.B) {
	eachEngine(b, func(b *testing.B, f *fixture) {
		ctx := context.Background()
		ino := f.make(fsapi.RootIno, "file", fsapi.TypeRegular)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			off := int64(i*7919%(1<<18)) << 12
			id := fsapi.ChunkID{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}
			st := fsapi.Stored{Chunks: []fsapi.Chunk{{ID: id, Len: 4096, Loc: fsapi.Location{Segment: segID(1), Offset: uint32(i), Length: 4100}}}}
			ext := [1]fsapi.Extent{{Off: off, Len: 4096, Kind: fsapi.ExtentData, Chunk: id}}
			_, err := f.s.Update(ctx, f.vol, kv.UpdateOptions{}, func(tx *Tx) error {
				in, err := tx.Inode(ino)
				if err != nil {
					return err
				}
				if err := tx.Record(&st); err != nil {
					return err
				}
				return tx.SetExtents(in, off, off+4096, ext[:])
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
