// Package vfs gives stored metadata and chunks their POSIX meaning: handles,
// permission checks, locks, write-back, orphans, trash, the virtual .strake
// tree with that of each snapshot, retention, notification of change. Doors see this package and fsapi only.
//
// It owns: the FS seam and its in-process implementation, Local. It must not
// know protocols, the key layout of meta, or drives.
//
// # What is in memory
//
// A node is an inode in memory: its attributes as callers see them, the names
// of a directory looked up of late, and what was written and is not stored
// yet. An inode has at most one, and everything that changes an inode holds its
// node, so that nodes are never older than what is stored; results of
// transactions are installed in the order of their sequence numbers. Clean
// nodes that nobody holds are dropped beyond a bound.
//
// # Write-back
//
// Writes go into blocks of dirty bytes (W1, W2 in dirty.go). A leg is what one
// node puts into a flight; a flight is one blob batch and then one metadata
// transaction. Many small files share a flight; a big one fills flight after
// flight, each made durable while the next is being filled. Truncation is a
// cut in memory that the next flight carries out, and times are stored with
// the data, so that a crash finds a file as it was at one of its flights.
//
// Barriers of small files that come at the same time are served in rounds: one
// of the callers stores what all of them wrote in one flight and flushes the
// log, while the next round gathers. Who waits for a round holds no lock.
//
// # Locks
//
// A lock is taken only while holding those above it in its branch:
//
//	node.io            several: by number
//	  node.fl          several: by number, or TryLock
//	    Local.gate
//	      Local.moves
//	        node.ns of directories    the upper one first, then by number
//	          node.ns of others       by number
//	            node.mu
//	              tableBin.mu
//	              Budget.mu
//	                queue.mu
//	quotaRoot.mu       above all of these: it is held while usage is measured
//	Local.copying      above all of these: it is held by a restore or clone
//	lockTable.mu       on its own
//	rounds.mu          on its own
//	file.mu, readAhead.mu, dirHandle.mu, space.mu, watchers.mu, policies.mu, quotas.mu
//	                   on their own
//
// No lock but io, fl and dirHandle.mu is held while bytes are read from or
// written to storage; gate and ns are held while a transaction commits, which
// waits for memory and not for a flush of the log.
//
// # Goroutines
//
// New starts Options.Flushers flushers, which take nodes from the queue; a
// ticker, which wakes them when something becomes due; and the janitor, which
// releases storage, that of deleted snapshots included, expires the trash and
// puts files under retention that are due. A flusher starts one more for each
// full flight of a big file, at most one of a file at a time. Close waits for
// all.
package vfs

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// FS is one volume as POSIX sees it. Every method may be called concurrently.
// Names are single components: "", ".", "..", a slash or a NUL in one is
// fsapi.Invalid, over 255 bytes fsapi.NameTooLong. Slices passed in belong to
// the caller again when the call returns. Implementations pass vfstest.
//
// Every call checks permissions by POSIX.1-2017 and acl(5) unless c.Checked.
// Errors are of fsapi kinds as errno(3) of the system call of the same name.
type FS interface {
	// Lookup finds a name. "." and ".." are understood here.
	Lookup(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) (fsapi.Attr, error)
	// Getattr is stat(2). It sees writes not yet stored.
	Getattr(ctx context.Context, ino fsapi.Ino) (fsapi.Attr, error)
	// Setattr is chmod(2), chown(2), truncate(2), utimensat(2).
	Setattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, s SetAttr) (fsapi.Attr, error)
	// Access is access(2): want is a set of 4 (read), 2 (write), 1 (execute).
	Access(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error
	// Readlink is the target of a symlink.
	Readlink(ctx context.Context, ino fsapi.Ino) (string, error)

	// Mknod makes an inode of any type: mkdir(2), mknod(2), symlink(2), and a
	// regular file without opening it.
	Mknod(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, n NewNode) (fsapi.Attr, error)
	// Create is open(2) with O_CREAT: flags may hold O_EXCL, O_TRUNC.
	Create(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string, n NewNode, flags OpenFlags) (fsapi.Attr, File, error)
	// Link is link(2); Unlink unlink(2); Rmdir rmdir(2).
	Link(ctx context.Context, c *fsapi.Cred, ino, dir fsapi.Ino, name string) (fsapi.Attr, error)
	Unlink(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error
	Rmdir(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, name string) error
	// Rename is renameat2(2). Replacing a regular file first makes the data
	// of the source durable as its policy's class says (D2).
	Rename(ctx context.Context, c *fsapi.Cred, fromDir fsapi.Ino, from string, toDir fsapi.Ino, to string, flags RenameFlags) error

	// Open is open(2) of a regular file.
	Open(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, flags OpenFlags) (File, error)
	// OpenDir is opendir(3).
	OpenDir(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (Dir, error)

	// Getxattr is the whole value; the caller owns it. system.posix_acl_access
	// and system.posix_acl_default are in the kernel's binary form (acl(5),
	// linux/posix_acl_xattr.h). user.strake.policy is the policy as text.
	Getxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) ([]byte, error)
	// Setxattr is setxattr(2) with its flags.
	Setxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string, value []byte, flags XattrFlags) error
	Listxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) ([]string, error)
	Removexattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) error

	// Statfs is statvfs(3) as seen at ino: the nearest quota or the volume.
	Statfs(ctx context.Context, ino fsapi.Ino) (fsapi.StatFS, error)
	// Batch does all of ops or none, in one transaction, in order.
	Batch(ctx context.Context, c *fsapi.Cred, ops []Op) ([]fsapi.Attr, error)
	// Syncfs is syncfs(2): everything written before the call is durable.
	Syncfs(ctx context.Context) error
	// Watch calls fn for every change after it happened, in order per inode,
	// until stop is called. fn must return quickly and not call FS.
	Watch(fn func(fsapi.Change)) (stop func())
	// Parent is the directory and name by which an inode is best known, for
	// building paths: fsapi.NotExist for orphans, 0 and "" for the root.
	Parent(ctx context.Context, ino fsapi.Ino) (dir fsapi.Ino, name string, err error)
}

