package meta

import (
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// quotaAt is a directory with a quota.
type quotaAt struct {
	dir fsapi.Ino
	Quota
}

// chains caches which quotas lie at and above a directory, innermost first.
// For a directory this changes only when a quota is set or removed, because a
// directory cannot be renamed across a quota boundary; the epoch in the
// volume record, which every Update reads, counts these.
type chains struct {
	mu sync.RWMutex
	m  map[chainKey][]quotaAt // guarded by mu; cleared when it grows over chainsMax
}

type chainKey struct {
	vol   fsapi.VolumeID
	dir   fsapi.Ino
	epoch uint64
}

type foundChain struct {
	key  chainKey
	list []quotaAt
}

const chainsMax = 1 << 15

func (c *chains) get(k chainKey) ([]quotaAt, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list, ok := c.m[k]
	return list, ok
}

// publishChains gives what a committed transaction found to the cache.
func (tx *Tx) publishChains() {
	if len(tx.foundChains) == 0 {
		return
	}
	c := &tx.s.chains
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m)+len(tx.foundChains) > chainsMax {
		c.m = make(map[chainKey][]quotaAt)
	}
	for _, f := range tx.foundChains {
		if f.key.epoch == tx.volume.epoch {
			c.m[f.key] = f.list
		}
	}
}

// chain is the quotas at and above a directory, innermost first.
func (tx *Tx) chain(dir fsapi.Ino) ([]quotaAt, error) {
	if err := tx.readVolume(); err != nil {
		return nil, err
	}
	if tx.volume.quotas == 0 || dir == 0 {
		return nil, nil
	}
	key := chainKey{tx.vol, dir, tx.volume.epoch}
	if list, ok := tx.s.chains.get(key); ok {
		return list, nil
	}
	var list []quotaAt
	for depth, d := 0, dir; d > fsapi.RootIno; depth++ {
		if depth == maxDepth {
			return nil, errDepth(dir)
		}
		q, ok, err := tx.ownQuota(d)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, quotaAt{d, q})
		}
		if d, err = tx.parent(d); err != nil {
			return nil, err
		}
	}
	tx.foundChains = append(tx.foundChains, foundChain{key, list})
	return list, nil
}

// nearest is the innermost directory with a quota at or above dir: 0 for none.
func (tx *Tx) nearest(dir fsapi.Ino) (fsapi.Ino, error) {
	list, err := tx.chain(dir)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].dir, nil
}

// chargeVolume adds to what the volume holds.
func (tx *Tx) chargeVolume(bytes, inodes int64) {
	tx.addUsage(0, usageTreeBytes, bytes)
	tx.addUsage(0, usageTreeInodes, inodes)
}

// chargeDir adds to what a directory and the quotas at and above it hold. An
// orphan's or trashed file's directory is none: dir 0.
func (tx *Tx) chargeDir(dir fsapi.Ino, bytes, inodes int64) error {
	if dir == 0 || bytes == 0 && inodes == 0 {
		return nil
	}
	tx.addUsage(dir, usageBytes, bytes)
	tx.addUsage(dir, usageInodes, inodes)
	list, err := tx.chain(dir)
	for _, q := range list {
		tx.addUsage(q.dir, usageTreeBytes, bytes)
		tx.addUsage(q.dir, usageTreeInodes, inodes)
	}
	return err
}

func (tx *Tx) addUsage(dir fsapi.Ino, which byte, n int64) {
	if n != 0 {
		tx.key = usageKey(tx.key, tx.vol, dir, which)
		tx.w.Add(tx.key, n)
	}
}

// affordVolume fails where the volume's quota does not admit more. The
// counters are read without tracking: transactions that run at the same
// moment may together go over a quota by what each of them adds.
func (tx *Tx) affordVolume(bytes, inodes int64) error {
	return tx.afford(quotaAt{0, tx.volume.Quota}, bytes, inodes)
}

