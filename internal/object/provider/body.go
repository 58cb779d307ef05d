package provider

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// body is a part of an object on its way. Its answer has a time to arrive in, as
// every attempt has.
type body struct {
	s      *Store
	key    string
	in     io.ReadCloser // nil: there is nothing
	left   int64         // bytes to come
	cancel context.CancelFunc
	close  sync.Once
}

// Open implements object.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, o object.Object, err error) {
	defer func() { err = s.fail("open", key, err) }()
	if err := s.enterKey(ctx, key); err != nil {
		return nil, o, err
	}
	b := &body{s: s, key: key}
	if off < 0 || n <= 0 {
		err = fsapi.Errorf(fsapi.Invalid, "%d bytes at offset %d", n, off)
	} else {
		err = s.retry(ctx, func() error {
			o, err = b.open(ctx, off, n)
			return err
		})
	}
	if err != nil {
		b.end()
		return nil, object.Object{}, err
	}
	o.Key = key
	return b, o, nil
}

// open makes one attempt.
func (b *body) open(ctx context.Context, off, n int64) (o object.Object, err error) {
	one, cancel := context.WithTimeout(ctx, b.s.limit(n))
	b.s.counts.gets.Add(1)
	b.in, o, err = b.s.api.Get(one, b.s.prefix+b.key, off, n)
	if err = b.s.ended(ctx, one, n, err); err != nil {
		cancel()
		return o, err
	}
	b.left, b.cancel = inside(o, off, n), cancel
	return o, nil
}

// inside is how many of n bytes from off an object has.
func inside(o object.Object, off, n int64) int64 { return max(min(n, o.Size-off), 0) }

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.in == nil {
		return 0, b.s.fail("read", b.key, brokeOff(io.ErrUnexpectedEOF))
	}
	n, err = b.in.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.s.counts.read.Add(int64(n))
	switch {
	case b.left == 0:
		return n, nil
	case err != nil:
		return n, b.s.fail("read", b.key, brokeOff(err))
	}
	return n, nil
}

// brokeOff is the error of an answer that ended before its end.
func brokeOff(err error) error {
	kind := fsapi.KindOf(err)
	if kind == fsapi.Other {
		kind = KindOfFailure(err)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fsapi.Errorf(kind, "the body broke off: %w", err)
}

// Close implements io.Closer. It may be called again.
func (b *body) Close() error {
	b.close.Do(b.end)
	return nil
}

func (b *body) end() {
	if b.in != nil {
		_ = b.in.Close() // what was read was read
	}
	if b.cancel != nil {
		b.cancel()
	}
	b.s.leave()
}