// File is an open regular file. Every method may be called concurrently.
type File interface {
	Ino() fsapi.Ino
	Attr(ctx context.Context) (fsapi.Attr, error)
	// ReadAt fills p from off: fewer bytes than len(p) only at end of file,
	// with a nil error. fsapi.BadHandle where the file is not open for reading.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails; with OpenAppend it writes at the end
	// of file, wherever that is, atomically, and off is ignored.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// Truncate is ftruncate(2).
	Truncate(ctx context.Context, size int64) error
	// Flush is what close(2) of one descriptor does: POSIX locks of owner end,
	// and a write-back error not reported yet is returned, once.
	Flush(ctx context.Context, owner LockOwner) error
	// Sync is fsync(2), or fdatasync(2) with dataOnly (D2, D6).
	Sync(ctx context.Context, dataOnly bool) error
	// Allocate is fallocate(2).
	Allocate(ctx context.Context, mode AllocMode, off, n int64) error
	// Seek is lseek(2) with SEEK_DATA or SEEK_HOLE. fsapi.NoDevice past the
	// last data.
	Seek(ctx context.Context, off int64, hole bool) (int64, error)
	// CopyRange is copy_file_range(2): shares chunks where it can. dst must be
	// of the same FS, else fsapi.CrossDevice.
	CopyRange(ctx context.Context, off int64, dst File, dstOff, n int64) (int64, error)
	// GetLock finds a lock that would refuse l; Type LockNone where none does.
	GetLock(ctx context.Context, l Lock) (Lock, error)
	// SetLock takes or (LockNone) releases l. fsapi.WouldBlock where it is held
	// by another and wait is false; fsapi.Deadlock; fsapi.Interrupted.
	SetLock(ctx context.Context, l Lock, wait bool) error
	// Close releases the handle with its flock; it never blocks on storage.
	Close() error
}

// Dir is an open directory. One reader at a time.
type Dir interface {
	// Read calls fn for the entries after cookie (0: from the start, with
	// "." and ".." first), in order, until fn returns false. An entry there
	// the whole time between two reads is seen exactly once. attrs asks for
	// Dirent.Attr.
	Read(ctx context.Context, cookie uint64, attrs bool, fn func(fsapi.Dirent) bool) error
	// Sync is fsync(2) of the directory: its names are durable.
	Sync(ctx context.Context) error
	Close() error
}

