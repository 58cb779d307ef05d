package workload

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Contents checks every file that is there against what it may hold. Names comes
// first.
func (v *Verdict) Contents(ctx context.Context, fs *vfs.Local) error {
	for _, n := range v.c.nodes {
		if n.typ != fsapi.TypeRegular {
			continue
		}
		got, err := ReadAll(ctx, fs, n.ino)
		if k := fsapi.KindOf(err); err != nil && (k == fsapi.Stale || k == fsapi.NotExist) {
			continue // names has it that this is right
		}
		if err == nil {
			err = v.content(n, got)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadAll is what a file holds.
func ReadAll(ctx context.Context, fs vfs.FS, ino fsapi.Ino) ([]byte, error) {
	f, err := fs.Open(ctx, fsapi.Root, ino, vfs.OpenRead|vfs.OpenNoTime)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read; ReadAt said what went wrong
	a, err := f.Attr(ctx)
	if err != nil {
		return nil, err
	}
	p := make([]byte, a.Size)
	n, err := f.ReadAt(ctx, p, 0)
	if err == nil && int64(n) != a.Size {
		err = fmt.Errorf("ino %d: %d bytes read of %d", ino, n, a.Size)
	}
	return p, err
}

// Exact compares names and contents with what the client did: all of it.
func (c *Client) Exact(ctx context.Context, fs *vfs.Local) error {
	found, err := c.Found(ctx, fs)
	if err != nil {
		return err
	}
	if want := c.Names(); !maps.Equal(want, found) {
		return fmt.Errorf("client %d: names:\n%s", c.id, difference(want, found))
	}
	for _, p := range c.places(isFile) {
		got, err := ReadAll(ctx, fs, p.n.ino)
		if err != nil {
			return fmt.Errorf("client %d: %s, ino %d: %w", c.id, c.path(p), p.n.ino, err)
		}
		if want := p.n.now(); !bytes.Equal(got, want.bytes(0, want.size)) {
			v := &Verdict{c: c}
			return fmt.Errorf("client %d: %s, ino %d: content is not what was written\n%s", c.id, c.path(p), p.n.ino, v.story(p.n, 0, len(p.n.versions)-1))
		}
	}
	return nil
}

// CloseAll closes the files that the client has open.
func (c *Client) CloseAll() error {
	for len(c.handles) > 0 {
		if err := c.closeHandle(0); err != nil {
			return err
		}
	}
	return nil
}
