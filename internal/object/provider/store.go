package provider

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// Defaults of Options.
const (
	DefaultPartSize = 16 << 20 // bytes
	DefaultParallel = 4
	DefaultTimeout  = time.Minute
)

// minRate is bytes a second below which the connection of an answer is taken for
// dead.
const minRate = 64 << 10

// Options are what all providers share.
type Options struct {
	// Prefix is parts of a key without a slash at either end; empty: none.
	Prefix string
	// PartSize is bytes of each part of an upload; 0: DefaultPartSize. What the
	// provider cannot take is raised.
	PartSize int64
	// Parallel bounds the parts on their way, of all writers together; 0:
	// DefaultParallel.
	Parallel int
	// Hold is memory, shared with other stores, for objects that had better be one
	// request, see Traits.Whole; nil: all that is larger than a part goes in parts.
	Hold *Memory
	// Retry bounds the attempts of each request; the zero Policy: 6 attempts
	// within a minute.
	Retry backoff.Policy
	// Timeout is how long one attempt may take, besides the time that the body of
	// its answer takes at 64 KiB/s; of one that sends a body, how long nothing of it
	// may move, see upload. 0: DefaultTimeout.
	Timeout time.Duration
}

func (o *Options) fill(t Traits) {
	if o.PartSize == 0 {
		o.PartSize = DefaultPartSize
	}
	o.PartSize = max(o.PartSize, t.MinPart)
	if t.PartAlign > 0 {
		o.PartSize = (o.PartSize + t.PartAlign - 1) / t.PartAlign * t.PartAlign
	}
	if o.Parallel == 0 {
		o.Parallel = DefaultParallel
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Retry.Attempts == 0 {
		c, r := o.Retry.Clock, o.Retry.Random
		o.Retry = backoff.Policy{Attempts: 6, Base: 200 * time.Millisecond, Max: 10 * time.Second, Total: time.Minute, Clock: c, Random: r}
	}
}

// Store is an object.Store over an API.
type Store struct {
	api    API
	opts   Options
	traits Traits
	info   object.Info
	prefix string // ends with a slash, or is empty
	label  string // info.URL without settings
	counts counts
	slots  chan struct{} // one for each part on its way
	parts  parts         // memory of parts
	budget budget        // for objects that are sent whole

	mu sync.Mutex
	// All below is guarded by mu.
	closed  bool
	calls   int           // running
	idle    chan struct{} // closed when closed and no calls run
	writers map[*writer]struct{}
}

var _ object.Store = (*Store)(nil)

// New makes a Store, which owns api from now on. fsapi.Invalid for a bad prefix.
func New(api API, o Options) (*Store, error) {
	t := api.Traits()
	o.fill(t)
	s := &Store{
		api: api, opts: o, traits: t,
		label: strings.TrimSuffix(t.URL, "/"),
		slots: make(chan struct{}, o.Parallel), budget: budget{m: o.Hold, whole: t.Whole, part: o.PartSize}, idle: make(chan struct{}), writers: map[*writer]struct{}{},
	}
	if o.Prefix != "" {
		if err := object.CheckKey(o.Prefix); err != nil {
			return nil, fsapi.Errorf(fsapi.Invalid, "%s: prefix: %w", t.URL, err)
		}
		s.prefix = o.Prefix + "/"
		s.label += "/" + o.Prefix
	}
	s.info = object.Info{Kind: t.Kind, URL: s.label + t.Query, Class: t.Class, PartSize: o.PartSize}
	return s, nil
}

// Info implements object.Store.
func (s *Store) Info() object.Info { return s.info }

// Requests implements object.Store.
func (s *Store) Requests() object.Requests { return s.counts.requests() }

// Get implements object.Store.
func (s *Store) Get(ctx context.Context, key string, off int64, p []byte) (n int, o object.Object, err error) {
	defer func() { err = s.fail("get", key, err) }()
	if err := s.enterKey(ctx, key); err != nil {
		return 0, o, err
	}
	defer s.leave()
	if off < 0 {
		return 0, o, fsapi.Errorf(fsapi.Invalid, "offset %d", off)
	}
	if len(p) == 0 {
		o, err = s.stat(ctx, key)
		return 0, o, err
	}
	err = s.attempt(ctx, &s.counts.gets, int64(len(p)), func(ctx context.Context) error {
		body, got, err := s.api.Get(ctx, s.prefix+key, off, int64(len(p)))
		if err != nil || body == nil {
			n, o = 0, got
			return err
		}
		defer body.Close()
		o = got
		n, err = io.ReadFull(body, p[:inside(o, off, int64(len(p)))])
		s.counts.read.Add(int64(n))
		if err != nil {
			return brokeOff(err)
		}
		return nil
	})
	if err != nil {
		return 0, object.Object{}, err
	}
	o.Key = key
	if n < len(p) {
		err = io.EOF
	}
	return n, o, err
}

// Stat implements object.Store.
func (s *Store) Stat(ctx context.Context, key string) (o object.Object, err error) {
	defer func() { err = s.fail("stat", key, err) }()
	if err := s.enterKey(ctx, key); err != nil {
		return o, err
	}
	defer s.leave()
	return s.stat(ctx, key)
}

func (s *Store) stat(ctx context.Context, key string) (o object.Object, err error) {
	err = s.attempt(ctx, &s.counts.heads, 0, func(ctx context.Context) (err error) {
		o, _, err = s.api.Head(ctx, s.prefix+key)
		return err
	})
	o.Key = key
	return o, err
}

// Put implements object.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, cond object.Condition) (v object.Version, err error) {
	defer func() { err = s.fail("put", key, err) }()
	if err := s.enterKey(ctx, key); err != nil {
		return "", err
	}
	defer s.leave()
	if size < 0 {
		return "", fsapi.Errorf(fsapi.Invalid, "size %d", size)
	}
	o := PutOptions{Cond: cond, Mark: newMark()}
	m := &moving{ReaderAt: body}
	return s.write(ctx, key, o, size, &m.moved, func(ctx context.Context) (object.Version, error) {
		s.counts.sent.Add(size)
		return s.api.Put(ctx, s.prefix+key, io.NewSectionReader(m, 0, size), o)
	})
}

