// Package drive stores named immutable blobs of bytes: segments, shards,
// checkpoints. A Drive is one place: a directory on a local disk or a NAS
// mount, or a prefix in a bucket.
//
// It owns: the Drive seam, identity and state of drives, the decorators
// (retry, fault, limit). It must not know chunks, segments' contents or inodes.
package drive

import (
	"context"
	"io"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Drive stores blobs under names. A name is one to four slash-separated parts
// of [a-zA-Z0-9._-], none of them starting with a dot, at most 200 bytes
// (CheckName). No blob's name may be a leading part of another's, as "a" is of
// "a/b"; which of the two calls fails then, and how, is not specified.
// Every method may be called concurrently. Implementations pass drivetest.
//
// Errors: fsapi.NotExist for a name that is not there; fsapi.Exist from Commit
// of a name that is (D3: nothing is overwritten); fsapi.NoSpace; fsapi.IO for
// any other failure of the place; fsapi.Fenced; fsapi.Closed; fsapi.TimedOut;
// of a bucket fsapi.Access and fsapi.Unauthorized; fsapi.NoDevice where the place
// is not there, or another is, or it is known to be away. An error names the drive and
// the blob.
type Drive interface {
	// Info is who this is; it does no I/O.
	Info() Info
	// Create starts a blob. Nothing can be seen under the name before Commit.
	// size is the expected size in bytes, or 0 where it is not known.
	Create(ctx context.Context, name string, size int64) (Writer, error)
	// ReadAt fills p from off. Fewer bytes than len(p) come with io.EOF.
	ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error)
	// Stat is a blob's size and time of creation.
	Stat(ctx context.Context, name string) (Blob, error)
	// List calls fn for committed blobs whose name starts with prefix and
	// sorts after `after`, in ascending order of name, until fn returns an
	// error, which List returns (io.EOF: nil).
	List(ctx context.Context, prefix, after string, fn func(Blob) error) error
	// Delete removes a blob durably. fsapi.NotExist where it is not there.
	Delete(ctx context.Context, name string) error
	// Capacity measures the place.
	Capacity(ctx context.Context) (Capacity, error)
	// Replace sets a small blob (at most 1 MiB) whole, atomically and durably,
	// whether or not it was there: identity, keyring copies, pointers. It is
	// the one exception to D3 and not for segments.
	Replace(ctx context.Context, name string, data []byte) error
	// Close releases the drive. Writers not committed are aborted.
	Close() error
}

// BatchDeleter is a Drive that removes many blobs at less cost than one by one.
type BatchDeleter interface {
	// DeleteMany removes blobs durably. Names that are not there are passed
	// over. After an error any of them may be gone.
	DeleteMany(ctx context.Context, names []string) error
}

// DeleteMany removes blobs with d's own DeleteMany or one by one. Names that
// are not there are passed over.
func DeleteMany(ctx context.Context, d Drive, names []string) error {
	if b, ok := d.(BatchDeleter); ok {
		return b.DeleteMany(ctx, names)
	}
	for _, name := range names {
		if err := d.Delete(ctx, name); err != nil && fsapi.KindOf(err) != fsapi.NotExist {
			return err
		}
	}
	return nil
}

// Warmer is a Drive with a cache into which whole blobs can be brought.
type Warmer interface {
	// Warm brings a blob into the cache, whatever its place for it would be by
	// use, and says how many bytes it fetched: 0 where all were there.
	Warm(ctx context.Context, name string) (int64, error)
}

// Forgetter is a Drive with a cache that can be told that what it gave is not to
// be trusted.
type Forgetter interface {
	// Forget drops what is cached of a blob.
	Forget(name string)
}

// Writer writes one blob from its start to its end. One goroutine at a time.
type Writer interface {
	io.Writer
	// Commit makes the blob's bytes and name durable, then visible. After an
	// error nothing is visible and the writer is done.
	Commit(ctx context.Context) error
	// Abort drops what was written. It may be called after Commit, and does
	// nothing then.
	Abort()
}

// Taker is a Writer that takes memory over instead of copying it.
type Taker interface {
	// Take is Write of p, which nobody changes from now on. done is called once,
	// when nobody reads p any more, which may be after Commit; after an error, and
	// where a part of the work was left behind, perhaps never.
	Take(p []byte, done func()) error
}

// Give writes p with w's Take or, where it has none, with Write.
func Give(w Writer, p []byte, done func()) error {
	if t, ok := w.(Taker); ok {
		return t.Take(p, done)
	}
	defer done()
	_, err := w.Write(p)
	return err
}

// Doing is what a call does, for errors: its verb and, where it is about one, the blob.
func Doing(verb, name string) string {
	if name == "" {
		return verb
	}
	return verb + " " + name
}

// Info is what is fixed about a drive.
type Info struct {
	ID     fsapi.DriveID
	Name   string // as the user named it
	Kind   string // "dir", "mem", "bucket"
	Where  string // path or URL, for people
	Tier   string // hot, warm, cold
	Domain string // failure domain: two drives with one Domain fail together
	// Spindown: the place sleeps while nothing is asked of it, and waking it is
	// slow: work that nobody waits for is gathered, reads go elsewhere first.
	Spindown bool
}

// Blob is one stored name.
type Blob struct {
	Name    string
	Size    int64
	Created time.Time
}

// Capacity of a drive in bytes. Avail is what Strake may still write, reserve
// taken off.
type Capacity struct{ Total, Used, Avail int64 }
