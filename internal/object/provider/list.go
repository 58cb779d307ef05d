package provider

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// List implements object.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(object.Object) error) error {
	if err := s.enter(ctx); err != nil {
		return s.fail("list", prefix, err)
	}
	defer s.leave()
	if !listable(prefix) || !listable(after) {
		return s.fail("list", prefix, fsapi.Errorf(fsapi.Invalid, "listing of %q after %q: these are no beginnings of keys", prefix, after))
	}
	l := &listing{s: s, prefix: prefix, after: after, last: after, fn: fn}
	for {
		page, err := l.next(ctx)
		if err != nil {
			return s.fail("list", prefix, err)
		}
		objects, err := l.wanted(page.Objects)
		if err != nil {
			return s.fail("list", prefix, err)
		}
		switch err := l.pass(ctx, objects); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case page.Next == "":
			return nil
		}
		l.token = page.Next
	}
}

// listable reports whether a text may be the beginning of keys, or empty.
func listable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// listing is one call of List.
type listing struct {
	s             *Store
	prefix, after string
	token         string // of the next page
	last          string // key of the object seen last, or after
	fn            func(object.Object) error
}

// next asks for a page.
func (l *listing) next(ctx context.Context) (page Page, err error) {
	s := l.s
	prefix, after := s.prefix+l.prefix, ""
	if l.after != "" && s.prefix+l.after >= prefix {
		after = s.prefix + l.after // else it says nothing that the prefix does not
	}
	err = s.attempt(ctx, &s.counts.lists, 0, func(ctx context.Context) (err error) {
		page, err = s.api.List(ctx, prefix, after, l.token)
		return err
	})
	return page, err
}

// wanted strips the prefix from the keys and leaves out what was not asked for.
func (l *listing) wanted(objects []object.Object) ([]object.Object, error) {
	kept := objects[:0]
	for _, o := range objects {
		o.Key = strings.TrimPrefix(o.Key, l.s.prefix)
		if o.Key <= l.after || object.CheckKey(o.Key) != nil {
			continue // the latter put there by somebody else
		}
		if o.Key <= l.last {
			return nil, fsapi.Errorf(fsapi.NotSupported, "the provider lists %q after %q, not in the order of bytes", o.Key, l.last)
		}
		l.last = o.Key
		kept = append(kept, o)
	}
	return kept, nil
}

// pass calls fn.
func (l *listing) pass(ctx context.Context, objects []object.Object) error {
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return l.s.fail("list", l.prefix, err)
		}
		if err := l.fn(o); err != nil {
			return err
		}
	}
	return nil
}
