package vfs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Quota bounds a volume or a directory's subtree. Zero is no bound.
type Quota struct {
	Bytes  int64
	Inodes int64
}

// quotas caches which quota holds for an inode. A change of any begins a
// generation.
type quotas struct {
	gen atomic.Uint64
	mu  sync.Mutex
	all map[fsapi.Ino]*quotaRoot // of the generation, by directory
}

// quotaRoot is the innermost bound on bytes for the inodes that share it, with
// a running estimate of what is left, so that write(2) can say EDQUOT rather
// than write-back. meta has the last word.
type quotaRoot struct {
	ino   fsapi.Ino
	limit int64 // bytes; 0: none
	gen   uint64

	mu   sync.Mutex
	left int64 // what may still be written before usage is measured again
}

// share returns the one quotaRoot of a directory for the generation.
func (qs *quotas) share(ino fsapi.Ino, q meta.Quota, gen uint64) *quotaRoot {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if r := qs.all[ino]; r != nil && r.gen == gen {
		return r
	}
	if qs.all == nil || len(qs.all) > 10_000 {
		qs.all = map[fsapi.Ino]*quotaRoot{}
	}
	r := &quotaRoot{ino: ino, limit: q.Bytes, gen: gen}
	qs.all[ino] = r
	return r
}

// quotaOf is the innermost quota that holds for n.
func (fs *Local) quotaOf(ctx context.Context, n *node) (*quotaRoot, error) {
	gen := fs.quotas.gen.Load()
	n.mu.RLock()
	r := n.quota
	n.mu.RUnlock()
	if r != nil && r.gen == gen {
		return r, nil
	}
	if up := fs.heir(n, meta.HasQuota); up != nil {
		defer up.release()
		r, err := fs.quotaOf(ctx, up)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		n.quota = r
		n.mu.Unlock()
		return r, nil
	}
	var ino fsapi.Ino
	var q meta.Quota
	err := fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(n.ino)
		if err != nil {
			return err
		}
		ino, q, err = tx.NearestQuota(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	r = fs.quotas.share(ino, q, gen)
	n.mu.Lock()
	n.quota = r
	n.mu.Unlock()
	return r, nil
}

// afford refuses a write of n bytes at off that the quota or the drives have no
// room for, so far as can be told before it is stored.
func (fs *Local) afford(ctx context.Context, n *node, off, length int64) error {
	n.mu.RLock()
	grow := min(off+length-n.in.Used, length)
	n.mu.RUnlock()
	if grow <= 0 {
		return nil
	}
	if err := fs.space.afford(ctx, fs, grow); err != nil {
		return err
	}
	r, err := fs.quotaOf(ctx, n)
	if err != nil || r.limit == 0 {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left >= grow {
		r.left -= grow
		return nil
	}
	return fs.measure(ctx, r, grow)
}

// measure stores what is dirty, so that usage is exact, and asks again.
// REQUIRES r.mu.
func (fs *Local) measure(ctx context.Context, r *quotaRoot, grow int64) error {
	_ = fs.barrier() // who wrote is told by fsync; here only usage counts
	var u fsapi.Usage
	err := fs.view(ctx, func(tx *meta.Tx) (err error) {
		u, err = tx.Usage(r.ino)
		return err
	})
	if err != nil {
		return err
	}
	r.left = r.limit - u.Bytes
	if r.left < grow {
		return fsapi.Errorf(fsapi.Quota, "directory %d holds %d of %d bytes: delete something, or raise its quota", r.ino, u.Bytes, r.limit)
	}
	r.left -= grow
	return nil
}

// space caches how much the drives can take.
type space struct {
	mu    sync.Mutex
	asked time.Time
	avail int64
}

// spaceAge is how long a measurement of the drives holds.
const spaceAge = time.Second

func (s *space) measure(ctx context.Context, fs *Local) (avail int64, err error) {
	if fs.o.Available == nil {
		return 1 << 50, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := fs.now(); s.asked.IsZero() || now.Sub(s.asked) > spaceAge || now.Before(s.asked) {
		if s.avail, err = fs.o.Available(ctx); err != nil {
			return 0, err
		}
		s.asked = now
	}
	return s.avail, nil
}

func (s *space) afford(ctx context.Context, fs *Local, grow int64) error {
	if fs.o.Available == nil {
		return nil
	}
	avail, err := s.measure(ctx, fs)
	if err != nil {
		return nil // write-back will tell
	}
	if dirty := fs.budget.Used(); avail-dirty < grow {
		return fsapi.Errorf(fsapi.NoSpace, "%d bytes are left on the drives, %d of them promised: delete something, or add a drive", avail, dirty)
	}
	return nil
}

// Quota implements Admin.
func (fs *Local) Quota(ctx context.Context, ino fsapi.Ino) (q Quota, u fsapi.Usage, err error) {
	n, err := fs.dir(ctx, ino)
	if err != nil {
		return q, u, err
	}
	defer n.release()
	err = fs.view(ctx, func(tx *meta.Tx) error {
		mq, err := tx.Quota(ino)
		if err != nil {
			return err
		}
		q = Quota(mq)
		if q == (Quota{}) && ino != fsapi.RootIno {
			return nil
		}
		u, err = tx.Usage(ino)
		return err
	})
	return q, u, err
}

// SetQuota implements Admin.
func (fs *Local) SetQuota(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, q Quota) error {
	if c.Uid != 0 {
		return fsapi.Errorf(fsapi.NotPermitted, "only the superuser sets quotas")
	}
	n, err := fs.dir(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	fs.gate.Lock()
	defer fs.gate.Unlock()
	var stored *meta.Inode
	seq, err := fs.update(func(tx *meta.Tx) error {
		tx.SetDoor(c.Door)
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		stored = in
		return tx.SetQuota(in, meta.Quota(q))
	})
	if err == nil {
		n.install(stored, seq)
		fs.quotas.gen.Add(1)
	}
	return err
}

// Statfs implements FS.
func (fs *Local) Statfs(ctx context.Context, ino fsapi.Ino) (st fsapi.StatFS, err error) {
	if ino >= fsapi.VirtualIno {
		ino = fsapi.RootIno
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return st, err
	}
	defer n.release()
	avail, err := fs.space.measure(ctx, fs)
	if err != nil {
		return st, err
	}
	var q meta.Quota
	var u fsapi.Usage
	err = fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		var root fsapi.Ino
		if root, q, err = tx.NearestQuota(in); err != nil {
			return err
		}
		u, err = tx.Usage(root)
		return err
	})
	if err != nil {
		return st, err
	}
	return statfs(q, u, max(avail-fs.budget.Used(), 0)), nil
}

// manyInodes is how many inodes are said to be free where nothing bounds them.
const manyInodes = 1 << 40

func statfs(q meta.Quota, u fsapi.Usage, avail int64) fsapi.StatFS {
	st := fsapi.StatFS{Used: max(u.Bytes, 0), Inodes: max(u.Inodes, 0)}
	st.Free = avail
	if q.Bytes > 0 {
		st.Used = min(st.Used, q.Bytes)
		st.Free = q.Bytes - st.Used
	}
	st.Total = st.Used + st.Free
	st.Avail = min(st.Free, avail)
	st.InodesFree = manyInodes
	if q.Inodes > 0 {
		st.InodesFree = max(q.Inodes-st.Inodes, 0)
	}
	return st
}
