package chaos

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	objmem "github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
)

// life is from one opening of the store to its end, as those see it who are asked
// for something: a process that is killed, or held.
type life struct {
	dead atomic.Bool // nothing that it asks happens any more
	hold hold
	all  *calls
	// memory is of all the buckets of its drives.
	memory *provider.Memory
	// asked is told of each request to the metadata's bucket before it takes place;
	// nil: nobody is.
	asked atomic.Pointer[func()]
	// prompt: nothing that it asks is on its way after it has died.
	prompt bool

	mu    sync.Mutex
	calls map[string]int // by what is asked; guarded by mu
	// faltered is how many calls of a flaky drive failed in a row; guarded by mu.
	faltered map[fsapi.DriveID]int
}

func newLife(all *calls) *life {
	return &life{calls: map[string]int{}, faltered: map[fsapi.DriveID]int{}, all: all, memory: provider.NewMemory(holdSize)}
}

// chance is a number of [0, n), which depends on what is asked, and on how often
// it was asked in this life.
func (l *life) chance(seed uint64, n int, what ...any) int {
	key := fmt.Sprint(what...)
	l.mu.Lock()
	l.calls[key]++
	count := l.calls[key]
	l.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprint(h, seed, count, key)
	return rand.New(rand.NewPCG(h.Sum64(), 0)).IntN(n)
}

// hold keeps a process from doing anything that others see, as one that is stopped:
// what it asks a bucket for waits, whatever its deadline.
type hold struct {
	mu    sync.Mutex
	begun bool          // once in a life; guarded by mu
	over  chan struct{} // closed at its end; nil: there is none; guarded by mu
}

func (h *hold) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.begun {
		h.begun, h.over = true, make(chan struct{})
	}
}

func (h *hold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over != nil {
		close(h.over)
		h.over = nil
	}
}

// now is closed when the hold that there is ends; nil: there is none.
func (h *hold) now() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

func (h *hold) wait() {
	if over := h.now(); over != nil {
		<-over
	}
}

// fate is what becomes of a request.
type fate struct {
	wait time.Duration // until it takes place
	err  error         // the answer
	late bool          // err comes after it took place
	// stray is how long a change is on its way for which nobody waits any more: one
	// that is refused, given up, or of a process that died; 0: it never arrives.
	stray time.Duration
}