// SetAttr is a change of attributes; nil fields stay. TouchAtime and TouchMtime
// are UTIME_NOW, which needs write permission only.
type SetAttr struct {
	Mode                   *uint32
	Uid, Gid               *uint32
	Size                   *int64
	Atime, Mtime           *time.Time
	TouchAtime, TouchMtime bool
	// Ctime, where set, is taken instead of now (a kernel with write-back
	// caching sends it).
	Ctime *time.Time
}

// NewNode is what to make. Umask is applied unless a default ACL takes its
// place, so Mode is as the process gave it.
type NewNode struct {
	Type   fsapi.FileType
	Mode   uint32
	Umask  uint32
	Rdev   uint32
	Target string // TypeSymlink
}

// OpenFlags is how to open a file.
type OpenFlags uint32

// The open flags, as of open(2).
const (
	OpenRead   OpenFlags = 1 << 0
	OpenWrite  OpenFlags = 1 << 1
	OpenAppend OpenFlags = 1 << 2
	OpenTrunc  OpenFlags = 1 << 3
	OpenExcl   OpenFlags = 1 << 4
	OpenSync   OpenFlags = 1 << 5 // each write is as if followed by fsync
	OpenDsync  OpenFlags = 1 << 6
	OpenDirect OpenFlags = 1 << 7 // do not keep read bytes in the chunk cache
	OpenExec   OpenFlags = 1 << 8 // by execve(2): needs execute, not read, permission
	OpenNoTime OpenFlags = 1 << 9 // O_NOATIME
)

// RenameFlags are those of renameat2(2).
type RenameFlags uint32

// The rename flags.
const (
	RenameNoReplace RenameFlags = 1
	RenameExchange  RenameFlags = 2
)

// XattrFlags are those of setxattr(2).
type XattrFlags uint32

// The xattr flags.
const (
	XattrCreate  XattrFlags = 1
	XattrReplace XattrFlags = 2
)

// AllocMode is the mode of fallocate(2), with its numbers.
type AllocMode uint32

// The modes of fallocate(2).
const (
	AllocKeepSize AllocMode = 0x01
	AllocPunch    AllocMode = 0x02 // with AllocKeepSize
	AllocCollapse AllocMode = 0x08
	AllocZero     AllocMode = 0x10
	AllocInsert   AllocMode = 0x20
	AllocUnshare  AllocMode = 0x40
)

// LockType is the type of a lock.
type LockType uint8

// The lock types.
const (
	LockNone  LockType = 0
	LockRead  LockType = 1
	LockWrite LockType = 2
)

// LockOwner tells holders of locks apart: Door and Owner together (for FUSE
// the kernel's lock owner, for NLM the host and its handle).
type LockOwner struct {
	Door  string
	Owner uint64
}

// Lock is a byte-range lock (fcntl(2)) or, with Flock, a whole-file lock
// (flock(2)). Both live side by side and do not see each other. End is the
// last byte, inclusive; 1<<63-1 is to the end.
type Lock struct {
	Owner LockOwner
	Flock bool
	Type  LockType
	Start int64
	End   int64
	Pid   uint32
}

// OpKind is what an Op of a Batch does. The numbers cross the wire.
type OpKind uint8

// The batch operations.
const (
	OpMkdir   OpKind = 1 // Path; Parents makes missing ones
	OpPut     OpKind = 2 // Path with Data
	OpRemove  OpKind = 3 // Path: a file, symlink or empty directory
	OpRename  OpKind = 4 // Path to To, replacing
	OpLink    OpKind = 5 // Path gets the second name To
	OpSetattr OpKind = 6
	OpSymlink OpKind = 7 // Path points to Target
	OpMknod   OpKind = 8 // Path is of Type, with Rdev: a device, FIFO or socket
)

// Op is one operation of a Batch. Paths are slash-separated from the root.
type Op struct {
	Kind    OpKind
	Path    string
	To      string
	Target  string
	Data    []byte // at most 1 MiB each, 8 MiB a batch
	Mode    uint32 // OpMkdir, OpPut, OpMknod; 0: 0755, 0644 and 0644
	Type    fsapi.FileType
	Rdev    uint32
	Parents bool
	Set     SetAttr
	// IfChange and IfIno, where not 0, are the Change and number the inode at
	// Path must have (fsapi.Precondition); IfAbsent asks that Path does not
	// exist. An OpSetattr with nothing in Set only checks.
	IfChange uint64
	IfIno    fsapi.Ino
	IfAbsent bool
}
