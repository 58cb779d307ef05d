package vfs

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// RetentionXattr is the extended attribute that holds a file's retention, as
// policy.Retained's text.
const RetentionXattr = meta.RetentionXattr

// mutable fails with fsapi.ReadOnly where the volume is, and with fsapi.Immutable
// where n is under retention. meta asks
// again when a change is committed; here it is for what is kept in memory first,
// and so that the caller hears at once.
func (fs *Local) mutable(ctx context.Context, n *node) error {
	switch {
	case fs.o.ReadOnly:
		return errReadOnly(fs.vol)
	case n.flags()&meta.HasRetention == 0:
		return nil
	}
	return fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(n.ino)
		if err != nil {
			return err
		}
		return tx.Mutable(in)
	})
}

// Retention implements Admin.
func (fs *Local) Retention(ctx context.Context, ino fsapi.Ino) (r policy.Retained, err error) {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return r, err
	}
	defer n.release()
	err = fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		r, err = tx.Retention(in)
		return err
	})
	return r, err
}

// SetRetention implements Admin.
func (fs *Local) SetRetention(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, r policy.Retained, override bool) error {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	return fs.setRetention(ctx, c, n, override, func(policy.Retained) (policy.Retained, error) { return r, nil })
}

// setRetention changes what holds n as fn says. Everything written before is
// stored first, so that what is held is what is stored.
func (fs *Local) setRetention(ctx context.Context, c *fsapi.Cred, n *node, override bool, fn func(old policy.Retained) (policy.Retained, error)) error {
	if err := fs.mustOwn(c, n); err != nil {
		return err
	}
	if override && c.Uid != 0 {
		return fsapi.Errorf(fsapi.NotPermitted, "only the superuser overrides retention")
	}
	n.io.Lock()
	defer n.io.Unlock()
	if err := fs.flushNode(n); err != nil {
		return err
	}
	err := fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		old, err := tx.Retention(in)
		if err != nil {
			return err
		}
		r, err := fn(old)
		if err != nil {
			return err
		}
		if old.Hold != r.Hold && c.Uid != 0 {
			return fsapi.Errorf(fsapi.NotPermitted, "only the superuser sets and releases a legal hold")
		}
		return tx.SetRetention(in, r, override)
	})
	if err != nil {
		return err
	}
	return fs.o.Meta.Sync(ctx)
}

// retentionOf is what n's policy asks for.
func (fs *Local) retentionOf(ctx context.Context, n *node) (policy.Retention, error) {
	e, err := fs.effective(ctx, n)
	if err != nil || n.typ != fsapi.TypeRegular {
		return policy.Retention{}, err
	}
	return e.Retention, nil
}

// commitRetention puts a file under the retention that its policy asks for, if
// it asks for any, unless what holds it is longer.
func (fs *Local) commitRetention(ctx context.Context, c *fsapi.Cred, n *node) error {
	want, err := fs.retentionOf(ctx, n)
	if err != nil || !want.On() {
		return err
	}
	root := &fsapi.Cred{Door: c.Door}
	return fs.setRetention(ctx, root, n, false, func(old policy.Retained) (policy.Retained, error) {
		now := fs.o.Meta.RetentionNow()
		until := now.Add(want.Period).Truncate(time.Second)
		if old.Timed(now) && !until.After(old.Until) {
			return old, nil
		}
		r := policy.Retained{Mode: want.Mode, Until: until, Hold: old.Hold}
		if old.Timed(now) && old.Mode == policy.Compliance {
			r.Mode = policy.Compliance
		}
		return r, nil
	})
}

// pendCommit has a new file looked at when it may have been left alone for long
// enough.
func (fs *Local) pendCommit(tx *meta.Tx, dir *policy.Policy, in *meta.Inode) error {
	if in.Type != fsapi.TypeRegular || !dir.Retention.On() {
		return nil
	}
	return tx.AddCommit(meta.Commit{Ino: in.Ino, Due: fs.o.Meta.RetentionNow().Add(dir.Retention.Grace)})
}

// commitStep is how many files are looked at together.
const commitStep = 256

// commitDue puts under retention what is due, and has the rest looked at later.
func (fs *Local) commitDue(ctx context.Context) error {
	now := fs.o.Meta.RetentionNow()
	for {
		var due []meta.Commit
		err := fs.view(ctx, func(tx *meta.Tx) (err error) {
			due, err = tx.Commits(now, commitStep)
			return err
		})
		if err != nil {
			return err
		}
		for _, d := range due {
			if err := fs.commitOne(ctx, d, now); err != nil {
				return err
			}
		}
		if len(due) < commitStep {
			return nil
		}
	}
}

func (fs *Local) commitOne(ctx context.Context, d meta.Commit, now time.Time) error {
	n, err := fs.node(ctx, d.Ino)
	if err != nil {
		if fsapi.KindOf(err) != fsapi.Stale {
			return err
		}
		return fs.dropCommit(d, nil)
	}
	defer n.release()
	want, err := fs.retentionOf(ctx, n)
	if err != nil {
		return err
	}
	n.mu.RLock()
	quiet := fs.now().Sub(n.in.Mtime)
	busy := n.writers > 0 || n.data != nil || n.pend&^fAtime != 0
	named := n.in.Nlink > 0
	n.mu.RUnlock()
	switch {
	case !want.On() || !named || n.flags()&meta.HasRetention != 0:
		return fs.dropCommit(d, nil)
	case busy || quiet < want.Grace:
		wait := want.Grace
		if !busy && quiet > 0 {
			wait -= quiet
		}
		return fs.dropCommit(d, &meta.Commit{Ino: d.Ino, Due: now.Add(max(wait, time.Second))})
	}
	if err := fs.commitRetention(ctx, fsapi.Root, n); err != nil && fsapi.KindOf(err) != fsapi.Stale {
		return err
	}
	return fs.dropCommit(d, nil)
}

// dropCommit takes a file off the list, or has it looked at later.
func (fs *Local) dropCommit(d meta.Commit, later *meta.Commit) error {
	_, err := fs.updateShared(func(tx *meta.Tx) error {
		if err := tx.DropCommit(d); err != nil || later == nil {
			return err
		}
		return tx.AddCommit(*later)
	})
	return err
}