// affordDir fails where a quota at or above dir does not admit more.
func (tx *Tx) affordDir(dir fsapi.Ino, bytes, inodes int64) error {
	list, err := tx.chain(dir)
	if err != nil {
		return err
	}
	for _, q := range list {
		if err := tx.afford(q, bytes, inodes); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) afford(q quotaAt, bytes, inodes int64) error {
	if err := tx.affordOne(q.dir, usageTreeBytes, bytes, q.Bytes); err != nil {
		return err
	}
	return tx.affordOne(q.dir, usageTreeInodes, inodes, q.Inodes)
}

func (tx *Tx) affordOne(dir fsapi.Ino, which byte, more, limit int64) error {
	if limit <= 0 || more <= 0 {
		return nil
	}
	tx.key = usageKey(tx.key, tx.vol, dir, which)
	used, err := tx.peekCounter(tx.key)
	if err != nil || used+more <= limit {
		return err
	}
	what, where := "bytes", "the volume"
	if which == usageTreeInodes {
		what = "inodes"
	}
	if dir != 0 {
		where = "directory " + utoa(uint64(dir))
	}
	return fsapi.Errorf(fsapi.Quota, "%s may hold %d %s and holds %d", where, limit, what, used)
}

// Usage is what a subtree, without its top directory, or (RootIno) the whole
// volume holds. It is counted at once where the directory has a quota, and
// else by a walk over the directories below.
func (tx *Tx) Usage(dir fsapi.Ino) (fsapi.Usage, error) {
	if dir == fsapi.RootIno {
		return tx.treeUsage(0)
	}
	_, ok, err := tx.ownQuota(dir)
	if err != nil {
		return fsapi.Usage{}, err
	}
	if ok {
		return tx.treeUsage(dir)
	}
	return tx.sumTree(dir)
}

func (tx *Tx) treeUsage(dir fsapi.Ino) (u fsapi.Usage, err error) {
	if u.Bytes, err = tx.usage(dir, usageTreeBytes); err != nil {
		return u, err
	}
	u.Inodes, err = tx.usage(dir, usageTreeInodes)
	return u, err
}

func (tx *Tx) usage(dir fsapi.Ino, which byte) (int64, error) {
	tx.key = usageKey(tx.key, tx.vol, dir, which)
	return tx.peekCounter(tx.key)
}

// sumTree adds up what the directories at and below dir hold directly.
func (tx *Tx) sumTree(dir fsapi.Ino) (fsapi.Usage, error) {
	var sum fsapi.Usage
	err := tx.walkDirs(dir, func(d fsapi.Ino) error {
		b, err := tx.usage(d, usageBytes)
		if err != nil {
			return err
		}
		n, err := tx.usage(d, usageInodes)
		sum.Bytes += b
		sum.Inodes += n
		return err
	})
	return sum, err
}

// walkDirs calls fn for dir and every directory below it. It holds one place
// per level in memory, whatever the number of directories.
func (tx *Tx) walkDirs(dir fsapi.Ino, fn func(fsapi.Ino) error) error {
	type level struct{ dir, last fsapi.Ino }
	stack := []level{{dir: dir}}
	if err := fn(dir); err != nil {
		return err
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		child, err := tx.nextSubdir(top.dir, top.last)
		if err != nil {
			return err
		}
		if child == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		top.last = child
		if len(stack) == maxDepth {
			return errDepth(child)
		}
		if err := fn(child); err != nil {
			return err
		}
		stack = append(stack, level{dir: child})
	}
	return nil
}

// nextSubdir is the directory within dir with the next number after last, or
// 0.
func (tx *Tx) nextSubdir(dir, last fsapi.Ino) (child fsapi.Ino, err error) {
	tx.end = after(tx.end, inoKey(tx.key, tabSubdir, tx.vol, dir))
	tx.key = subdirKey(tx.key, tx.vol, dir, last+1)
	err = tx.peekScan(tx.key, tx.end, func(k, _ []byte) (bool, error) {
		if len(k) != inoKeyLen+8 {
			return false, corrupt(k, "bad key")
		}
		child = fsapi.Ino(keyU64(k, inoKeyLen))
		return false, nil
	})
	return child, err
}
