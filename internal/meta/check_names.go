package meta

import (
	"bytes"

	"github.com/strakefs/strake/internal/fsapi"
)

// dirGroup is what the names of one directory add up to.
type dirGroup struct {
	dir     fsapi.Ino
	subdirs int64
	usage   fsapi.Usage // of the inodes whose primary name is here
}

// names goes through all dentries, directory by directory.
func (c *check) names() error {
	c.seen = dirGroup{}
	err := c.table(tabDentry, inoKeyLen+1, func(k, v []byte) error {
		if dir := keyIno(k); dir != c.seen.dir {
			if err := c.endGroup(); err != nil {
				return err
			}
			c.seen = dirGroup{dir: dir}
		}
		e, err := decodeDentry(k, v)
		if err != nil {
			return c.damaged(err)
		}
		name := string(k[inoKeyLen:])
		c.name(c.seen.dir, name, &e)
		if e.embedded {
			return c.embedded(name, &e)
		}
		return c.reference(k, name, &e)
	})
	if err != nil {
		return err
	}
	if err := c.endGroup(); err != nil {
		return err
	}
	if none, err := c.tx.Empty(fsapi.RootIno); err != nil || !none {
		return err
	}
	c.seen = dirGroup{dir: fsapi.RootIno}
	return c.endGroup()
}

func (c *check) name(dir fsapi.Ino, name string, e *dentry) {
	if len(name) > fsapi.MaxName || bytes.ContainsAny([]byte(name), "/\x00") || name == "." || name == ".." {
		c.bad(ProblemName, nil, "%q in directory %d is no name", name, dir)
	}
	if e.cookie <= 2 || e.cookie >= c.next {
		c.bad(ProblemName, nil, "%q in directory %d has cookie %d, which was never given out", name, dir, e.cookie)
	}
	if e.Ino >= fsapi.Ino(c.next) && e.Ino != fsapi.RootIno {
		c.bad(ProblemInode, nil, "%q in directory %d is inode %d, which was never given out", name, dir, e.Ino)
	}
}

// embedded checks a dentry that is the home of its inode.
func (c *check) embedded(name string, e *dentry) error {
	g := &c.seen
	g.usage.Bytes += e.Used
	g.usage.Inodes++
	p, err := c.tx.inodeValue(e.Ino)
	switch {
	case err != nil && fsapi.KindOf(err) == fsapi.Stale:
		dir, ino := g.dir, e.Ino
		c.bad(ProblemIndex, func(tx *Tx) error {
			tx.w.Put(inoKey(nil, tabInode, tx.vol, ino), appendPointer(nil, dir, name))
			return nil
		}, "inode %d, %q in directory %d, is not listed by number", e.Ino, name, g.dir)
	case err != nil:
		return c.damaged(err)
	case p.in != nil || p.dir != g.dir || string(p.name) != name:
		c.bad(ProblemInode, nil, "inode %d is in the dentry %q of directory %d and also elsewhere", e.Ino, name, g.dir)
	}
	if e.flags&(Orphan|Trashed) != 0 {
		c.bad(ProblemInode, c.setFlags(e.Ino, Orphan|Trashed, 0), "inode %d has a name and is marked as having none", e.Ino)
	}
	if e.Type != fsapi.TypeDirectory {
		if e.Nlink != 1 {
			c.bad(ProblemLinks, c.setLinks(e.Ino, 1), "inode %d has 1 name and says %d", e.Ino, e.Nlink)
		}
		return nil
	}
	g.subdirs++
	return c.subdir(e)
}

// subdir checks a directory from above. One without names has no group of its
// own, so it is checked here.
func (c *check) subdir(e *dentry) error {
	key := subdirKey(nil, c.tx.vol, c.seen.dir, e.Ino)
	ok, err := c.there(key)
	if err != nil {
		return err
	}
	if !ok {
		c.bad(ProblemIndex, putKey(key), "directory %d is not listed in directory %d", e.Ino, c.seen.dir)
	}
	empty, err := c.tx.Empty(e.Ino)
	if err != nil || !empty {
		return err
	}
	return c.directory(dirGroup{dir: e.Ino}, int64(e.Nlink))
}

