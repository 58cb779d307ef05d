package meta

import "github.com/strakefs/strake/internal/fsapi"

// usages compares the counters of the volume and of quotas with what was
// found, and looks for directories that no way leads to.
func (c *check) usages() error {
	if err := c.tree(0, c.usage, "use of the volume"); err != nil {
		return err
	}
	reached := int64(0)
	err := c.tx.walkDirs(fsapi.RootIno, func(fsapi.Ino) error {
		reached++
		return c.tick()
	})
	if err != nil {
		return c.damaged(err)
	}
	if reached != c.dirs {
		c.bad(ProblemTree, nil, "there are %d directories, and the root leads to %d", c.dirs, reached)
	}
	err = c.table(tabQuota, inoKeyLen, func(k, _ []byte) error {
		dir := keyIno(k)
		sum, err := c.tx.sumTree(dir)
		if err != nil {
			return c.damaged(err)
		}
		return c.tree(dir, sum, "use of what is below directory "+utoa(uint64(dir)))
	})
	if err != nil {
		return err
	}
	return c.table(tabUsage, inoKeyLen+1, func(k, v []byte) error {
		dir, which := keyIno(k), k[inoKeyLen]
		if dir == 0 {
			return nil
		}
		tab := byte(tabInode)
		if which >= usageTreeBytes {
			tab = tabQuota
		}
		ok, err := c.there(inoKey(nil, tab, c.tx.vol, dir))
		if err != nil || ok {
			return err
		}
		return c.counter(ProblemUsage, k, 0, "use of directory "+utoa(uint64(dir))+", which is not there or has no quota,")
	})
}

func (c *check) tree(dir fsapi.Ino, want fsapi.Usage, what string) error {
	err := c.counter(ProblemUsage, usageKey(nil, c.tx.vol, dir, usageTreeBytes), want.Bytes, what+" in bytes")
	if err != nil {
		return err
	}
	return c.counter(ProblemUsage, usageKey(nil, c.tx.vol, dir, usageTreeInodes), want.Inodes, what+" in inodes")
}
