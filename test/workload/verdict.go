package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Verdict is what may be left of one client's work in a clone taken between two
// tickets.
type Verdict struct {
	c             *Client
	before, after int64
	syncs         []barrier
	low, high     int // of its operations, low at least and high at most may have happened
	least, most   int // those that explain the names found: see names
}

// barrier is a sync, by whichever client, that had returned.
type barrier struct {
	from int64 // ticket: what was done by then is covered
	kind syncKind
	ino  fsapi.Ino
}

// barriers are all syncs that had returned.
func barriers(clients []*Client, before int64) (list []barrier) {
	for _, c := range clients {
		for _, o := range c.ops {
			if o.sync != syncNone && o.done != 0 && o.done <= before {
				list = append(list, barrier{o.issued, o.sync, o.syncIno})
			}
		}
	}
	return list
}

// Judge says what may be left of the work of c, one of all clients of a store, in
// a clone that was taken between two tickets.
func Judge(clients []*Client, c *Client, before, after int64) *Verdict {
	v := &Verdict{c: c, before: before, after: after, syncs: barriers(clients, before)}
	var covered int64
	for _, b := range v.syncs {
		covered = max(covered, b.from)
	}
	for _, o := range c.ops {
		if o.done != 0 && o.done <= covered {
			v.low++
		}
		if o.issued <= after {
			v.high++
		}
	}
	return v
}

// state is the names after the first n operations.
func (c *Client) state(n int) map[string]string {
	for _, o := range slices.Backward(c.ops[:n]) {
		if o.names != nil {
			return o.names
		}
	}
	return c.first
}

// Names finds the prefixes of the operations that explain the names found, by
// Client.Found.
func (v *Verdict) Names(found map[string]string) error {
	v.least = -1
	var last map[string]string
	same := false
	for n := v.low; n <= v.high; n++ {
		state := v.c.state(n)
		if n == v.low || n > 0 && v.c.ops[n-1].names != nil {
			same = maps.Equal(state, found)
			last = state
		}
		if !same {
			continue
		}
		if v.least < 0 {
			v.least = n
		}
		v.most = n
	}
	if v.least < 0 {
		return fmt.Errorf("client %d: the names are not those after any of operations %d to %d.\nAfter %d:\n%s\nAfter %d:\n%s\nThe last operations:\n%s", v.c.id, v.low, v.high,
			v.low, difference(v.c.state(v.low), found), v.high, difference(last, found), v.tail(v.low-3, v.high))
	}
	return nil
}

