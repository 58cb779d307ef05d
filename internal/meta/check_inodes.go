package meta

import "github.com/strakefs/strake/internal/fsapi"

// inodes goes through all inodes by number.
func (c *check) inodes() error {
	return c.table(tabInode, inoKeyLen, func(k, v []byte) error {
		ino := keyIno(k)
		p, err := decodeInode(k, v, ino)
		if err != nil {
			return c.damaged(err)
		}
		in := p.in
		if in == nil {
			if in, err = c.pointed(k, ino, p); err != nil || in == nil {
				return err
			}
		} else if err := c.byNumber(in); err != nil {
			return err
		}
		c.usage.Bytes += in.Used
		c.usage.Inodes++
		if in.Type == fsapi.TypeDirectory && in.Nlink > 0 {
			c.dirs++
		}
		return c.belongings(in)
	})
}

// pointed reads an inode at its dentry, or nil where it is not there.
func (c *check) pointed(k []byte, ino fsapi.Ino, p inodeValue) (*Inode, error) {
	key := dentryKey(nil, c.tx.vol, p.dir, string(p.name))
	v, ok, err := c.tx.r.Get(key)
	if err != nil {
		return nil, err
	}
	if ok {
		e, err := decodeDentry(key, v)
		if err != nil {
			return nil, c.damaged(err)
		}
		if e.embedded && e.Ino == ino {
			return e.inode(p.dir, string(p.name)), nil
		}
	}
	c.bad(ProblemInode, deleteKey(k), "inode %d should be %q in directory %d, which does not hold it", ino, p.name, p.dir)
	return nil, nil
}

// byNumber checks an inode that is kept by number: the root, one without a
// name, or one with several.
func (c *check) byNumber(in *Inode) error {
	switch {
	case in.Ino == fsapi.RootIno:
		if in.Type != fsapi.TypeDirectory || in.Parent != 0 || in.Nlink < 2 {
			c.bad(ProblemInode, nil, "the root is no directory")
		}
		return nil
	case in.Flags&Orphan != 0:
		return c.nameless(in, inoKey(nil, tabOrphan, c.tx.vol, in.Ino), "orphans")
	case in.Flags&Trashed != 0:
		return c.nameless(in, trashKey(nil, c.tx.vol, in.deleted, in.Ino), "trash")
	case in.Type == fsapi.TypeDirectory:
		c.bad(ProblemInode, nil, "directory %d has no name", in.Ino)
		return nil
	}
	return c.links(in)
}

// nameless checks an orphan or trashed inode.
func (c *check) nameless(in *Inode, key []byte, where string) error {
	if in.Nlink != 0 {
		c.bad(ProblemLinks, c.setLinks(in.Ino, 0), "inode %d has no name and says %d links", in.Ino, in.Nlink)
	}
	if c.tx.past { // the lists are of the present
		return nil
	}
	ok, err := c.there(key)
	if err == nil && !ok {
		c.bad(ProblemIndex, putKey(key), "inode %d is not listed in the %s", in.Ino, where)
	}
	return err
}

// links checks the names of an inode with several.
func (c *check) links(in *Inode) error {
	names, primary := uint32(0), false
	err := c.tx.scan(inoKey(nil, tabLink, c.tx.vol, in.Ino), func(k, _ []byte) (bool, error) {
		if len(k) <= inoKeyLen+8 {
			c.bad(ProblemDamaged, deleteKey(k), "%v", corrupt(k, "bad key"))
			return true, nil
		}
		dir, name := fsapi.Ino(keyU64(k, inoKeyLen)), string(k[inoKeyLen+8:])
		e, ok, err := c.tx.dentry(dir, name)
		if err != nil {
			return true, c.damaged(err)
		}
		if !ok || e.Ino != in.Ino {
			c.bad(ProblemIndex, deleteKey(k), "inode %d is said to have the name %q in directory %d", in.Ino, name, dir)
			return true, nil
		}
		names++
		primary = primary || in.Parent == dir && in.Name == name
		return true, nil
	})
	if err != nil {
		return err
	}
	if names != in.Nlink || names < 2 {
		c.bad(ProblemLinks, c.relink(in.Ino), "inode %d has %d names and says %d", in.Ino, names, in.Nlink)
	} else if !primary {
		c.bad(ProblemLinks, c.relink(in.Ino), "inode %d is said to be %q in directory %d first", in.Ino, in.Name, in.Parent)
	}
	return nil
}

// relink counts the names of an inode that has several anew, and keeps it
// where it belongs then.
func (c *check) relink(ino fsapi.Ino) func(tx *Tx) error {
	return func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		n, primary := uint32(0), false
		err = tx.scan(inoKey(nil, tabLink, tx.vol, ino), func(k, _ []byte) (bool, error) {
			n++
			primary = primary || in.Parent == fsapi.Ino(keyU64(k, inoKeyLen)) && in.Name == string(k[inoKeyLen+8:])
			return true, nil
		})
		if err != nil {
			return err
		}
		in.Nlink = n
		switch {
		case n == 0:
			in.Flags |= Orphan
			in.Parent, in.Name = 0, ""
			tx.w.Put(inoKey(nil, tabOrphan, tx.vol, ino), nil)
		case n == 1:
			in.Nlink++
			return tx.dropLink(0, "", in)
		case !primary:
			if in.Parent, in.Name, err = tx.firstLink(ino); err != nil {
				return err
			}
		}
		tx.store(in)
		return nil
	}
}

