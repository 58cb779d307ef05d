// Package object is the seam to object stores: named bodies of bytes that are
// replaced whole, under conditions. Below it are S3 and what speaks it, Google
// Cloud Storage, Azure Blob Storage, a directory and memory; on it stand
// drive/bucket and what else keeps its state in a bucket.
//
// It owns: the Store seam, keys, conditions, the probe that finds out whether a
// store keeps them. It must not know providers, nor what is in the objects.
package object

import (
	"context"
	"io"
	"time"
)

// Store is a bucket, or what is below a prefix of one. Every method may be
// called concurrently. Implementations pass objecttest.
//
// A key is one or more slash-separated parts (CheckKey). No key may be a
// leading part of another's, as "a" is of "a/b"; which of the two calls fails
// then, and how, is not specified. What a call has read or written is seen by
// every call that begins after its end, List included.
//
// Errors have one of these kinds and name the store and the key:
//
//	fsapi.NotExist      no object of that key
//	fsapi.Precondition  the condition of a Put or Commit does not hold; nothing was written
//	fsapi.Access        the credentials do not allow it
//	fsapi.Unauthorized  there are no credentials, or the provider does not know them
//	fsapi.NoDevice      the bucket itself is not there
//	fsapi.NoSpace       the provider's or the directory's space is used up
//	fsapi.Invalid       a bad key, offset or setting
//	fsapi.NotSupported  the store cannot do it
//	fsapi.Interrupted   ctx was cancelled
//	fsapi.Closed        the store is closed
//	fsapi.TimedOut, fsapi.IO, fsapi.Busy, fsapi.Conflict
//	                    transient: no answer in time, a broken connection or a
//	                    provider's 5xx, too many requests, a lost race between
//	                    conditional writes that the provider left undecided
//
// The last line is what is worth another attempt (Transient): it is decided
// here, by what the provider answered, and by nobody above. A store has already
// made the attempts it was configured for. After one of these kinds or
// Interrupted, a Put, Commit or Delete may have happened, or may yet. A store
// that makes a further attempt of a conditional Put or Commit recognizes its own
// earlier one: Precondition always means that another's object is there.
type Store interface {
	// Info is who this is; it does no I/O.
	Info() Info
	// Get fills p from offset off of an object. Fewer bytes than len(p) come
	// with io.EOF. The Object is of the version that was read. An empty p reads
	// nothing, and still says NotExist.
	Get(ctx context.Context, key string, off int64, p []byte) (int, Object, error)
	// Open starts reading n bytes of an object from off, n being above 0: they, or
	// those up to the object's end, come as they arrive, while ctx lives and no
	// slower than a connection may be that is not taken for dead. What breaks off is
	// not asked for again. The caller closes the body, for which Close of the store
	// waits.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, Object, error)
	// Stat is an object's size, version and time of last change.
	Stat(ctx context.Context, key string) (Object, error)
	// Put sets an object to the first size bytes of body, atomically and
	// durably, if cond holds. It is one request whatever the size; body may be
	// read more than once, at any offset, until Put returns.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, cond Condition) (Version, error)
	// Create starts an object whose bytes come one after the other. size is the
	// expected size in bytes, or 0 where it is not known. An object no larger
	// than Info.PartSize becomes one request; larger ones are sent in parts
	// while they are written, or held and sent in one request, where the provider
	// bills parts and a configured budget of memory allows it. A size above both
	// asks for parts from the start. A writer holds one part in memory besides, and
	// all writers of a store together a configured number of parts more, on their
	// way. ctx holds for Write.
	Create(ctx context.Context, key string, size int64, cond Condition) (Writer, error)
	// Delete removes objects durably, in as few requests as the provider takes.
	// Keys that are not there are passed over. After an error any of them may
	// be gone.
	Delete(ctx context.Context, keys ...string) error
	// List calls fn for objects whose key starts with prefix and sorts after
	// `after`, in ascending order of their bytes, until fn returns an error,
	// which List returns (io.EOF: nil). fn may call the store.
	List(ctx context.Context, prefix, after string, fn func(Object) error) error
	// Requests counts what was asked of the provider since the store was
	// opened. It does no I/O.
	Requests() Requests
	// Close releases the store and aborts writers that are not committed.
	Close() error
}

// Writer writes one object from its start to its end. One goroutine at a time.
type Writer interface {
	// Write copies p. It may wait for parts written earlier.
	io.Writer
	// Take is Write without the copy: nobody changes p from now on. done is called
	// once, when nobody reads p any more, which may be after Commit; after an error,
	// and where an attempt ended without an answer, perhaps never.
	Take(p []byte, done func()) error
	// Commit makes the object durable, then visible, if the condition given to
	// Create holds now. The writer is done, whatever comes of it.
	Commit(ctx context.Context) (Version, error)
	// Abort drops what was written, in the store too. It may be called after
	// Commit, and does nothing then.
	Abort()
}

// Version tells apart the bodies that a key has had: an ETag or a generation.
// It is opaque and not empty; two bodies of one key with equal bytes may have
// equal versions.
type Version string

// Condition is what must hold for a Put or Commit to take place. The zero
// Condition always holds.
type Condition struct {
	absent  bool
	version Version
}

// IfAbsent holds while there is no object of the key.
func IfAbsent() Condition { return Condition{absent: true} }

// IfVersion holds while the object has version v, which must not be empty.
func IfVersion(v Version) Condition { return Condition{version: v} }

// Absent reports whether the condition is IfAbsent.
func (c Condition) Absent() bool { return c.absent }

// Version is the version that IfVersion was given; empty for other conditions.
func (c Condition) Version() Version { return c.version }

// Object is one stored key. Those listed have a Version too.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time // by the provider's clock
	Version  Version
}

// Info is what is fixed about a store.
type Info struct {
	Kind     string // "s3", "gcs", "azure", "dir", "mem"
	URL      string // for people and for opening it again; never a secret
	Class    string // storage class of new objects, as the provider calls it; empty: the bucket's own
	PartSize int64  // bytes; see Store.Create
}

// Requests are what a provider counts, and mostly bills, since the store was
// opened. Attempts that failed are counted too.
type Requests struct {
	Puts    int64 // objects, parts, and the beginning and end of uploads in parts
	Gets    int64
	Heads   int64
	Lists   int64 // pages
	Deletes int64 // requests, each for one key or for a batch; uploads given up too
	Retries int64 // those among the above that repeated one which failed
	Sent    int64 // bytes of bodies
	Read    int64 // bytes of bodies
}
