package meta

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// InlineAt is where an inline extent is: the file and the offset at which the
// extent ends. The zero value is before all of them.
type InlineAt struct {
	Ino fsapi.Ino
	End int64
}

// Inline is an inline extent's frame. Changed, the bytes are the caller's.
type Inline struct {
	At    InlineAt
	Chunk fsapi.ChunkID
	Frame []byte
	Fresh []byte // of ReplaceInline: what takes Frame's place
}

// InlineFrames lists the inline extents among the next look extents of a volume
// after a place, in order. next is the place to go on from, more whether there
// is anything behind it. Those of files that are gone, but whose extents are not
// removed yet, are among them.
func (s *Store) InlineFrames(ctx context.Context, vol fsapi.VolumeID, after InlineAt, look int) (list []Inline, next InlineAt, more bool, err error) {
	err = s.e.View(ctx, func(r kv.Reader) error {
		list, next, more = nil, after, false
		from := extentKey(nil, vol, after.Ino, after.End+1)
		return r.Scan(from, afterVolume(tabExtent, vol), func(k, v []byte) (bool, error) {
			if look == 0 {
				more = true
				return false, nil
			}
			look--
			e, err := decodeExtent(k, v)
			if err != nil {
				return false, err
			}
			next = InlineAt{keyIno(k), e.End()}
			if e.Kind == fsapi.ExtentInline {
				list = append(list, Inline{At: next, Chunk: e.Chunk, Frame: bytes.Clone(e.Inline)})
			}
			return true, nil
		})
	})
	return list, next, more, err
}

// afterVolume is the end of a volume's part of a table.
func afterVolume(tab byte, vol fsapi.VolumeID) []byte { return after(nil, volKey(nil, tab, vol)) }

// ReplaceInline puts Fresh in the place of Frame in each of a volume's inline
// extents that still holds it, in one transaction: the same chunk, sealed anew.
// Result: how many were changed. Extents of files that are gone are left to
// Reclaim. It is durable after Sync.
func (s *Store) ReplaceInline(ctx context.Context, vol fsapi.VolumeID, list []Inline) (int, error) {
	changed := 0
	_, err := s.Update(ctx, vol, kv.UpdateOptions{}, func(tx *Tx) error {
		changed = 0
		for i := range list {
			n, err := tx.replaceInline(&list[i])
			if err != nil {
				return err
			}
			changed += n
		}
		return nil
	})
	return changed, err
}

// replaceInline writes the inode as it is, so that who read it, and its extents
// untracked, runs again.
func (tx *Tx) replaceInline(in *Inline) (int, error) {
	file, err := tx.Inode(in.At.Ino)
	if errors.Is(err, fsapi.Stale) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var found fsapi.Extent
	err = tx.scanExtents(in.At.Ino, in.At.End-1, in.At.End, true, func(e *fsapi.Extent) (bool, error) {
		if e.End() == in.At.End && e.Kind == fsapi.ExtentInline && e.Chunk == in.Chunk && bytes.Equal(e.Inline, in.Frame) {
			found = *e
		}
		return false, nil
	})
	if err != nil || found.Len == 0 {
		return 0, err
	}
	found.Inline = in.Fresh
	tx.putExtent(in.At.Ino, &found)
	tx.store(file)
	return 1, nil
}

// EachJournalFrame calls fn for the sealed frames in a volume's journal, oldest
// first, until it returns false. The bytes are fn's during the call only.
func (s *Store) EachJournalFrame(ctx context.Context, vol fsapi.VolumeID, fn func(frame []byte) bool) error {
	return s.e.View(ctx, func(r kv.Reader) error {
		from := volKey(nil, tabJournal, vol)
		return r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
			j, err := decodeJournal(k, v)
			return err == nil && fn(j.Data), err
		})
	})
}

// tables are all that this program knows.
var tables = string([]byte{
	tabFormat, tabVolume, tabVolName, tabNumber, tabDrive, tabSetting, tabDentry, tabInode, tabLink, tabSubdir,
	tabExtent, tabXattr, tabPolicy, tabQuota, tabUsage, tabOrphan, tabTrash, tabReclaim, tabChunk, tabRefs, tabSweep,
	tabSegment, tabLive, tabJournal, tabJournalN, tabChanges,
})

// FramesKnown fails where the metadata may hold sealed frames that neither
// InlineFrames nor EachJournalFrame lists: in a table that this program does not
// know. Whoever gives up a data key asks first.
func (s *Store) FramesKnown(ctx context.Context) error {
	return s.e.View(ctx, func(r kv.Reader) error {
		for at := []byte{0}; ; {
			var tab byte
			found := false
			err := r.Scan(at, nil, func(k, _ []byte) (bool, error) {
				tab, found = k[0], true
				return false, nil
			})
			if err != nil || !found {
				return err
			}
			if strings.IndexByte(tables, tab) < 0 {
				return fsapi.Errorf(fsapi.NotSupported, "the metadata has a table %q that this program does not know, which may need any key", tab)
			}
			if tab == 0xff {
				return nil
			}
			at = []byte{tab + 1}
		}
	})
}