// way is how one process gets to a bucket.
type way struct {
	*objmem.Bucket
	of    string // for the account
	seed  uint64
	life  *life
	fate  func(objmem.Request) fate
	asked bool // life.asked is told
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

var _ provider.API = (*way)(nil)

// killed is final: nobody asks again.
func killed() error { return fsapi.Errorf(fsapi.Fenced, "the process was killed") }

// do makes a request as its fate has it. act makes it take place: what it reads is
// its own.
func (y *way) do(ctx context.Context, r objmem.Request, changes bool, act func(context.Context) error) error {
	y.life.hold.wait() // a process that is stopped asks for nothing
	if y.life.dead.Load() {
		return killed()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if asked := y.life.asked.Load(); y.asked && asked != nil {
		(*asked)()
	}
	f := y.fate(r)
	y.life.all.note(y.of, string(r.Op), r.Key, 0, r.Len, f.err, int(f.wait/time.Millisecond))
	always := context.WithoutCancel(ctx)
	stray := func() {
		if changes && f.stray > 0 && !y.life.prompt {
			go func() {
				time.Sleep(f.stray)
				_ = act(always)
			}()
		}
	}
	if f.wait > 0 {
		select {
		case <-time.After(f.wait):
		case <-ctx.Done():
		}
	}
	if over := y.life.hold.now(); over != nil {
		// It was on its way when the process was stopped: it gets there now, meanwhile,
		// or when that goes on.
		switch y.life.chance(y.seed, 3, "held", r.Op, r.Key) {
		case 0:
			<-over
		case 1:
			select {
			case <-over:
			case <-time.After(time.Duration(y.life.chance(y.seed, 300, "meanwhile", r.Op, r.Key)) * time.Second):
			}
		}
	}
	switch {
	case y.life.dead.Load():
		stray()
		return killed()
	case ctx.Err() != nil:
		stray()
		return ctx.Err()
	case f.err != nil && !f.late:
		stray()
		return f.err
	}
	err := act(always)
	y.life.hold.wait()
	switch {
	case y.life.dead.Load():
		return killed()
	case err == nil && ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return f.err
	}
	return err
}

// Get implements provider.API.
func (y *way) Get(ctx context.Context, key string, off, n int64) (body io.ReadCloser, o object.Object, err error) {
	err = y.do(ctx, objmem.Request{Op: objmem.Get, Key: key, Len: int(n)}, false, func(ctx context.Context) (err error) {
		body, o, err = y.Bucket.Get(ctx, key, off, n)
		return err
	})
	if err != nil {
		body = nil
	}
	return body, o, err
}

// Head implements provider.API.
func (y *way) Head(ctx context.Context, key string) (o object.Object, mark provider.Mark, err error) {
	err = y.do(ctx, objmem.Request{Op: objmem.Head, Key: key}, false, func(ctx context.Context) (err error) {
		o, mark, err = y.Bucket.Head(ctx, key)
		return err
	})
	return o, mark, err
}

// Put implements provider.API.
func (y *way) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (object.Version, error) {
	data := make([]byte, body.Size())
	if _, err := body.ReadAt(data, 0); err != nil && err != io.EOF {
		return "", fsapi.Errorf(fsapi.Invalid, "read the body: %w", err)
	}
	return y.made(ctx, objmem.Request{Op: objmem.Put, Key: key, Len: len(data)}, func(ctx context.Context) (object.Version, error) {
		return y.Bucket.Put(ctx, key, section(data), o)
	})
}

// made is do for a request that makes an object, whose version is its answer.
func (y *way) made(ctx context.Context, r objmem.Request, fn func(context.Context) (object.Version, error)) (object.Version, error) {
	var mu sync.Mutex // a request that nobody waits for any more answers nobody
	var v object.Version
	err := y.do(ctx, r, true, func(ctx context.Context) error {
		got, err := fn(ctx)
		mu.Lock()
		defer mu.Unlock()
		v = got
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return v, err
}

// Delete implements provider.API.
func (y *way) Delete(ctx context.Context, keys []string) error {
	return y.do(ctx, objmem.Request{Op: objmem.Delete, Key: keys[0], Len: len(keys)}, true, func(ctx context.Context) error {
		return y.Bucket.Delete(ctx, keys)
	})
}

// List implements provider.API.
func (y *way) List(ctx context.Context, prefix, after, token string) (page provider.Page, err error) {
	err = y.do(ctx, objmem.Request{Op: objmem.List, Key: prefix}, false, func(ctx context.Context) (err error) {
		page, err = y.Bucket.List(ctx, prefix, after, token)
		return err
	})
	return page, err
}

// Begin implements provider.API.
func (y *way) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	var u provider.Upload
	err := y.do(ctx, objmem.Request{Op: objmem.Begin, Key: key}, false, func(ctx context.Context) (err error) {
		u, err = y.Bucket.Begin(ctx, key, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &wayUpload{u, y, key}, nil
}

// wayUpload is an upload in parts on a way.
type wayUpload struct {
	provider.Upload
	way *way
	key string
}

// Part implements provider.Upload. One that is late is of no use to anybody.
func (u *wayUpload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	return u.way.do(ctx, objmem.Request{Op: objmem.Part, Key: u.key, Len: int(body.Size())}, false, func(ctx context.Context) error {
		return u.Upload.Part(ctx, n, body)
	})
}

// Complete implements provider.Upload.
func (u *wayUpload) Complete(ctx context.Context, n int) (object.Version, error) {
	return u.way.made(ctx, objmem.Request{Op: objmem.Complete, Key: u.key}, func(ctx context.Context) (object.Version, error) {
		return u.Upload.Complete(ctx, n)
	})
}

// Abort implements provider.Upload.
func (u *wayUpload) Abort(ctx context.Context) error {
	return u.way.do(ctx, objmem.Request{Op: objmem.Abort, Key: u.key}, false, u.Upload.Abort)
}
