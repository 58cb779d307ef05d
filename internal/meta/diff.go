package meta

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
)

// DiffKind says how a path differs between two states of a volume.
type DiffKind string

// The kinds of difference.
const (
	DiffCreated  DiffKind = "created"
	DiffRemoved  DiffKind = "removed"
	DiffModified DiffKind = "modified" // content or attributes, but for the time of access
	DiffRenamed  DiffKind = "renamed"
)

// Difference is one path that differs. Paths are from the volume's root, with
// a leading slash.
type Difference struct {
	Kind DiffKind
	Ino  fsapi.Ino
	Type fsapi.FileType
	Path string // in the newer state; where it was, for DiffRemoved
	From string // DiffRenamed: in the older state
}

// Diff calls fn for what differs between a snapshot and a newer one, or (to 0)
// the present. What it reads is what was kept for snapshots between the two,
// and directories made since, not the tree. A directory counts as modified
// where its own attributes changed, not for names in it. fsapi.NotExist,
// Invalid where to is not newer.
func (s *Store) Diff(ctx context.Context, vol fsapi.VolumeID, from, to fsapi.SnapshotID, fn func(Difference) error) (err error) {
	if from == 0 || to != 0 && to <= from {
		return fsapi.Errorf(fsapi.Invalid, "snapshot %d is not newer than %d", to, from)
	}
	snap, err := s.e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	rec, err := readVolume(snap, vol)
	if err != nil {
		return err
	}
	d := &differ{ctx: ctx, fn: fn, scan: snap.Scan, a: &Tx{s: s}, b: &Tx{s: s}}
	if err := d.a.beginAt(rec, from, &past{get: snap.Get, scan: snap.Scan, counter: snap.Counter}); err != nil {
		return err
	}
	if to == 0 {
		d.b.begin(vol, snap, nil)
	} else if err := d.b.beginAt(rec, to, &past{get: snap.Get, scan: snap.Scan, counter: snap.Counter}); err != nil {
		return err
	}
	for _, ref := range rec.snaps {
		switch {
		case ref.id == from:
			d.limit = ref.limit
			fallthrough
		case ref.id > from && (to == 0 || ref.id < to):
			d.between = append(d.between, ref.id)
		}
	}
	if err := d.changed(volKey(nil, tabDentry, vol), d.name); err != nil {
		return err
	}
	return d.changed(volKey(nil, tabInode, vol), d.inode)
}

// differ is one Diff: a is the older state and b the newer.
type differ struct {
	ctx     context.Context
	fn      func(Difference) error
	scan    scanFunc
	a, b    *Tx
	between []fsapi.SnapshotID
	limit   fsapi.Ino // inodes from here up are not in a
}

// changed calls fn for the keys with a prefix that may have changed from a to
// b, in order.
func (d *differ) changed(prefix []byte, fn func(k []byte) error) error {
	var m []cursor
	for _, id := range d.between {
		m = append(m, historyCursor(id, prefix, nil))
		c := &m[len(m)-1]
		c.to = after(nil, c.next)
	}
	p := &past{scan: d.scan}
	for d.ctx.Err() == nil {
		k, _, _, err := p.lowest(m)
		if err != nil || k == nil {
			return err
		}
		if len(k) < inoKeyLen || keyIno(k) >= d.limit {
			continue
		}
		// What a transaction knows it would keep to its end.
		d.a.few, d.a.many, d.b.few, d.b.many = nil, nil, nil, nil
		if err := fn(bytes.Clone(k)); err != nil {
			return err
		}
	}
	return d.ctx.Err()
}

