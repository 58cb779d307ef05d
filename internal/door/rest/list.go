package rest

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Pages of a listing, in entries.
const (
	pageDefault = 1000
	pageMax     = 10000
)

// list answers a page. The token between pages is a directory cookie, so a
// page goes on rightly while names come and go.
func (d *Door) list(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r, "after", "limit", "xattrs")
	if err != nil {
		return err
	}
	after, limit, err := pageOf(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	a, err := vfs.Walk(ctx, t.fs, cred, t.path, true)
	if err != nil {
		return err
	}
	if a.Type != fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotDir, "%s is not a directory", t.path)
	}
	dh, err := t.fs.OpenDir(ctx, cred, a.Ino)
	if err != nil {
		return err
	}
	defer dh.Close()
	page := api.Listing{Entries: []api.Meta{}}
	var last uint64
	err = dh.Read(ctx, after, true, func(e fsapi.Dirent) bool {
		if e.Name == "." || e.Name == ".." {
			return true
		}
		if len(page.Entries) == limit {
			page.Next = strconv.FormatUint(last, 10)
			return false
		}
		page.Entries = append(page.Entries, metaOf(e.Name, &e.Attr))
		last = e.Cookie
		return true
	})
	if err != nil {
		return err
	}
	for i := range page.Entries {
		if m := &page.Entries[i]; m.Type == "symlink" {
			if m.Target, err = t.fs.Readlink(ctx, fsapi.Ino(m.Ino)); err != nil {
				return err
			}
			m.RawTarget = rawText(m.Target)
		}
		if r.URL.Query().Get("xattrs") == "true" {
			if page.Entries[i].Xattrs, err = xattrs(ctx, t.fs, fsapi.Ino(page.Entries[i].Ino)); err != nil && !errors.Is(err, fsapi.Stale) {
				return err // not because it was removed meanwhile
			}
		}
	}
	return writeJSON(w, http.StatusOK, page)
}

func pageOf(r *http.Request) (after uint64, limit int, err error) {
	q := r.URL.Query()
	limit = pageDefault
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return 0, 0, fsapi.Errorf(fsapi.Invalid, "after=%s is not a token that a page gave as next", s)
		}
	}
	if s := q.Get("limit"); s != "" {
		limit, err = strconv.Atoi(s)
		if err != nil || limit < 1 || limit > pageMax {
			return 0, 0, fsapi.Errorf(fsapi.Invalid, "limit=%s is not a number from 1 to %d", s, pageMax)
		}
	}
	return after, limit, nil
}
