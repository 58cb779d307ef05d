package meta

import (
	"encoding/binary"
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
)

// The tables: the first byte of every key. KEYS.md describes them.
const (
	tabFormat    = 'F' // format record
	tabVolume    = 'V' // vol: volume record
	tabVolName   = 'v' // name: volume id
	tabNumber    = 'N' // vol: next number to reserve
	tabDrive     = 'W' // drive: drive record
	tabSetting   = 'p' // name: bytes
	tabDentry    = 'D' // vol dir name: dentry, with the inode where this is its only name
	tabInode     = 'I' // vol ino: where the inode is, or itself
	tabLink      = 'L' // vol ino dir name: one name of an inode that has several
	tabSubdir    = 'd' // vol dir ino: a directory within a directory
	tabExtent    = 'E' // vol ino end: extent
	tabXattr     = 'X' // vol ino name: bytes
	tabPolicy    = 'Y' // vol ino: policy
	tabQuota     = 'q' // vol dir: quota
	tabUsage     = 'u' // vol dir which: counter
	tabOrphan    = 'O' // vol ino
	tabTrash     = 'T' // vol time ino
	tabReclaim   = 'Q' // vol ino
	tabChunk     = 'C' // vol chunk: chunk record
	tabRefs      = 'c' // vol chunk: counter of extents
	tabSweep     = 'Z' // vol chunk: may have no references
	tabSegment   = 'S' // segment: segment record
	tabLive      = 's' // segment: counter of live bytes
	tabPending   = 'P' // segment: its copies are not those it should have
	tabHeat      = 'a' // segment: how it was accessed
	tabJournal   = 'J' // vol segment index: journal frame
	tabJournalN  = 'j' // vol: counter of journal bytes
	tabRetention = 'R' // vol until ino: under retention
	tabCommit    = 'K' // vol due ino: to come under retention
	tabSnapshot  = 'G' // vol snapshot: snapshot record
	tabSnapName  = 'g' // vol name: snapshot of that name
	tabHistory   = 'H' // vol snapshot table rest: what a key held for the snapshot
	tabHeld      = 'h' // vol snapshot: counter of bytes of extents in its history
	tabChanges   = 'e' // the changes of the last batch that had any
)

// Which counter of a directory; for the volume the directory is 0.
const (
	usageBytes      = 0 // Used of the inodes whose primary name is in the directory
	usageInodes     = 1 // their number
	usageTreeBytes  = 2 // Used of everything below (directories with a quota; the volume)
	usageTreeInodes = 3
)

func be32(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }
func be64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// volKey starts a key of a table that is kept by volume.
func volKey(b []byte, tab byte, vol fsapi.VolumeID) []byte {
	return be32(append(b[:0], tab), uint32(vol))
}

// inoKey is table, volume, inode number.
func inoKey(b []byte, tab byte, vol fsapi.VolumeID, ino fsapi.Ino) []byte {
	return be64(volKey(b, tab, vol), uint64(ino))
}

func dentryKey(b []byte, vol fsapi.VolumeID, dir fsapi.Ino, name string) []byte {
	return append(inoKey(b, tabDentry, vol, dir), name...)
}

func linkKey(b []byte, vol fsapi.VolumeID, ino, dir fsapi.Ino, name string) []byte {
	return append(be64(inoKey(b, tabLink, vol, ino), uint64(dir)), name...)
}

func subdirKey(b []byte, vol fsapi.VolumeID, dir, ino fsapi.Ino) []byte {
	return be64(inoKey(b, tabSubdir, vol, dir), uint64(ino))
}

func extentKey(b []byte, vol fsapi.VolumeID, ino fsapi.Ino, end int64) []byte {
	return be64(inoKey(b, tabExtent, vol, ino), uint64(end))
}

func xattrKey(b []byte, vol fsapi.VolumeID, ino fsapi.Ino, name string) []byte {
	return append(inoKey(b, tabXattr, vol, ino), name...)
}

func usageKey(b []byte, vol fsapi.VolumeID, dir fsapi.Ino, which byte) []byte {
	return append(inoKey(b, tabUsage, vol, dir), which)
}

func trashKey(b []byte, vol fsapi.VolumeID, deleted int64, ino fsapi.Ino) []byte {
	return be64(be64(volKey(b, tabTrash, vol), uint64(deleted)), uint64(ino))
}

func chunkKey(b []byte, tab byte, vol fsapi.VolumeID, id *fsapi.ChunkID) []byte {
	return append(volKey(b, tab, vol), id[:]...)
}

func segmentKey(b []byte, tab byte, id fsapi.SegmentID) []byte {
	return append(append(b[:0], tab), id[:]...)
}

func journalKey(b []byte, vol fsapi.VolumeID, loc fsapi.Location) []byte {
	return be32(append(volKey(b, tabJournal, vol), loc.Segment[:]...), loc.Offset)
}

// snapKey is table, volume, snapshot.
func snapKey(b []byte, tab byte, vol fsapi.VolumeID, id fsapi.SnapshotID) []byte {
	return be32(volKey(b, tab, vol), uint32(id))
}

func snapNameKey(vol fsapi.VolumeID, name string) []byte {
	return append(volKey(nil, tabSnapName, vol), name...)
}

// historyKey is where what key held is kept for a snapshot. The volume is that
// of key.
func historyKey(b []byte, id fsapi.SnapshotID, key []byte) []byte {
	b = snapKey(b, tabHistory, keyVolume(key), id)
	return append(append(b, key[0]), key[volKeyLen:]...)
}

// presentKey undoes historyKey.
func presentKey(k []byte) []byte {
	b := append(append(make([]byte, 0, len(k)), k[snapKeyLen]), k[1:volKeyLen]...)
	return append(b, k[snapKeyLen+1:]...)
}

func namedKey(tab byte, name string) []byte {
	return append([]byte{tab}, name...)
}

// after is the first key above every key that starts with prefix.
func after(b, prefix []byte) []byte {
	b = append(b[:0], prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// keyVolume and keyIno read the parts most keys have. The key must be long
// enough: keys come from a scan of their own table.
func keyVolume(k []byte) fsapi.VolumeID { return fsapi.VolumeID(binary.BigEndian.Uint32(k[1:])) }
func keySnapshot(k []byte) fsapi.SnapshotID {
	return fsapi.SnapshotID(binary.BigEndian.Uint32(k[volKeyLen:]))
}
func keyIno(k []byte) fsapi.Ino      { return fsapi.Ino(binary.BigEndian.Uint64(k[5:])) }
func keyU64(k []byte, at int) uint64 { return binary.BigEndian.Uint64(k[at:]) }

const (
	volKeyLen  = 5
	snapKeyLen = 9
	inoKeyLen  = 13
)

// keyText prints a key for people: its table, then hexadecimal.
func keyText(k []byte) string {
	if len(k) == 0 {
		return "(empty)"
	}
	return fmt.Sprintf("%c:%x", k[0], k[1:])
}

func corrupt(key []byte, what string) error {
	return fsapi.Errorf(fsapi.Corrupt, "metadata record %s is damaged: %s; run strake fsck", keyText(key), what)
}