// difference lists what two sets of names have not in common.
func difference(want, got map[string]string) string {
	var lines []string
	for k, w := range want {
		if g := got[k]; g != w {
			lines = append(lines, fmt.Sprintf("\t%s: should be %q, is %q", k, w, g))
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			lines = append(lines, fmt.Sprintf("\t%s: should not be there, is %q", k, g))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tail lists operations.
func (v *Verdict) tail(from, to int) string {
	var b strings.Builder
	for i := max(from, 0); i < min(to, len(v.c.ops)); i++ {
		o := v.c.ops[i]
		fmt.Fprintf(&b, "\t%d [%d, %d] %s\n", i, o.issued, o.done, o.text)
	}
	fmt.Fprintf(&b, "\tclone between tickets %d and %d", v.before, v.after)
	return b.String()
}

// covered reports whether a sync that had returned covers a version of a file.
func (v *Verdict) covered(n *node, ver *version) bool {
	o := v.c.ops[ver.op]
	for _, b := range v.syncs {
		switch {
		case b.kind == syncNames, b.kind == syncFile && b.ino != n.ino:
		case o.done != 0 && o.done <= b.from:
			return true
		case b.from == o.issued && b.kind == syncFile: // the write was a sync itself
			return true
		}
	}
	return false
}

// range of the versions that a file may hold parts of.
func (v *Verdict) versions(n *node) (low, high int) {
	high = -1
	for i := range n.versions {
		ver := &n.versions[i]
		o := v.c.ops[ver.op]
		if v.covered(n, ver) {
			low = i
		}
		switch {
		case o.issued > v.after:
		case ver.op > v.most: // stored after a change of names that did not happen
		case ver.tied && ver.op >= v.most:
		default:
			high = i
		}
	}
	for i, o := range v.c.ops[:v.least] {
		if at, ok := o.commits[n.ino]; ok && i < v.least {
			low = max(low, at)
		}
	}
	return low, high
}

// content checks what a file holds.
func (v *Verdict) content(n *node, got []byte) error {
	low, high := v.versions(n)
	if low > high {
		return fmt.Errorf("client %d: ino %d: version %d is durable, but only %d could be", v.c.id, n.ino, low, high)
	}
	var list []*content
	for _, ver := range n.versions[low : high+1] {
		list = append(list, ver.c)
	}
	if err := checkSize(int64(len(got)), list); err != nil {
		return fmt.Errorf("client %d: ino %d: %w\n%s", v.c.id, n.ino, err, v.story(n, low, high))
	}
	if at := mixed(got, list); at >= 0 {
		return fmt.Errorf("client %d: ino %d: byte %d of %d is %#x, which is in none of versions %d to %d\n%s",
			v.c.id, n.ino, at, len(got), got[at], low, high, v.story(n, low, high))
	}
	return nil
}

// large is how much a file may hold that is stored in several steps, between
// which it has a size that it never had.
const large = 1 << 20

func checkSize(size int64, list []*content) error {
	least, most := list[0].size, list[0].size
	for _, c := range list {
		if c.size == size {
			return nil
		}
		least, most = min(least, c.size), max(most, c.size)
	}
	if most > large && size >= least && size <= most {
		return nil
	}
	return fmt.Errorf("its size is %d, which it did not have since it was synced (%d to %d)", size, least, most)
}

// story tells what happened to a file.
func (v *Verdict) story(n *node, low, high int) string {
	var b strings.Builder
	for i := max(low-2, 0); i < min(high+3, len(n.versions)); i++ {
		ver := &n.versions[i]
		o := v.c.ops[ver.op]
		fmt.Fprintf(&b, "\tversion %d: %d bytes, operation %d [%d, %d] %s\n", i, ver.c.size, ver.op, o.issued, o.done, o.text)
	}
	for i, o := range v.c.ops {
		if o.sync == syncFile && o.syncIno == n.ino || o.sync == syncAll {
			fmt.Fprintf(&b, "\toperation %d [%d, %d] %s\n", i, o.issued, o.done, o.text)
		}
	}
	fmt.Fprintf(&b, "\tnames of operations %d to %d; clone between tickets %d and %d", v.least, v.most, v.before, v.after)
	return b.String()
}

// Order checks that names of one client have not happened before those of
// another that were done when they began.
func Order(list []*Verdict) error {
	for _, b := range list {
		if b.least == 0 || b.least == b.low {
			continue
		}
		began := b.c.ops[b.least-1].issued
		for _, a := range list {
			for i, o := range a.c.ops {
				if i >= a.most && o.done != 0 && o.done < began {
					return fmt.Errorf("operation %d of client %d happened, but operation %d of client %d before it did not", b.least-1, b.c.id, i, a.c.id)
				}
			}
		}
	}
	return nil
}

// Found is the names of a client in a volume, as Names has them.
func (c *Client) Found(ctx context.Context, fs *vfs.Local) (map[string]string, error) {
	m := map[string]string{}
	a, err := fs.Lookup(ctx, fsapi.Root, fsapi.RootIno, c.prefix())
	if err != nil {
		return nil, err
	}
	if err := walk(ctx, fs, a.Ino, "", func(string) bool { return true }, m); err != nil {
		return nil, err
	}
	if err := walk(ctx, fs, c.shared.ino, "shared:", c.owns, m); err != nil {
		return nil, err
	}
	known := map[fsapi.Ino]bool{}
	for _, n := range c.nodes {
		known[n.ino] = true
	}
	trash, _, err := fs.Trash(ctx, 0)
	for _, e := range trash {
		if known[e.Ino] {
			if err := describeStored(ctx, fs, fmt.Sprint("trash:", e.Ino), e.Attr, m); err != nil {
				return nil, err
			}
		}
	}
	return m, err
}

// owns reports whether a name in the shared directory is the client's.
func (c *Client) owns(name string) bool { return strings.HasPrefix(name, c.prefix()+"-") }

// walk describes what lies in a directory and below.
func walk(ctx context.Context, fs *vfs.Local, dir fsapi.Ino, at string, want func(name string) bool, m map[string]string) error {
	list, err := List(ctx, fs, dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !want(e.Name) {
			continue
		}
		if err := describeStored(ctx, fs, at+e.Name, e.Attr, m); err != nil {
			return err
		}
		if e.Type == fsapi.TypeDirectory {
			if err := walk(ctx, fs, e.Ino, at+e.Name+"/", func(string) bool { return true }, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// List is the entries of a directory, without virtual ones.
func List(ctx context.Context, fs *vfs.Local, dir fsapi.Ino) (list []fsapi.Dirent, err error) {
	h, err := fs.OpenDir(ctx, fsapi.Root, dir)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	err = h.Read(ctx, 0, true, func(e fsapi.Dirent) bool {
		if e.Name != "." && e.Name != ".." && e.Ino < fsapi.VirtualIno {
			list = append(list, e)
		}
		return true
	})
	return list, err
}

// RemoveBelow removes all that is in a directory.
func RemoveBelow(ctx context.Context, fs *vfs.Local, dir fsapi.Ino) error {
	entries, err := List(ctx, fs, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type != fsapi.TypeDirectory {
			err = fs.Unlink(ctx, fsapi.Root, dir, e.Name)
		} else if err = RemoveBelow(ctx, fs, e.Ino); err == nil {
			err = fs.Rmdir(ctx, fsapi.Root, dir, e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func describeStored(ctx context.Context, fs *vfs.Local, at string, a fsapi.Attr, m map[string]string) error {
	var target string
	var err error
	if a.Type == fsapi.TypeSymlink {
		if target, err = fs.Readlink(ctx, a.Ino); err != nil {
			return err
		}
	}
	xattrs, err := xattrsOf(ctx, fs, a.Ino)
	if err != nil {
		return err
	}
	m[at] = describe(a.Ino, a.Type, a.Mode&0o7777, target, xattrs)
	return nil
}

// xattrsOf are the extended attributes that clients set.
func xattrsOf(ctx context.Context, fs *vfs.Local, ino fsapi.Ino) (map[string]string, error) {
	names, err := fs.Listxattr(ctx, fsapi.Root, ino)
	if err != nil {
		return nil, err
	}
	xattrs := map[string]string{}
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.strake.") {
			continue
		}
		value, err := fs.Getxattr(ctx, fsapi.Root, ino, name)
		if err != nil {
			return nil, err
		}
		xattrs[name] = string(value)
	}
	return xattrs, nil
}