// name compares what a name stood for with what it stands for.
func (d *differ) name(k []byte) error {
	dir, name := keyIno(k), string(k[inoKeyLen:])
	was, had, err := d.a.dentry(dir, name)
	if err != nil {
		return err
	}
	is, has, err := d.b.dentry(dir, name)
	switch {
	case err != nil:
		return err
	case had && has && was.Ino == is.Ino:
		if !was.embedded && !is.embedded {
			return nil // inode sees to it
		}
		return d.modified(was.Ino, was.Ino)
	case had && has && was.Type == is.Type && is.Type != fsapi.TypeDirectory:
		replaced, err := d.replaced(was.Ino, is.Ino)
		if err != nil {
			return err
		}
		if replaced {
			return d.modified(was.Ino, is.Ino)
		}
	}
	if had {
		if err := d.lost(was.Ino, dir, name); err != nil {
			return err
		}
	}
	if has {
		return d.gained(&is, dir, name)
	}
	return nil
}

// replaced reports whether an inode took the place of another for good: the one
// went nowhere, and the other came from nowhere. To who looks at the path, the
// file was modified.
func (d *differ) replaced(was, is fsapi.Ino) (bool, error) {
	_, _, gone, err := d.moved(was)
	if err != nil || gone {
		return false, err
	}
	_, _, came, err := d.moved(is)
	return !came, err
}

// inode compares an inode that has several names, or is the root.
func (d *differ) inode(k []byte) error {
	ino := keyIno(k)
	for _, tx := range []*Tx{d.a, d.b} {
		p, err := tx.inodeValue(ino)
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return err
		}
		if err != nil || p.in == nil || p.in.Nlink == 0 {
			return nil
		}
	}
	return d.modified(ino, ino)
}

// named is an inode where it has a name, else nil.
func named(tx *Tx, ino fsapi.Ino) (*Inode, error) {
	in, err := tx.Inode(ino)
	if err != nil {
		if fsapi.KindOf(err) == fsapi.Stale {
			return nil, nil
		}
		return nil, err
	}
	if in.Nlink == 0 {
		return nil, nil
	}
	return in, nil
}

// moved reports whether an inode has gone from its first name in a to one in b
// that it did not have. was and is are nil where it has none.
func (d *differ) moved(ino fsapi.Ino) (was, is *Inode, moved bool, err error) {
	if ino >= d.limit || ino == fsapi.RootIno {
		return nil, nil, false, nil
	}
	if was, err = named(d.a, ino); err != nil || was == nil {
		return nil, nil, false, err
	}
	if is, err = named(d.b, ino); err != nil || is == nil {
		return was, nil, false, err
	}
	e, ok, err := d.b.dentry(was.Parent, was.Name)
	if err != nil || ok && e.Ino == ino {
		return was, is, false, err
	}
	e, ok, err = d.a.dentry(is.Parent, is.Name)
	return was, is, !ok || e.Ino != ino, err
}

// lost reports a name that an inode no longer has.
func (d *differ) lost(ino, dir fsapi.Ino, name string) error {
	was, is, moved, err := d.moved(ino)
	if err != nil || was == nil {
		return err
	}
	from, err := d.a.pathOf(dir, name)
	if err != nil {
		return err
	}
	if !moved || was.Parent != dir || was.Name != name {
		return d.fn(Difference{Kind: DiffRemoved, Ino: ino, Type: was.Type, Path: from})
	}
	to, err := d.b.pathOf(is.Parent, is.Name)
	if err != nil {
		return err
	}
	if err := d.fn(Difference{Kind: DiffRenamed, Ino: ino, Type: is.Type, Path: to, From: from}); err != nil {
		return err
	}
	return d.compare(was, is)
}

// gained reports a name that an inode did not have, and what a directory holds
// that is new.
func (d *differ) gained(e *dentry, dir fsapi.Ino, name string) error {
	_, is, moved, err := d.moved(e.Ino)
	if err != nil || moved && is.Parent == dir && is.Name == name {
		return err // lost has reported it
	}
	path, err := d.b.pathOf(dir, name)
	if err != nil {
		return err
	}
	if err := d.fn(Difference{Kind: DiffCreated, Ino: e.Ino, Type: e.Type, Path: path}); err != nil {
		return err
	}
	if e.Type != fsapi.TypeDirectory || e.Ino < d.limit {
		return nil
	}
	for last := ""; d.ctx.Err() == nil; {
		page, err := d.b.ReadDir(e.Ino, last, 256)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			last = page[i].Name
			if err := d.gained(&dentry{Attr: page[i].Attr}, e.Ino, last); err != nil {
				return err
			}
		}
		d.a.few, d.a.many, d.b.few, d.b.many = nil, nil, nil, nil
	}
	return d.ctx.Err()
}

