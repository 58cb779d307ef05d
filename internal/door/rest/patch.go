package rest

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// offsetOf reads a query parameter that is an offset in a file.
func offsetOf(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > fsapi.MaxFileSize {
		return 0, fsapi.Errorf(fsapi.Invalid, "%s=%s is not an offset in a file", name, text)
	}
	return n, nil
}

// release closes a handle: what went wrong was said by the calls before.
func release(f vfs.File) { _ = f.Close() }

// patch writes into a file, which others see change as it does.
func (d *Door) patch(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r, "offset", "sync")
	if err != nil {
		return err
	}
	off, err := offsetOf(r, "offset")
	if err != nil {
		return err
	}
	ctx := r.Context()
	a, err := vfs.Walk(ctx, t.fs, cred, t.path, true)
	if err != nil {
		return err
	}
	f, err := t.fs.Open(ctx, cred, a.Ino, vfs.OpenWrite)
	if err != nil {
		return err
	}
	defer release(f)
	p := &upload{target: t, ctx: ctx, r: r}
	if err := p.copyBody(f, off); err != nil {
		return err
	}
	if r.URL.Query().Get("sync") == "true" {
		if err := f.Sync(ctx, false); err != nil {
			return err
		}
	}
	if a, err = f.Attr(ctx); err != nil {
		return err
	}
	w.Header().Set("ETag", etag(&a))
	return writeJSON(w, http.StatusOK, metaOf(lastName(t.path), &a))
}

// rangesMax is how many ranges one answer holds.
const rangesMax = 4096

func (d *Door) ranges(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r, "from")
	if err != nil {
		return err
	}
	from, err := offsetOf(r, "from")
	if err != nil {
		return err
	}
	ctx := r.Context()
	a, err := vfs.Walk(ctx, t.fs, cred, t.path, true)
	if err != nil {
		return err
	}
	f, err := t.fs.Open(ctx, cred, a.Ino, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer release(f)
	if a, err = f.Attr(ctx); err != nil {
		return err
	}
	out := api.Ranges{Size: a.Size, Ranges: []api.Range{}}
	for len(out.Ranges) < rangesMax {
		off, err := f.Seek(ctx, from, false)
		if errors.Is(err, fsapi.NoDevice) {
			return writeJSON(w, http.StatusOK, out)
		}
		if err != nil {
			return err
		}
		if from, err = f.Seek(ctx, off, true); err != nil {
			return err
		}
		out.Ranges = append(out.Ranges, api.Range{Off: off, Len: from - off})
	}
	out.Next = from
	return writeJSON(w, http.StatusOK, out)
}

// maxXattr is the largest value, in bytes: Linux's XATTR_SIZE_MAX.
const maxXattr = 64 << 10

func (d *Door) setXattr(w http.ResponseWriter, r *http.Request) error {
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxXattr))
	if err != nil {
		return fsapi.Wrap(fsapi.TooBig, err, "the value of an extended attribute")
	}
	return d.xattr(w, r, func(t target, ino fsapi.Ino, name string) error {
		return t.fs.Setxattr(r.Context(), cred, ino, name, value, 0)
	})
}

func (d *Door) removeXattr(w http.ResponseWriter, r *http.Request) error {
	return d.xattr(w, r, func(t target, ino fsapi.Ino, name string) error {
		return t.fs.Removexattr(r.Context(), cred, ino, name)
	})
}

// xattr finds what a request names and makes the change durable.
func (d *Door) xattr(w http.ResponseWriter, r *http.Request, change func(t target, ino fsapi.Ino, name string) error) error {
	t, err := d.target(r, "name")
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("name")
	if name == "" {
		return fsapi.Errorf(fsapi.Invalid, "name is missing: which extended attribute")
	}
	a, err := vfs.Walk(r.Context(), t.fs, cred, t.path, false)
	if err != nil {
		return err
	}
	if err := change(t, a.Ino, name); err != nil {
		return err
	}
	if err := syncRoot(r.Context(), t.fs); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
