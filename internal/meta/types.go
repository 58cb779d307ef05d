package meta

import (
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Flags of an inode. The numbers are stored: append only.
type Flags uint32

// The inode flags.
const (
	HasXattr  Flags = 1 << 0 // has extended attributes
	HasACL    Flags = 1 << 1 // has an access ACL
	HasDefACL Flags = 1 << 2 // has a default ACL (directories)
	HasPolicy Flags = 1 << 3 // has a policy of its own
	HasQuota  Flags = 1 << 4 // has a quota (directories)
	Orphan    Flags = 1 << 5 // unlinked but open
	Trashed   Flags = 1 << 6 // in the trash; Attr.Nlink is 0
	// HasRetention says that a record holds the file, or held it once.
	HasRetention Flags = 1 << 7
)

// Inode is an inode with where it is best known from: its primary name, which
// is the first it was given. Where that goes while there are others, the first
// in the order of directory number and name takes its place. Whatever follows
// a file upwards (IsAncestor, EffectivePolicy, quotas) follows primary names.
// The caller may change the fields of Attr that SetInode lists.
type Inode struct {
	fsapi.Attr
	Parent fsapi.Ino // the directory of the primary name; 0 for the root and orphans; for a trashed inode where it was
	Name   string
	Target string // TypeSymlink
	Flags  Flags

	embedded bool   // kept in the dentry Parent/Name, its only name; else by number
	cookie   uint64 // of that dentry
	deleted  int64  // Trashed: when, Unix nanoseconds
	expires  int64  // Trashed: until when it is kept, Unix nanoseconds
}

// NewInode is what Create makes. Times are set to the transaction's.
type NewInode struct {
	Type   fsapi.FileType
	Mode   uint32
	Uid    uint32
	Gid    uint32
	Rdev   uint32
	Target string
	// Ino is a number reserved with Store.NewIno, or 0 to take one.
	Ino fsapi.Ino
}

// Keep says what becomes of a file whose last name goes.
type Keep uint8

// What becomes of it.
const (
	KeepNone   Keep = iota // its storage is released (in steps, by Reclaim)
	KeepOrphan             // a handle is open: it lives until DropOrphan
	KeepTrash              // it goes to the trash
)

// Volume is the record of a volume.
type Volume struct {
	ID        fsapi.VolumeID
	Name      string
	Created   time.Time
	Encrypted bool
	Policy    policy.Policy // every field set
	Quota     Quota
	Deleting  bool
}

// Quota bounds a volume or a directory subtree. Zero is no bound.
type Quota struct {
	Bytes  int64
	Inodes int64
}

// TrashEntry is one deleted file, symlink or directory in the trash.
type TrashEntry struct {
	Ino     fsapi.Ino
	Path    string // where it was, from the volume's root
	Deleted time.Time
	Expires time.Time
	Attr    fsapi.Attr
}

// SegmentUse is a stored segment and how much of it is live.
type SegmentUse struct {
	fsapi.Segment
	Live int64 // bytes of frames that chunk records point to
}

// Options of Open.
type Options struct {
	Clock clock.Clock
}