func newMark() Mark {
	var b [16]byte
	rand.Read(b[:])
	return Mark(hex.EncodeToString(b[:]))
}

// write makes attempts of a call that makes an object. When an attempt ended
// without an answer it may have happened, or the answer was lost that refused it: a
// service that refuses a body it has not read may close the connection on it. So
// before a body is sent again under a condition, one looks what is there. moved counts
// what was taken of the body, which has at most so many bytes.
func (s *Store) write(ctx context.Context, key string, o PutOptions, size int64, moved *atomic.Int64, call func(context.Context) (object.Version, error)) (v object.Version, err error) {
	unsure, done := false, false
	look := func() error {
		return s.once(ctx, &s.counts.heads, 0, func(ctx context.Context) (err error) {
			v, done, err = s.decided(ctx, key, o)
			return err
		})
	}
	err = s.retry(ctx, func() error {
		if unsure && (o.Cond.Absent() || o.Cond.Version() != "") {
			if err := look(); done || err != nil {
				return err
			}
		}
		err := s.upload(ctx, &s.counts.puts, moved, size, func(ctx context.Context) (err error) {
			v, err = call(ctx)
			return err
		})
		if unsure && (errors.Is(err, fsapi.Precondition) || errors.Is(err, fsapi.NotExist)) { // the earlier one came late
			if err := look(); done || err != nil {
				return err
			}
		}
		unsure = unsure || err != nil && object.Transient(err)
		return err
	})
	return v, err
}

// decided is what an earlier attempt came to: done, where its object is there or one
// that breaks the condition.
func (s *Store) decided(ctx context.Context, key string, o PutOptions) (v object.Version, done bool, err error) {
	obj, mark, err := s.api.Head(ctx, s.prefix+key)
	switch {
	case errors.Is(err, fsapi.NotExist):
		if o.Cond.Version() != "" {
			return "", true, fsapi.Errorf(fsapi.Precondition, "there is no object")
		}
		return "", false, nil
	case err != nil:
		return "", false, err
	case mark == o.Mark:
		return obj.Version, true, nil
	case o.Cond.Absent():
		return "", true, fsapi.Errorf(fsapi.Precondition, "there is an object")
	case o.Cond.Version() != "" && o.Cond.Version() != obj.Version:
		return "", true, fsapi.Errorf(fsapi.Precondition, "the object has the version %s", obj.Version)
	}
	return "", false, nil
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) (err error) {
	defer func() { err = s.fail("delete", strings.Join(keys[:min(len(keys), 1)], ""), err) }()
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	run := batches{s: s, ctx: ctx, slots: make(chan struct{}, s.opts.Parallel)}
	for batch := range slices.Chunk(keys, s.traits.DeleteBatch) {
		run.start(batch)
	}
	return run.wait()
}

// Close implements object.Store. It waits for running calls.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.calls == 0 {
		close(s.idle)
	}
	open := slices.Collect(maps.Keys(s.writers))
	s.mu.Unlock()
	<-s.idle
	for _, w := range open {
		w.Abort()
	}
	if err := s.api.Close(); err != nil {
		return s.fail("close", "", err)
	}
	return nil
}
