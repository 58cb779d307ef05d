package meta

import (
	"context"
	"errors"
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Referred finds out to which of some segments anything refers, and says what: a
// chunk of any volume that lies there, or an extent, of the present or kept for a
// snapshot, that was told so of a chunk without a record. An extent whose chunk has
// moved does not count. It reads all records of chunks and extents as of one moment;
// one that is damaged is an error, since it is not known what it said.
func (s *Store) Referred(ctx context.Context, segments map[fsapi.SegmentID]bool) (found map[fsapi.SegmentID]string, err error) {
	snap, err := s.e.Snapshot()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	f := &references{r: snap, of: segments, found: map[fsapi.SegmentID]string{}}
	for _, t := range []struct {
		tab byte
		fn  func(k, v []byte) error
	}{{tabChunk, f.chunk}, {tabExtent, f.extent}, {tabHistory, f.history}} {
		n := 0
		err := snap.Scan([]byte{t.tab}, []byte{t.tab + 1}, func(k, v []byte) (bool, error) {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return false, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "look for references to segments")
			}
			return true, t.fn(k, v)
		})
		if err != nil {
			return nil, err
		}
	}
	return f.found, nil
}

// references is one run of Referred.
type references struct {
	r     kv.Reader
	of    map[fsapi.SegmentID]bool
	found map[fsapi.SegmentID]string
}

func (f *references) chunk(k, v []byte) error {
	if len(k) != chunkKeyLen {
		return corrupt(k, "bad key")
	}
	c, err := decodeChunk(k, v)
	if err == nil && f.of[c.Loc.Segment] {
		f.found[c.Loc.Segment] = fmt.Sprintf("chunk %v of volume %d lies there", c.ID, keyVolume(k))
	}
	return err
}

func (f *references) extent(k, v []byte) error {
	e, err := decodeExtent(k, v)
	if err != nil {
		return err
	}
	return f.place(k, &e)
}

func (f *references) history(k, v []byte) error {
	if len(k) <= snapKeyLen {
		return corrupt(k, "bad key")
	}
	key := presentKey(k)
	e, err := historyExtent(k, key, v)
	if err != nil || e == nil {
		return err
	}
	return f.place(key, e)
}

// place looks at an extent with the key k.
func (f *references) place(k []byte, e *fsapi.Extent) error {
	if e.Kind != fsapi.ExtentData || !f.of[e.Loc.Segment] {
		return nil
	}
	_, ok, err := getChunk(f.r, chunkKey(nil, tabChunk, keyVolume(k), &e.Chunk))
	if err == nil && !ok {
		f.found[e.Loc.Segment] = fmt.Sprintf("inode %d of volume %d has a chunk there that is not on record", keyIno(k), keyVolume(k))
	}
	return err
}
