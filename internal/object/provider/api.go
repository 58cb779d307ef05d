// Package provider makes an object.Store of a provider's API, which answers one
// request a call.
//
// It owns: what is the same for all providers: keys below a prefix, attempts
// and how a conditional write recognizes its own earlier one, uploads in parts or
// held in memory for one request,
// deletion in batches, paging, counting, closing. It must not know a provider.
//
// Locks: Store.mu and writer.mu are independent and not held during requests, but
// writer.mu is held while a writer waits for room to send a part, or for memory to
// hold it. budget.mu comes after writer.mu and is held for no wait.
// Goroutines: one for each part on its way, at most Options.Parallel of a Store;
// Commit, Abort and Close wait for them.
package provider

import (
	"context"
	"io"

	"github.com/strakefs/strake/internal/object"
)

// API is a provider's bucket. Every method may be called concurrently, makes
// one attempt, and answers with errors of object.Store's kinds; Store adds the
// names of store and key to them. Keys are whole, with the prefix.
type API interface {
	// Traits are what is fixed. They do no I/O.
	Traits() Traits
	// Get opens n bytes of an object from off, n being above 0: a body that gives
	// them, or those up to the object's end, as they arrive and while ctx lives.
	// The caller closes it. At the end and beyond it is nil.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error)
	// Head is an object and the mark it was written with, "" where there is
	// none.
	Head(ctx context.Context, key string) (object.Object, Mark, error)
	// Put writes a whole object.
	Put(ctx context.Context, key string, body *io.SectionReader, o PutOptions) (object.Version, error)
	// Delete removes at most Traits.DeleteBatch keys; those that are not there
	// are passed over.
	Delete(ctx context.Context, keys []string) error
	// List answers with one page of objects in ascending order of key, from the
	// first that sorts after `after`, or an earlier one where the provider
	// cannot begin there; token is Page.Next of the page before, empty for the
	// first.
	List(ctx context.Context, prefix, after, token string) (Page, error)
	// Begin starts an upload in parts. Nothing can be seen of it before it is
	// completed.
	Begin(ctx context.Context, key string, o PutOptions) (Upload, error)
	// Close releases connections.
	Close() error
}

// Upload is an object on its way in parts.
type Upload interface {
	// Part sends part n, counted from 0. It may be called concurrently unless
	// Traits.Serial. A part may be sent again, which replaces it. The body of one
	// that is smaller than PutOptions.PartSize, which is the last, may be read until
	// Complete or Abort has returned.
	Part(ctx context.Context, n int, body *io.SectionReader) error
	// Complete makes an object of the first n parts under the conditions given
	// to Begin. fsapi.NotExist: there is no such upload, which may have been
	// completed.
	Complete(ctx context.Context, n int) (object.Version, error)
	// Abort gives the upload up.
	Abort(ctx context.Context) error
}

// Page is a part of a listing.
type Page struct {
	Objects []object.Object
	Next    string // token of the next page; empty: this is the last
}

// Mark is a random word that an object was written with, which tells a
// provider's client its own object from another's. It is 32 lower-case
// hexadecimal digits.
type Mark string

// PutOptions go with each write.
type PutOptions struct {
	Cond object.Condition
	Mark Mark
	// PartSize is bytes of each part of an upload but the last; 0 for Put.
	PartSize int64
}

// Traits are what is fixed about an API.
type Traits struct {
	Kind  string // object.Info.Kind
	URL   string // of the bucket, without prefix, settings and secrets
	Query string // settings of the bucket, from "?" on, without secrets
	Class string // object.Info.Class
	// DeleteBatch is the number of keys Delete takes in one request.
	DeleteBatch int
	// MinPart is bytes that every part but the last must have; MaxParts the
	// number of parts of an object.
	MinPart  int64
	MaxParts int
	// PartAlign is what the sizes of parts but the last are multiples of, in
	// bytes; 0: anything.
	PartAlign int64
	// Whole is the bytes up to which an object had better be one request than
	// several, though nothing of it is on its way before its end; 0: parts cost
	// nothing.
	Whole int64
	// Serial: parts are sent one after the other, in order. One is sent again
	// right after it failed only.
	Serial bool
	// FreeParts: parts are not requests of their own that anybody counts.
	FreeParts bool
}