// belongings checks what an inode is said to have.
func (c *check) belongings(in *Inode) error {
	if c.tx.past && in.Nlink == 0 { // no way leads to it: what it had need not be kept
		return nil
	}
	if in.Type == fsapi.TypeSymlink && in.Size != int64(len(in.Target)) {
		c.bad(ProblemInode, c.fix(in.Ino, func(in *Inode) { in.Size = int64(len(in.Target)) }),
			"symlink %d points to %d bytes and has size %d", in.Ino, len(in.Target), in.Size)
	}
	if in.Used > 0 {
		ok, err := c.any(inoKey(nil, tabExtent, c.tx.vol, in.Ino))
		if err != nil {
			return err
		}
		if !ok {
			c.bad(ProblemUsed, c.fix(in.Ino, func(in *Inode) { in.Used = 0 }), "inode %d has no extents and says %d bytes", in.Ino, in.Used)
		}
	}
	if in.Ino >= fsapi.Ino(c.next) {
		c.bad(ProblemInode, nil, "inode %d was never given out", in.Ino)
	}
	for _, f := range []struct {
		flag Flags
		key  []byte
		what string
	}{
		{HasXattr, inoKey(nil, tabXattr, c.tx.vol, in.Ino), "extended attributes"},
		{HasACL, xattrKey(nil, c.tx.vol, in.Ino, xattrACL), "an access ACL"},
		{HasDefACL, xattrKey(nil, c.tx.vol, in.Ino, xattrDefACL), "a default ACL"},
		{HasPolicy, inoKey(nil, tabPolicy, c.tx.vol, in.Ino), "a policy"},
		{HasQuota, inoKey(nil, tabQuota, c.tx.vol, in.Ino), "a quota"},
		{HasRetention, xattrKey(nil, c.tx.vol, in.Ino, RetentionXattr), "a retention"},
	} {
		if in.Flags&f.flag == 0 {
			continue
		}
		ok, err := c.any(f.key)
		if err != nil {
			return err
		}
		if !ok {
			c.bad(ProblemInode, c.setFlags(in.Ino, f.flag, 0), "inode %d is said to have %s and has not", in.Ino, f.what)
		}
	}
	return c.listedRetention(in)
}

// attributes checks that what belongs to inodes has one that knows of it.
func (c *check) attributes() error {
	for _, t := range []struct {
		tab  byte
		flag Flags
		what string
	}{{tabXattr, HasXattr, "an extended attribute"}, {tabPolicy, HasPolicy, "a policy"}, {tabQuota, HasQuota, "a quota"}} {
		err := c.table(t.tab, inoKeyLen, func(k, v []byte) error {
			var err error
			want := t.flag
			switch t.tab {
			case tabPolicy:
				_, err = decodePolicy(k, v)
			case tabQuota:
				_, err = decodeQuota(k, v)
			case tabXattr:
				switch string(k[inoKeyLen:]) {
				case xattrACL:
					want |= HasACL
				case xattrDefACL:
					want |= HasDefACL
				case RetentionXattr:
					want |= HasRetention
				}
			}
			if err != nil {
				return c.damaged(err)
			}
			return c.owned(k, want, t.what)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// owned checks that a record's inode has the flags for it.
func (c *check) owned(k []byte, want Flags, what string) error {
	ino := keyIno(k)
	in, err := c.tx.load(ino)
	switch {
	case err == nil && in.Flags&want != want:
		c.bad(ProblemInode, c.setFlags(ino, 0, want), "inode %d has %s and does not say so", ino, what)
		return nil
	case err == nil:
		return nil
	case fsapi.KindOf(err) != fsapi.Stale:
		return c.damaged(err)
	case c.tx.past:
		return nil
	}
	waiting, err := c.there(inoKey(nil, tabReclaim, c.tx.vol, ino))
	if err == nil && !waiting {
		c.bad(ProblemInode, deleteKey(k), "inode %d, which is not there, has %s", ino, what)
	}
	return err
}

// queues checks the lists of orphans, trash, inodes to reclaim and names of
// inodes with several.
func (c *check) queues() error {
	flagged := func(k []byte, ino fsapi.Ino, flag Flags, where string) error {
		in, err := c.tx.load(ino)
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return c.damaged(err)
		}
		if err != nil || in.Flags&flag == 0 || flag == Trashed && in.deleted != int64(keyU64(k, volKeyLen)) {
			c.bad(ProblemIndex, deleteKey(k), "inode %d is listed in the %s and does not belong there", ino, where)
		}
		return nil
	}
	err := c.table(tabOrphan, inoKeyLen, func(k, _ []byte) error { return flagged(k, keyIno(k), Orphan, "orphans") })
	if err != nil {
		return err
	}
	err = c.table(tabTrash, trashKeyLen, func(k, _ []byte) error {
		return flagged(k, fsapi.Ino(keyU64(k, volKeyLen+8)), Trashed, "trash")
	})
	if err != nil {
		return err
	}
	err = c.table(tabReclaim, inoKeyLen, func(k, _ []byte) error {
		live, err := c.there(inoKey(nil, tabInode, c.tx.vol, keyIno(k)))
		if err == nil && live {
			c.bad(ProblemIndex, deleteKey(k), "inode %d is there and waits to be reclaimed", keyIno(k))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.retentions(); err != nil {
		return err
	}
	return c.table(tabLink, inoKeyLen+9, func(k, _ []byte) error {
		p, err := c.tx.inodeValue(keyIno(k))
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return c.damaged(err)
		}
		if err != nil || p.in == nil || p.in.Nlink < 2 {
			c.bad(ProblemIndex, deleteKey(k), "inode %d does not have several names and has a list of them", keyIno(k))
		}
		return nil
	})
}
