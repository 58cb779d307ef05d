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
// extent ends, now or as a snapshot's history has it. The zero value is before
// all of them; the present comes first.
type InlineAt struct {
	Snapshot fsapi.SnapshotID // 0: the present
	Ino      fsapi.Ino
	End      int64
}

// Inline is an inline extent's frame. The bytes are the caller's.
type Inline struct {
	At    InlineAt
	Chunk fsapi.ChunkID
	Frame []byte
	Fresh []byte // of ReplaceInline: what takes Frame's place
}

// InlineFrames lists the inline extents among the next look extents of a volume
// after a place, in order: those of its files, then those that are kept for
// snapshots. next is the place to go on from, more whether there may be anything
// behind it. Those of files that are gone, but whose extents are not removed
// yet, are among them.
func (s *Store) InlineFrames(ctx context.Context, vol fsapi.VolumeID, after InlineAt, look int) (list []Inline, next InlineAt, more bool, err error) {
	err = s.e.View(ctx, func(r kv.Reader) error {
		f := inlineFinder{r: r, vol: vol, look: look, at: after}
		err := f.run()
		list, next, more = f.list, f.at, f.look == 0
		return err
	})
	return list, next, more, err
}

// inlineFinder is one InlineFrames.
type inlineFinder struct {
	r    kv.Reader
	vol  fsapi.VolumeID
	look int // extents still to be looked at
	at   InlineAt
	list []Inline
}

func (f *inlineFinder) run() error {
	if f.at.Snapshot == 0 {
		from := extentKey(nil, f.vol, f.at.Ino, f.at.End+1)
		prefix := volKey(nil, tabExtent, f.vol)
		err := f.r.Scan(from, after(nil, prefix), func(k, v []byte) (bool, error) { return f.take(0, k, v) })
		if err != nil || f.look == 0 {
			return err
		}
	}
	for f.look > 0 {
		found, err := f.history()
		if err != nil || !found {
			return err
		}
	}
	return nil
}

// history looks at what the next snapshot with extents keeps of them, and says
// whether there was one.
func (f *inlineFinder) history() (found bool, err error) {
	from := snapKey(nil, tabHistory, f.vol, f.at.Snapshot)
	if f.at.Snapshot != 0 {
		from = historyKey(nil, f.at.Snapshot, extentKey(nil, f.vol, f.at.Ino, f.at.End+1))
	}
	id := fsapi.SnapshotID(0)
	err = f.r.Scan(from, after(nil, volKey(nil, tabHistory, f.vol)), func(k, _ []byte) (bool, error) {
		if len(k) <= snapKeyLen {
			return false, corrupt(k, "bad key")
		}
		id = keySnapshot(k)
		return false, nil
	})
	if err != nil || id == 0 {
		return false, err
	}
	// Its extents are one run of keys, whether or not the first key is one.
	run := append(snapKey(nil, tabHistory, f.vol, id), tabExtent)
	end := after(nil, run)
	if id == f.at.Snapshot && string(from) > string(run) {
		run = from
	}
	err = f.r.Scan(run, end, func(k, v []byte) (bool, error) {
		old, there, err := decodeHistory(k, v)
		if err != nil {
			return false, err
		}
		if !there {
			old = nil
		}
		return f.take(id, presentKey(k), old)
	})
	if err == nil && f.look > 0 { // on to the next snapshot
		f.at = InlineAt{Snapshot: id + 1}
	}
	return true, err
}

// take looks at an extent; v is nil where a history says that there was none.
func (f *inlineFinder) take(id fsapi.SnapshotID, k, v []byte) (bool, error) {
	if f.look == 0 {
		return false, nil
	}
	f.look--
	if len(k) != extentKeyLen {
		return false, corrupt(k, "bad key")
	}
	f.at = InlineAt{id, keyIno(k), int64(keyU64(k, inoKeyLen))}
	if v == nil {
		return true, nil
	}
	e, err := decodeExtent(k, v)
	if err != nil {
		return false, err
	}
	if e.Kind == fsapi.ExtentInline {
		f.list = append(f.list, Inline{At: f.at, Chunk: e.Chunk, Frame: bytes.Clone(e.Inline)})
	}
	return true, nil
}

// ReplaceInline puts Fresh in the place of Frame in each of a volume's inline
// extents that still holds it, in one transaction: the same chunk, sealed anew.
// Result: how many were changed. Extents of files that are gone are left to
// Reclaim. It is durable after Sync.
func (s *Store) ReplaceInline(ctx context.Context, vol fsapi.VolumeID, list []Inline) (int, error) {
	changed := 0
	_, err := s.Update(ctx, vol, kv.UpdateOptions{}, func(tx *Tx) error {
		changed = 0
		defer tx.hist.keepFor(-1)() // snapshots may see the new frame, too: the bytes are the same
		for i := range list {
			replace := tx.replaceInline
			if list[i].At.Snapshot != 0 {
				replace = tx.replaceKept
			}
			n, err := replace(&list[i])
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
		if e.End() == in.At.End && in.is(e) {
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

// is reports whether an extent is the one that was listed.
func (in *Inline) is(e *fsapi.Extent) bool {
	return e.Kind == fsapi.ExtentInline && e.Chunk == in.Chunk && bytes.Equal(e.Inline, in.Frame)
}

// replaceKept is replaceInline in the history of a snapshot. The tracked read
// makes this, or the end of the snapshot, run again.
func (tx *Tx) replaceKept(in *Inline) (int, error) {
	key := extentKey(nil, tx.vol, in.At.Ino, in.At.End)
	kept := historyKey(nil, in.At.Snapshot, key)
	v, ok, err := tx.r.Get(kept)
	if err != nil || !ok {
		return 0, err
	}
	e, err := historyExtent(kept, key, v)
	if err != nil || e == nil || !in.is(e) {
		return 0, err
	}
	e.Inline = in.Fresh
	tx.w.Put(kept, appendExtent([]byte{historyValue}, e))
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
	tabSegment, tabLive, tabPending, tabHeat, tabJournal, tabJournalN, tabRetention, tabCommit, tabSnapshot, tabSnapName,
	tabHistory, tabHeld, tabChanges,
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
