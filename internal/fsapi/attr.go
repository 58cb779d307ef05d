package fsapi

import "time"

// FileType is the type of an inode. The numbers are stored: append only.
type FileType uint8

// The file types of POSIX.
const (
	TypeRegular   FileType = 1
	TypeDirectory FileType = 2
	TypeSymlink   FileType = 3
	TypeCharDev   FileType = 4
	TypeBlockDev  FileType = 5
	TypeFIFO      FileType = 6
	TypeSocket    FileType = 7
)

// Permission bits beyond rwxrwxrwx, as in st_mode of stat(2).
const (
	ModeSetuid uint32 = 0o4000
	ModeSetgid uint32 = 0o2000
	ModeSticky uint32 = 0o1000
	ModeMask   uint32 = 0o7777
)

// Bounds of the namespace.
const (
	MaxName      = 255       // bytes in a name
	MaxSymlink   = 4095      // bytes in a symlink's target
	MaxLinks     = 1<<31 - 1 // hard links of an inode
	MaxXattrName = 255       // bytes in an extended attribute's name, prefix included
	MaxXattr     = 64 << 10  // bytes in an extended attribute's value
	MaxFileSize  = 1<<62 - 1 // bytes in a file
)

// Attr is what stat(2) says of an inode.
type Attr struct {
	Ino    Ino
	Type   FileType
	Mode   uint32 // permission bits with setuid, setgid, sticky: 0..07777
	Uid    uint32
	Gid    uint32
	Nlink  uint32
	Rdev   uint32 // device number of a device node, as Linux encodes dev_t in 32 bits
	Size   int64  // bytes
	Used   int64  // bytes of file ranges that hold data or are preallocated; st_blocks is Used/512 rounded up
	Atime  time.Time
	Mtime  time.Time
	Ctime  time.Time
	Btime  time.Time // creation
	Change uint64    // grows with every change of content or attributes; the basis of ETags and NFS pre/post checks
}

// Dirent is one name in a directory.
type Dirent struct {
	Name   string
	Ino    Ino
	Type   FileType
	Cookie uint64 // position after this entry: unique within the directory for as long as the entry lives; > 2
	Attr   Attr   // set where the reader asked for attributes
}

// Cred is who asks: the effective ids of the calling process. Groups are the
// supplementary groups. The slice belongs to the caller and is not changed.
type Cred struct {
	Uid    uint32
	Gid    uint32
	Groups []uint32
	// Checked says that the client, a kernel mounted with default_permissions,
	// has applied mode bits, ACLs, the sticky bit and ownership rules already.
	Checked bool
	// Door names the door that asks; it comes back in Change.Door.
	Door string
}

// Root is the superuser's credentials.
var Root = &Cred{}

// InGroup reports whether gid is the primary or a supplementary group of c.
func (c *Cred) InGroup(gid uint32) bool {
	if c.Gid == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

// ExtentKind says what an extent's range holds. The numbers are stored:
// append only.
type ExtentKind uint8

// The kinds of extent. A range with no extent is a hole.
const (
	ExtentData      ExtentKind = 1 // a range of a chunk
	ExtentInline    ExtentKind = 2 // the bytes themselves, sealed as a frame, in the extent record
	ExtentUnwritten ExtentKind = 3 // preallocated: reads as zeros, counts as used
)

// Extent maps the file range [Off, Off+Len) to bytes. For ExtentData and
// ExtentInline these are the chunk's bytes [ChunkOff, ChunkOff+Len).
type Extent struct {
	Off      int64
	Len      int64
	Kind     ExtentKind
	Chunk    ChunkID
	ChunkOff uint32
	ChunkLen uint32   // plaintext length of the whole chunk
	Loc      Location // where the chunk lay when the extent was written: right, or its segment is gone
	Inline   []byte   // ExtentInline: the sealed frame
}

// End is the first byte after the extent.
func (e *Extent) End() int64 { return e.Off + e.Len }

// Usage is what a volume or directory subtree holds.
type Usage struct {
	Bytes  int64 // sum of Attr.Used
	Inodes int64
}

// StatFS is what statvfs(3) says of a volume, in bytes and inodes. Used + Free
// == Total; Avail is what a user may still write.
type StatFS struct {
	Total, Used, Free, Avail int64
	Inodes, InodesFree       int64
}
