package vfs

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// The cookies of the two entries that are not stored.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// dirPage is how many entries are read at a time.
const dirPage = 512

// dirHandle is an open directory. It holds its node.
type dirHandle struct {
	fs     *Local
	n      *node
	closed atomic.Bool

	mu    sync.Mutex
	attrs bool // buf has attributes
	buf   []fsapi.Dirent
	first string // the name after which buf begins
	start uint64 // its cookie; 0: the beginning
	end   bool   // nothing comes after buf
}

var _ Dir = (*dirHandle)(nil)

// OpenDir implements FS.
func (fs *Local) OpenDir(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (Dir, error) {
	if ino >= fsapi.SnapshotIno {
		return fs.pasts().openDir(ctx, c, ino)
	}
	if ino >= fsapi.VirtualIno {
		return fs.virt.openDir(ctx, c, ino)
	}
	n, err := fs.dir(ctx, ino)
	if err != nil {
		return nil, err
	}
	if err := fs.permit(ctx, c, n, mayRead); err != nil {
		n.release()
		return nil, err
	}
	n.mu.Lock()
	n.opens++
	n.mu.Unlock()
	return &dirHandle{fs: fs, n: n}, nil
}

// Read implements Dir.
func (h *dirHandle) Read(ctx context.Context, cookie uint64, attrs bool, fn func(fsapi.Dirent) bool) error {
	if h.closed.Load() {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of directory %d is closed", h.n.ino)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fs.accessed(h.n)
	if cookie < cookieDotDot {
		if !h.dots(ctx, cookie, attrs, fn) {
			return nil
		}
		cookie = cookieDotDot
	}
	for {
		rest, err := h.after(ctx, cookie, attrs)
		if err != nil {
			return err
		}
		for _, e := range rest {
			if h.n.ino == fsapi.RootIno && e.Name == VirtualName {
				continue
			}
			if attrs {
				h.fs.freshen(&e)
			}
			if !fn(e) {
				return nil
			}
		}
		if h.end {
			return nil
		}
		if len(h.buf) > 0 {
			cookie = h.buf[len(h.buf)-1].Cookie
		}
	}
}

// freshen puts what is in memory of an inode in place of what is stored.
func (fs *Local) freshen(e *fsapi.Dirent) {
	if a, ok := fs.nodes.getattr(e.Ino); ok {
		e.Attr = a
	}
}

// dots gives "." and "..".
func (h *dirHandle) dots(ctx context.Context, cookie uint64, attrs bool, fn func(fsapi.Dirent) bool) (more bool) {
	self := h.n.attr()
	if cookie < cookieDot && !fn(fsapi.Dirent{Name: ".", Ino: h.n.ino, Type: fsapi.TypeDirectory, Cookie: cookieDot, Attr: self}) {
		return false
	}
	up := fsapi.Dirent{Name: "..", Ino: h.n.parent(), Type: fsapi.TypeDirectory, Cookie: cookieDotDot}
	if attrs {
		var err error
		if up.Attr, err = h.fs.Getattr(ctx, up.Ino); err != nil {
			up.Attr = self // the directory, or the one above, was removed
		}
	}
	return fn(up)
}

// after returns the entries of the buffer after cookie, reading on where there
// are none. The result is not empty unless h.end.
func (h *dirHandle) after(ctx context.Context, cookie uint64, attrs bool) ([]fsapi.Dirent, error) {
	name := ""
	if cookie > cookieDotDot {
		i, ok := h.find(cookie)
		if ok && i+1 < len(h.buf) && (h.attrs || !attrs) {
			return h.buf[i+1:], nil
		}
		switch {
		case ok && h.end && i+1 == len(h.buf):
			return nil, nil
		case ok:
			name = h.buf[i].Name
		case cookie == h.start && h.first != "":
			name = h.first
		default:
			var err error
			if name, err = h.nameAt(ctx, cookie); err != nil {
				return nil, err
			}
		}
	}
	if err := h.fill(ctx, cookie, name, attrs); err != nil {
		return nil, err
	}
	return h.buf, nil
}

func (h *dirHandle) find(cookie uint64) (int, bool) {
	for i := range h.buf {
		if h.buf[i].Cookie == cookie {
			return i, true
		}
	}
	return 0, false
}

// nameAt finds the name that a cookie of another handle stands for.
func (h *dirHandle) nameAt(ctx context.Context, cookie uint64) (name string, err error) {
	if name, ok := h.fs.listings.name(h.n.ino, cookie); ok {
		return name, nil
	}
	err = h.fs.view(ctx, func(tx *meta.Tx) (err error) {
		name, err = tx.NameAt(h.n.ino, cookie)
		return err
	})
	return name, err
}

// fill reads the entries after name.
func (h *dirHandle) fill(ctx context.Context, cookie uint64, name string, attrs bool) error {
	var es []fsapi.Dirent
	err := h.fs.view(ctx, func(tx *meta.Tx) (err error) {
		es, err = tx.ReadDir(h.n.ino, name, dirPage)
		return err
	})
	if err != nil {
		if fsapi.KindOf(err) != fsapi.Stale {
			return err
		}
		es = nil // removed while it was open: empty
	}
	h.buf, h.first, h.start, h.attrs, h.end = es, name, cookie, attrs, len(es) < dirPage
	h.fs.listings.add(h.n.ino, es)
	return nil
}

// listings are pages of directories that were read last, so that a cookie can
// be resumed from by another handle after its name has gone.
type listings struct {
	mu    sync.Mutex
	pages [listingMax]listing
	next  int // the page to be replaced next
}

const listingMax = 64

type listing struct {
	dir     fsapi.Ino
	entries []fsapi.Dirent
}

func (l *listings) add(dir fsapi.Ino, entries []fsapi.Dirent) {
	if len(entries) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[l.next] = listing{dir, entries}
	l.next = (l.next + 1) % listingMax
}

// name is the name of a cookie that was given out of late.
func (l *listings) name(dir fsapi.Ino, cookie uint64) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.pages {
		if l.pages[i].dir != dir {
			continue
		}
		for j := range l.pages[i].entries {
			if e := &l.pages[i].entries[j]; e.Cookie == cookie {
				return e.Name, true
			}
		}
	}
	return "", false
}

// Sync implements Dir.
func (h *dirHandle) Sync(ctx context.Context) error {
	if h.closed.Load() {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of directory %d is closed", h.n.ino)
	}
	return h.fs.syncNode(ctx, h.n)
}

// Close implements Dir.
func (h *dirHandle) Close() error {
	if h.closed.Swap(true) {
		return fsapi.Errorf(fsapi.BadHandle, "the handle of directory %d is closed", h.n.ino)
	}
	h.fs.closeNode(h.n)
	h.n.release()
	return nil
}