// reference checks a dentry of an inode that is kept by number.
func (c *check) reference(k []byte, name string, e *dentry) error {
	g := &c.seen
	p, err := c.tx.inodeValue(e.Ino)
	switch {
	case err != nil && fsapi.KindOf(err) == fsapi.Stale:
		c.bad(ProblemName, deleteKey(k), "%q in directory %d names inode %d, which is not there", name, g.dir, e.Ino)
		return nil
	case err != nil:
		return c.damaged(err)
	case p.in == nil:
		c.bad(ProblemInode, nil, "%q in directory %d names inode %d, which is the only one of %q in directory %d", name, g.dir, e.Ino, p.name, p.dir)
		return nil
	}
	if p.in.Type != e.Type || e.Type == fsapi.TypeDirectory {
		c.bad(ProblemName, nil, "%q in directory %d has type %d, its inode %d has %d", name, g.dir, e.Type, e.Ino, p.in.Type)
	}
	if p.in.Nlink == 0 {
		c.bad(ProblemInode, nil, "%q in directory %d names inode %d, which has no name", name, g.dir, e.Ino)
	}
	if p.in.Parent == g.dir && p.in.Name == name {
		g.usage.Bytes += p.in.Used
		g.usage.Inodes++
	}
	key := linkKey(nil, c.tx.vol, e.Ino, g.dir, name)
	ok, err := c.there(key)
	if err == nil && !ok {
		c.bad(ProblemIndex, putKey(key), "%q in directory %d is not among the names of inode %d", name, g.dir, e.Ino)
	}
	return err
}

// endGroup compares a directory with what its names add up to.
func (c *check) endGroup() error {
	g := c.seen
	if g.dir == 0 {
		return nil
	}
	in, err := c.tx.load(g.dir)
	switch {
	case err != nil && fsapi.KindOf(err) == fsapi.Stale:
		c.bad(ProblemName, refound(g.dir, fsapi.TypeDirectory, 0, 0), "there are names in directory %d, which is not there", g.dir)
		return nil
	case err != nil:
		return c.damaged(err)
	case in.Type != fsapi.TypeDirectory || in.Nlink == 0:
		c.bad(ProblemName, nil, "there are names in inode %d, which is no directory with a name", g.dir)
		return nil
	}
	return c.directory(g, int64(in.Nlink))
}

// directory compares a directory's links, list of directories and usage with
// what is in it.
func (c *check) directory(g dirGroup, links int64) error {
	if want := 2 + g.subdirs; links != want {
		c.bad(ProblemLinks, c.setLinks(g.dir, uint32(want)), "directory %d holds %d directories and has %d links", g.dir, g.subdirs, links)
	}
	n, err := c.count(inoKey(nil, tabSubdir, c.tx.vol, g.dir))
	if err != nil {
		return err
	}
	if n > g.subdirs {
		if err := c.strayDirs(g.dir); err != nil {
			return err
		}
	}
	err = c.counter(ProblemUsage, usageKey(nil, c.tx.vol, g.dir, usageBytes), g.usage.Bytes, "use of directory "+utoa(uint64(g.dir))+" in bytes")
	if err != nil {
		return err
	}
	return c.counter(ProblemUsage, usageKey(nil, c.tx.vol, g.dir, usageInodes), g.usage.Inodes, "use of directory "+utoa(uint64(g.dir))+" in inodes")
}

// strayDirs reports directories listed in one that does not hold them.
func (c *check) strayDirs(dir fsapi.Ino) error {
	return c.tx.scan(inoKey(nil, tabSubdir, c.tx.vol, dir), func(k, _ []byte) (bool, error) {
		if len(k) != inoKeyLen+8 {
			c.bad(ProblemDamaged, deleteKey(k), "%v", corrupt(k, "bad key"))
			return true, nil
		}
		child := fsapi.Ino(keyU64(k, inoKeyLen))
		p, err := c.tx.inodeValue(child)
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return true, c.damaged(err)
		}
		if err != nil || p.in != nil || p.dir != dir {
			c.bad(ProblemIndex, deleteKey(k), "directory %d is listed in directory %d, which does not hold it", child, dir)
		}
		return true, nil
	})
}

func (c *check) setLinks(ino fsapi.Ino, n uint32) func(tx *Tx) error {
	return c.fix(ino, func(in *Inode) { in.Nlink = n })
}

func (c *check) setFlags(ino fsapi.Ino, mask, flags Flags) func(tx *Tx) error {
	return c.fix(ino, func(in *Inode) { in.Flags = in.Flags&^mask | flags })
}

// fix mends an inode by fn.
func (c *check) fix(ino fsapi.Ino, fn func(in *Inode)) func(tx *Tx) error {
	return func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		fn(in)
		in.Change++
		tx.store(in)
		return nil
	}
}