// modified reports an inode that stands for one of the older state, if it
// differs.
func (d *differ) modified(was, is fsapi.Ino) error {
	a, err := d.a.Inode(was)
	if err != nil {
		return err
	}
	b, err := d.b.Inode(is)
	if err != nil {
		return err
	}
	return d.compare(a, b)
}

func (d *differ) compare(was, is *Inode) error {
	same, err := d.same(was, is)
	if err != nil || same {
		return err
	}
	path, err := d.b.pathOf(is.Parent, is.Name)
	if err != nil {
		return err
	}
	return d.fn(Difference{Kind: DiffModified, Ino: is.Ino, Type: is.Type, Path: path})
}

// has are the flags that say what belongs to an inode.
const has = HasXattr | HasACL | HasDefACL | HasPolicy | HasQuota

func (d *differ) same(was, is *Inode) (bool, error) {
	switch {
	case was.Mode != is.Mode || was.Uid != is.Uid || was.Gid != is.Gid || was.Rdev != is.Rdev || was.Flags&has != is.Flags&has:
		return false, nil
	case was.Ctime.Equal(is.Ctime) && was.Ino == is.Ino:
		return true, nil
	case was.Type != fsapi.TypeDirectory && (was.Size != is.Size || !was.Mtime.Equal(is.Mtime) || was.Target != is.Target):
		return false, nil
	}
	// A time can be set, and names and links change another: what counts is
	// what the inode holds.
	same, err := d.sameBelongings(was.Ino, is.Ino)
	if err != nil || !same || was.Type != fsapi.TypeRegular {
		return same, err
	}
	return d.sameContent(was.Ino, is.Ino)
}

// sameBelongings compares extended attributes and policy.
func (d *differ) sameBelongings(was, is fsapi.Ino) (bool, error) {
	a, err := d.a.belongings(was)
	if err != nil {
		return false, err
	}
	b, err := d.b.belongings(is)
	return bytes.Equal(a, b), err
}

// diffPage is how many extents are compared at a time.
const diffPage = 512

// sameContent compares extents: the same chunks in the same places.
func (d *differ) sameContent(was, is fsapi.Ino) (bool, error) {
	for at := int64(0); d.ctx.Err() == nil; {
		a, err := d.a.Extents(was, at, fsapi.MaxFileSize, diffPage)
		if err != nil {
			return false, err
		}
		b, err := d.b.Extents(is, at, fsapi.MaxFileSize, diffPage)
		if err != nil || !slices.EqualFunc(a, b, sameExtent) {
			return false, err
		}
		if len(a) < diffPage {
			return true, nil
		}
		at = a[diffPage-1].End()
	}
	return false, d.ctx.Err()
}

func sameExtent(a, b fsapi.Extent) bool {
	return a.Off == b.Off && a.Len == b.Len && a.Kind == b.Kind && a.Chunk == b.Chunk && a.ChunkOff == b.ChunkOff
}

// belongings is an inode's extended attributes and policy as one value.
func (tx *Tx) belongings(ino fsapi.Ino) ([]byte, error) {
	p, err := tx.Policy(ino)
	if err != nil {
		return nil, err
	}
	all := appendPolicy(nil, p)
	err = tx.scan(inoKey(nil, tabXattr, tx.vol, ino), func(k, v []byte) (bool, error) {
		all = putStr(putStr(all, string(k[inoKeyLen:])), string(v))
		return true, nil
	})
	return all, err
}

// pathOf is the path of a name in a directory.
func (tx *Tx) pathOf(dir fsapi.Ino, name string) (string, error) {
	if dir == 0 {
		return "/", nil
	}
	path, err := tx.oldPath(&Inode{Parent: dir, Name: name})
	return "/" + path, err
}
