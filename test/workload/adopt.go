package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Adopt makes what is there the client's world, in a volume opened anew after a
// crash and a verdict: names and contents are those found, and durable. Files
// that were open are not any more.
func (c *Client) Adopt(ctx context.Context, fs *vfs.Local) error {
	c.fs, c.ops, c.nodes, c.handles = fs, nil, nil, nil
	root, err := fs.Lookup(ctx, fsapi.Root, fsapi.RootIno, c.prefix())
	if err != nil {
		return err
	}
	known := map[fsapi.Ino]*node{}
	c.root = &node{ino: root.Ino, typ: fsapi.TypeDirectory, entries: map[string]*node{}, nlink: 1}
	c.shared = &node{ino: c.shared.ino, typ: fsapi.TypeDirectory, entries: map[string]*node{}, nlink: 1}
	for _, d := range []*node{c.root, c.shared} {
		if err := c.adoptDir(ctx, d, known); err != nil {
			return err
		}
	}
	if c.o.Trash {
		if err := c.adoptTrash(ctx, known); err != nil {
			return err
		}
	}
	// As if one operation, done and synced in an instant, had made it all.
	now := c.tickets.Add(1)
	c.ops = []*operation{{text: "found", issued: now, done: now, names: c.Names(), sync: syncAll}}
	return nil
}

func (c *Client) adoptDir(ctx context.Context, d *node, known map[fsapi.Ino]*node) error {
	entries, err := List(ctx, c.fs, d.ino)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if d == c.shared && !c.owns(e.Name) {
			continue
		}
		n := known[e.Ino]
		if n == nil {
			if n, err = c.adoptNode(ctx, e.Attr); err != nil {
				return err
			}
			known[e.Ino] = n
		}
		n.nlink++
		c.put(place{d, e.Name, nil}, n)
		if n.typ == fsapi.TypeDirectory {
			if err := c.adoptDir(ctx, n, known); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Client) adoptNode(ctx context.Context, a fsapi.Attr) (*node, error) {
	n := &node{ino: a.Ino, typ: a.Type, mode: a.Mode & 0o7777}
	c.nodes = append(c.nodes, n)
	var err error
	switch a.Type {
	case fsapi.TypeDirectory:
		n.entries = map[string]*node{}
	case fsapi.TypeSymlink:
		n.target, err = c.fs.Readlink(ctx, a.Ino)
	case fsapi.TypeRegular:
		var data []byte
		if data, err = ReadAll(ctx, c.fs, a.Ino); err == nil {
			n.versions = []version{{op: 0, c: (&content{}).write(0, data)}}
		}
	}
	if err == nil {
		n.xattrs, err = xattrsOf(ctx, c.fs, a.Ino)
	}
	return n, err
}

func (c *Client) adoptTrash(ctx context.Context, known map[fsapi.Ino]*node) error {
	trash, _, err := c.fs.Trash(ctx, 0)
	if err != nil {
		return err
	}
	for _, e := range trash {
		if !c.mine(e.Path) {
			continue
		}
		if known[e.Ino] != nil {
			return fmt.Errorf("ino %d is in the trash and has a name", e.Ino)
		}
		n, err := c.adoptNode(ctx, e.Attr)
		if err != nil {
			return err
		}
		n.trashed = true
	}
	return nil
}

// mine reports whether a path from the volume's root is the client's.
func (c *Client) mine(p string) bool {
	top, rest, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return top == c.prefix() || top == SharedName && c.owns(rest)
}

// Tree is files as they were at some moment, by path from their top.
type Tree map[string]leaf

type leaf struct {
	what string // without the inode's number, of which a copy has another
	c    *content
}

// Tree is what lies below the client's directory.
func (c *Client) Tree() Tree {
	t := Tree{}
	c.growTree(t, "", c.root)
	return t
}

func (c *Client) growTree(t Tree, at string, d *node) {
	for name, n := range d.entries {
		l := leaf{what: describe(0, n.typ, n.mode, n.target, n.xattrs)}
		if n.typ == fsapi.TypeRegular {
			l.c = n.now()
		}
		p := path.Join(at, name)
		t[p] = l
		if n.typ == fsapi.TypeDirectory {
			c.growTree(t, p, n)
		}
	}
}

// Top is the name of the client's directory, in the root.
func (c *Client) Top() string { return c.prefix() }

// Check compares a tree with what lies below a directory: every name, every
// byte.
func (t Tree) Check(ctx context.Context, fs *vfs.Local, top fsapi.Ino) error {
	found, inos := map[string]string{}, map[string]fsapi.Ino{}
	if err := growFound(ctx, fs, top, "", found, inos); err != nil {
		return err
	}
	want := map[string]string{}
	for p, l := range t {
		want[p] = l.what
	}
	if d := difference(want, found); d != "" {
		return fmt.Errorf("names:\n%s", d)
	}
	var paths []string
	for p := range t {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		c := t[p].c
		if c == nil {
			continue
		}
		got, err := ReadAll(ctx, fs, inos[p])
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if int64(len(got)) != c.size {
			return fmt.Errorf("%s has %d bytes, want %d", p, len(got), c.size)
		}
		if at := mixed(got, []*content{c}); at >= 0 {
			return fmt.Errorf("%s: byte %d is %#x, want %#x", p, at, got[at], c.at(at))
		}
	}
	return nil
}

func growFound(ctx context.Context, fs *vfs.Local, dir fsapi.Ino, at string, found map[string]string, inos map[string]fsapi.Ino) error {
	d, err := fs.OpenDir(ctx, fsapi.Root, dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var entries []fsapi.Dirent
	if err := d.Read(ctx, 0, true, func(e fsapi.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			entries = append(entries, e)
		}
		return true
	}); err != nil {
		return err
	}
	for _, e := range entries {
		var target string
		if e.Type == fsapi.TypeSymlink {
			if target, err = fs.Readlink(ctx, e.Ino); err != nil {
				return err
			}
		}
		xattrs, err := xattrsOf(ctx, fs, e.Ino)
		if err != nil {
			return err
		}
		p := path.Join(at, e.Name)
		found[p], inos[p] = describe(0, e.Type, e.Attr.Mode&0o7777, target, xattrs), e.Ino
		if e.Type == fsapi.TypeDirectory {
			if err := growFound(ctx, fs, e.Ino, p, found, inos); err != nil {
				return err
			}
		}
	}
	return nil
}

// Some is the inode of a file or directory of the client that has a name, drawn
// with r.
func (c *Client) Some(r *rand.Rand) fsapi.Ino {
	list := c.places(func(n *node) bool { return n.typ != fsapi.TypeSymlink })
	if len(list) == 0 {
		return c.root.ino
	}
	return pick(r, list).n.ino
}
