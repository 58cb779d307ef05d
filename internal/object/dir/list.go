package dir

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

// pageSize is objects in a page of a listing.
const pageSize = 1000

// errFull ends a walk whose page is full.
var errFull = errors.New("page is full")

// List implements provider.API. Tokens are the last key of the page before.
func (b *bucket) List(ctx context.Context, prefix, after, token string) (provider.Page, error) {
	w := walk{b: b, ctx: ctx, prefix: prefix, after: max(after, token)}
	err := w.dir("")
	if errors.Is(err, errFull) {
		w.page.Next, err = w.page.Objects[pageSize-1].Key, nil
	}
	return w.page, err
}

// walk visits objects in the order of their keys.
type walk struct {
	b             *bucket
	ctx           context.Context
	prefix, after string
	page          provider.Page
}

// dir visits a directory, "" or ending with a slash. The order is that of whole
// keys: a directory's name counts with its slash.
func (w *walk) dir(at string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := w.b.fs.ReadDir(w.b.file(at))
	if err != nil {
		if kindOf(err) == fsapi.NotExist && at != "" {
			return nil // an object, or gone meanwhile
		}
		return missing(err, "list")
	}
	keys := make([]string, 0, 2*len(names))
	for _, name := range names {
		if key := at + name; !hidden(name) {
			keys = append(keys, key, key+"/")
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := w.visit(key); err != nil {
			return err
		}
	}
	return nil
}

// visit visits what may be an object, or a directory if key ends with a slash.
func (w *walk) visit(key string) error {
	if strings.HasSuffix(key, "/") {
		if !strings.HasPrefix(key, w.prefix) && !strings.HasPrefix(w.prefix, key) || key < w.after && !strings.HasPrefix(w.after, key) {
			return nil
		}
		if info, err := w.b.fs.Stat(w.b.file(path.Clean(key))); err != nil || !info.IsDir() {
			return nil //nolint:nilerr // gone meanwhile, or an object
		}
		return w.dir(key)
	}
	if !strings.HasPrefix(key, w.prefix) || key <= w.after {
		return nil
	}
	o, err := w.b.stat(key)
	if errors.Is(err, fsapi.NotExist) {
		return nil
	}
	if err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, key)
	}
	if len(w.page.Objects) == pageSize {
		return errFull
	}
	w.page.Objects = append(w.page.Objects, o)
	return nil
}
