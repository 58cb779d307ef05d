package transfer

import (
	"context"
	"io"
	"maps"
	"path"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Entry is one name of an inode, and what lstat(2) says of it.
type Entry struct {
	Path     string // from the root of its tree, slash-separated, not cleaned of any byte; "" is the root
	Type     fsapi.FileType
	Mode     uint32 // permission bits with set-id and sticky
	Uid, Gid uint32
	Nlink    uint32
	Rdev     uint32
	Size     int64
	Atime    time.Time
	Mtime    time.Time
	Ctime    time.Time
	Target   string            // of a symlink
	ID       string            // the same for all names of an inode
	Xattrs   map[string][]byte // nil where there are none
}

// Place tells a directory from others, also one on the server from a mount of
// it here: file systems number inodes alike, but do not change those of one
// number in the same nanosecond.
type Place struct {
	Ino                  uint64
	MtimeNano, CtimeNano int64 // Unix
}

// Name is the last part of Path.
func (e *Entry) Name() string { return path.Base(e.Path) }

// Tree is a file system below one directory. Safe for concurrent use. Errors are
// of fsapi kinds and name the path.
type Tree interface {
	// String says where it is, for messages.
	String() string
	// List is the entries of a directory in order of name, with their
	// extended attributes: fsapi.NotExist, fsapi.NotDir.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Stat is one entry.
	Stat(ctx context.Context, path string) (Entry, error)
	// Above is the root, which must be there, and the directories above it.
	Above(ctx context.Context) ([]Place, error)
	// Open opens a regular file for reading.
	Open(ctx context.Context, path string) (Reader, error)

	// Apply does small changes and says how each ended. None waits for
	// another, except that they are done in order.
	Apply(ctx context.Context, ops []Op) []error
	// Store writes a regular file whole and puts it, with its attributes, in
	// the place of what has its name, which must be no directory. tick is told
	// of bytes as they go. drop is as in Op.
	Store(ctx context.Context, e *Entry, drop []string, from Reader, tick func(int64)) error
	// Remove removes a name, of a directory with all that it holds.
	Remove(ctx context.Context, path string) error
	// Sync returns when everything done is durable.
	Sync(ctx context.Context) error
}

// Reader is an open regular file. Not for concurrent use.
type Reader interface {
	Size() int64
	// Ranges calls fn for what is not a hole, ascending.
	Ranges(ctx context.Context, fn func(off, n int64) error) error
	// Section reads [off, off+n).
	Section(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// Changed reports whether the file is not the one any more that it was
	// when it was opened.
	Changed(ctx context.Context) (bool, error)
	// Close releases the file: nothing is to be lost by it.
	Close()
}

// OpKind is what an Op does.
type OpKind uint8

// The kinds.
const (
	OpMake OpKind = iota // what Entry says, with its attributes; a directory gets these later
	OpLink               // Entry.Path becomes a further name of First
	OpAttr               // the attributes of Entry are set
)

// Op is a small change.
type Op struct {
	Kind  OpKind
	Entry *Entry
	Data  []byte // of a regular file
	First string // OpLink
	// Replace has what is there removed first: it is no directory.
	Replace bool
	// Drop names extended attributes that are there, or may be, and are not in
	// Entry.
	Drop []string
}

// attributes reports whether an Op sets attributes.
func (op *Op) attributes() bool {
	return op.Kind == OpAttr || op.Kind == OpMake && op.Entry.Type != fsapi.TypeDirectory
}

// tmpPrefix starts the names under which files are written until they are
// whole: the same in each run, so that what was cut short is found.
const tmpPrefix = ".strake-copy-"

// copied reports whether an extended attribute is copied: a policy is
// the store's own.
func copied(name string) bool { return name != "user.strake.policy" }

// dropped names the attributes of old that are not in e.
func dropped(e, old *Entry) (names []string) {
	for name := range old.Xattrs {
		if _, ok := e.Xattrs[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// accessACL is what a new file may inherit, and defaultACL from what.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

func sameXattrs(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}
