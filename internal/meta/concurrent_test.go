package meta

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// TestConcurrentChangesKeepEveryInvariant lets writers, quota setters and
// upkeep run into each other and checks what they leave.
func TestConcurrentChangesKeepEveryInvariant(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.s.clock = lockedClock{f.clock, new(sync.Mutex)}
	dirs := []fsapi.Ino{fsapi.RootIno}
	for i := range 4 {
		dirs = append(dirs, f.make(dirs[i/2], fmt.Sprintf("dir%d", i), fsapi.TypeDirectory))
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 150 {
				err := f.step(ctx, r, dirs)
				switch k := fsapi.Kind(0); {
				case err == nil || errors.As(err, &k):
				default:
					switch fsapi.KindOf(err) {
					case fsapi.NotExist, fsapi.Exist, fsapi.NotEmpty, fsapi.CrossDevice, fsapi.Stale, fsapi.Conflict, fsapi.Invalid:
					default:
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	f.clean()
	f.reclaim()
	if _, _, err := f.s.SweepChunks(ctx, 10000); err != nil {
		t.Error(err)
	}
	f.clean()
}

type lockedClock struct {
	*testClock
	mu *sync.Mutex
}

// step is one random operation.
func (f *fixture) step(ctx context.Context, r *rand.Rand, dirs []fsapi.Ino) error {
	if r.IntN(12) == 0 {
		_, _, err := f.s.SweepChunks(ctx, 20)
		return err
	}
	a, b := dirs[r.IntN(len(dirs))], dirs[r.IntN(len(dirs))]
	fn, tn := fmt.Sprint(r.IntN(8)), fmt.Sprint(r.IntN(8))
	op, seed, keep := r.IntN(8), byte(r.IntN(5)), Keep(r.IntN(3))
	_, err := f.s.Update(ctx, f.vol, kv.UpdateOptions{}, func(tx *Tx) error {
		da, err := tx.Inode(a)
		if err != nil {
			return err
		}
		db, err := tx.Inode(b)
		if err != nil {
			return err
		}
		if op == 0 {
			_, err := tx.Reclaim(4)
			return err
		}
		if op == 1 {
			_, err := tx.Create(da, fn, NewInode{Type: fsapi.TypeRegular})
			return err
		}
		if op == 2 && a != fsapi.RootIno {
			return tx.SetQuota(da, Quota{Inodes: int64(seed%2) * 1000})
		}
		in, err := tx.Lookup(a, fn)
		if err != nil {
			return err
		}
		switch op {
		case 3:
			if in.Type == fsapi.TypeRegular {
				return tx.Unlink(da, fn, in, keep)
			}
		case 4:
			victim, err := tx.Lookup(b, tn)
			if err != nil && !errors.Is(err, fsapi.NotExist) {
				return err
			}
			return tx.Rename(da, fn, in, db, tn, victim, victim != nil && seed > 2, keep)
		case 5:
			return tx.Link(db, tn, in)
		default:
			id := fsapi.ChunkID{seed, 9}
			off := int64(r.IntN(100))
			if seed > 1 {
				st := &fsapi.Stored{
					Segments: []fsapi.Segment{testSegment(f.vol, seed)},
					Chunks:   []fsapi.Chunk{{ID: id, Len: 100, Loc: fsapi.Location{Segment: segID(seed), Length: 50}}},
				}
				if err := tx.Record(st); err != nil {
					return err
				}
			}
			in.Size = max(in.Size, off+20)
			return tx.SetExtents(in, off, off+20, []fsapi.Extent{{Off: off, Len: 20, Kind: fsapi.ExtentData, Chunk: id}})
		}
		return nil
	})
	return err
}

func (c lockedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.testClock.Now()
}
