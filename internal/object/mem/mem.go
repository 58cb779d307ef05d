// Package mem is an object store in memory, for tests. It can be told to fail,
// to do a thing and say it failed, and to pay no heed to conditions.
//
// It owns: the bytes, and the faults. It must not know what is in them. It
// starts no goroutine.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// Op names a request.
type Op string

// The requests.
const (
	Get      Op = "get"
	Head     Op = "head"
	Put      Op = "put"
	Delete   Op = "delete" // Key is the first
	List     Op = "list"   // Key is the prefix
	Begin    Op = "begin"
	Part     Op = "part"
	Complete Op = "complete"
	Abort    Op = "abort"
)

// Request is one on its way.
type Request struct {
	Op  Op
	Key string // whole, with the prefix
	Len int    // bytes of the body
}

// Outcome is what becomes of a request. The zero Outcome lets it pass.
type Outcome struct {
	// Err is the answer; Late: after the request took place.
	Err  error
	Late bool
	// Hang waits until the context ends, before the request takes place.
	Hang bool
}

// Rule decides about requests. It may be called concurrently.
type Rule func(Request) Outcome

// Options of a Bucket.
type Options struct {
	// Name goes into the URL; empty: "mem".
	Name string
	// IgnoreConditions makes Put, or uploads in parts, or both, take place
	// whatever the condition, as some services do.
	IgnoreConditions, IgnoreInParts bool
	// Page is the number of objects in a page of a listing; 0: 1000.
	Page int
	// MinPart is bytes; 0: none.
	MinPart int64
	// Whole is provider.Traits.Whole.
	Whole int64
	Clock clock.Clock // nil: the machine's
}

// Bucket is a set of objects that outlives the stores opened on it. Safe for
// concurrent use.
type Bucket struct {
	opts Options

	mu sync.Mutex
	// All below is guarded by mu.
	rule    Rule
	objects map[string]entry
	uploads map[*upload]struct{}
	last    int64 // generation
}

type entry struct {
	object.Object
	data []byte // immutable
	mark provider.Mark
}

var _ provider.API = (*Bucket)(nil)

// New makes an empty bucket.
func New(o Options) *Bucket {
	if o.Name == "" {
		o.Name = "mem"
	}
	if o.Page == 0 {
		o.Page = 1000
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	return &Bucket{opts: o, objects: map[string]entry{}, uploads: map[*upload]struct{}{}}
}

// Open opens a store on the bucket.
func (b *Bucket) Open(o provider.Options) (*provider.Store, error) { return provider.New(b, o) }

// SetRule replaces the rule for requests that begin from now on; nil: none.
func (b *Bucket) SetRule(r Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rule = r
}

// Uploads is the number of uploads in parts that are neither completed nor given
// up.
func (b *Bucket) Uploads() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.uploads)
}

// Traits implements provider.API.
func (b *Bucket) Traits() provider.Traits {
	return provider.Traits{Kind: "mem", URL: "mem://" + b.opts.Name, DeleteBatch: 100, MinPart: b.opts.MinPart, MaxParts: 10_000, Whole: b.opts.Whole}
}

// Close implements provider.API.
func (b *Bucket) Close() error { return nil }

// do makes a request as the rule has it. act is called with mu held.
func (b *Bucket) do(ctx context.Context, r Request, act func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	rule := b.rule
	b.mu.Unlock()
	var o Outcome
	if rule != nil {
		o = rule(r)
	}
	if o.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if o.Err != nil && !o.Late {
		return o.Err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := act(); err != nil {
		return err
	}
	return o.Err
}

// find is an object. Requires mu.
func (b *Bucket) find(key string) (entry, error) {
	e, ok := b.objects[key]
	if !ok {
		return e, fsapi.Errorf(fsapi.NotExist, "no such object")
	}
	return e, nil
}

// Get implements provider.API.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (body io.ReadCloser, o object.Object, err error) {
	err = b.do(ctx, Request{Get, key, int(n)}, func() error {
		e, err := b.find(key)
		if err == nil && off < e.Size {
			body = io.NopCloser(bytes.NewReader(e.data[off:min(off+n, e.Size)]))
		}
		o = e.Object
		return err
	})
	return body, o, err
}

// Head implements provider.API.
func (b *Bucket) Head(ctx context.Context, key string) (o object.Object, mark provider.Mark, err error) {
	err = b.do(ctx, Request{Head, key, 0}, func() error {
		e, err := b.find(key)
		o, mark = e.Object, e.mark
		return err
	})
	return o, mark, err
}

// Put implements provider.API.
func (b *Bucket) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (v object.Version, err error) {
	data := make([]byte, body.Size())
	if _, err := io.ReadFull(body, data); err != nil {
		return "", fsapi.Errorf(fsapi.Invalid, "the body is shorter than its size: %v", err)
	}
	err = b.do(ctx, Request{Put, key, len(data)}, func() (err error) {
		v, err = b.set(key, data, o, b.opts.IgnoreConditions)
		return err
	})
	return v, err
}

// set makes an object. Requires mu.
func (b *Bucket) set(key string, data []byte, o provider.PutOptions, always bool) (object.Version, error) {
	old, there := b.objects[key]
	want := o.Cond.Version()
	if !always && (o.Cond.Absent() && there || want != "" && want != old.Version) {
		return "", fsapi.Errorf(fsapi.Precondition, "the object has version %q", old.Version)
	}
	b.last++
	v := object.Version(fmt.Sprintf("g%d", b.last))
	b.objects[key] = entry{object.Object{Key: key, Size: int64(len(data)), Modified: b.opts.Clock.Now(), Version: v}, data, o.Mark}
	return v, nil
}

// Delete implements provider.API.
func (b *Bucket) Delete(ctx context.Context, keys []string) error {
	return b.do(ctx, Request{Delete, keys[0], 0}, func() error {
		for _, key := range keys {
			delete(b.objects, key)
		}
		return nil
	})
}

// List implements provider.API. Tokens are the last key of the page before.
func (b *Bucket) List(ctx context.Context, prefix, after, token string) (page provider.Page, err error) {
	after = max(after, token)
	err = b.do(ctx, Request{List, prefix, 0}, func() error {
		keys := slices.Sorted(maps.Keys(b.objects))
		keys = keys[sort.Search(len(keys), func(i int) bool { return keys[i] > after && keys[i] >= prefix }):]
		for _, key := range keys {
			if !strings.HasPrefix(key, prefix) {
				break
			}
			if len(page.Objects) == b.opts.Page {
				page.Next = page.Objects[len(page.Objects)-1].Key
				break
			}
			page.Objects = append(page.Objects, b.objects[key].Object)
		}
		return nil
	})
	return page, err
}
