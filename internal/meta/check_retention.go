package meta

import (
	"bytes"

	"github.com/strakefs/strake/internal/fsapi"
)

// retentions checks the lists of files that are, or are to come, under
// retention. What a file itself says counts.
func (c *check) retentions() error {
	err := c.table(tabRetention, retentionKeyLen, func(k, _ []byte) error {
		ino := fsapi.Ino(keyU64(k, volKeyLen+8))
		in, err := c.tx.load(ino)
		if err != nil && fsapi.KindOf(err) != fsapi.Stale {
			return c.damaged(err)
		}
		if err == nil {
			r, rerr := c.tx.Retention(in)
			if rerr != nil {
				return c.damaged(rerr)
			}
			if in.Flags&HasRetention != 0 && bytes.Equal(k, retentionKey(c.tx.vol, r, ino)) {
				return nil
			}
		}
		c.bad(ProblemIndex, deleteKey(k), "inode %d is listed as under retention and is not", ino)
		return nil
	})
	if err != nil {
		return err
	}
	return c.table(tabCommit, retentionKeyLen, func(_, _ []byte) error { return nil })
}

// listedRetention checks that an inode with a retention is listed.
func (c *check) listedRetention(in *Inode) error {
	if in.Flags&HasRetention == 0 || c.tx.past {
		return nil
	}
	r, err := c.tx.Retention(in)
	if err != nil {
		return c.damaged(err)
	}
	key := retentionKey(c.tx.vol, r, in.Ino)
	ok, err := c.there(key)
	if err == nil && !ok {
		c.bad(ProblemIndex, putKey(key), "inode %d is under retention and is not listed so", in.Ino)
	}
	return err
}
