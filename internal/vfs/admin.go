package vfs

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// Admin is what a volume can do besides POSIX: for the command line, REST and
// the daemon. Every method may be called concurrently.
type Admin interface {
	// Volume is the number of the volume.
	Volume() fsapi.VolumeID
	// Resolve walks a slash-separated path from the root, through symlinks,
	// the last one only where follow is true.
	Resolve(ctx context.Context, c *fsapi.Cred, path string, follow bool) (fsapi.Attr, error)

	// EffectivePolicy is an inode's own policy and what holds for it with
	// everything inherited.
	EffectivePolicy(ctx context.Context, ino fsapi.Ino) (own, effective policy.Policy, err error)
	// SetPolicy sets an inode's own policy; the zero Policy removes it. Data
	// stored before stays as it is until upkeep rewrites it.
	SetPolicy(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, p policy.Policy) error
	// VolumeChanged says that the volume's own policy or quota was changed in
	// the metadata.
	VolumeChanged()

	// Quota is a directory's own quota and, where it has one or is the root,
	// what it holds.
	Quota(ctx context.Context, dir fsapi.Ino) (Quota, fsapi.Usage, error)
	// SetQuota sets the quota of a directory; the zero Quota removes it. It
	// counts the subtree, and stops changes of the volume meanwhile.
	SetQuota(ctx context.Context, c *fsapi.Cred, dir fsapi.Ino, q Quota) error

	// Trash lists up to limit entries (0: all), the oldest first.
	Trash(ctx context.Context, limit int) (entries []TrashEntry, more bool, err error)
	// RestoreTrash gives an entry the path to, or where it was (""), making
	// directories that are missing; the result is the path it got. fsapi.Exist
	// where something else has the path.
	RestoreTrash(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, to string) (string, error)
	// EmptyTrash drops one entry (ino not 0), or those deleted before a time,
	// or (zero) all. Files that are open stay until later. The result counts
	// what was dropped.
	EmptyTrash(ctx context.Context, ino fsapi.Ino, before time.Time) (int, error)

	// Snapshots lists the volume's snapshots, the oldest first.
	Snapshots(ctx context.Context) ([]Snapshot, error)
	// Snapshot finds one by its name: fsapi.NotExist.
	Snapshot(ctx context.Context, name string) (Snapshot, error)
	// CreateSnapshot keeps the volume as it is, under s.Name, with everything
	// written before the call; of s, Until and Auto count too. fsapi.Exist.
	CreateSnapshot(ctx context.Context, c *fsapi.Cred, s Snapshot) (Snapshot, error)
	// DeleteSnapshot gives a snapshot up; its space is released in the
	// background. fsapi.NotExist; Immutable where it is kept until later.
	DeleteSnapshot(ctx context.Context, c *fsapi.Cred, name string) error
	// DiffSnapshots calls fn for each path that differs between a snapshot and
	// a newer one or (to "") the present.
	DiffSnapshots(ctx context.Context, from, to string, fn func(Difference) error) error
	// RestoreSnapshot makes the volume, or a part of it, equal to what it was,
	// after a snapshot of how it is; or it makes a copy elsewhere. Content is
	// shared. Others may go on meanwhile; one that was broken off goes on where
	// it was when it is asked for again. progress, which may be nil, is called
	// now and then.
	RestoreSnapshot(ctx context.Context, c *fsapi.Cred, r RestoreSnapshot, progress func(CopyProgress)) (Restored, error)
	// Clone makes a copy of a file or directory, live or of a snapshot, where
	// nothing is; content is shared. A live one is copied as it is at one
	// moment. Hard links within, extended attributes, ACLs and policies are
	// kept; quotas and retention are not.
	Clone(ctx context.Context, c *fsapi.Cred, from, to string, progress func(CopyProgress)) (CopyProgress, error)

	// Retention is what holds a file; zero: nothing.
	Retention(ctx context.Context, ino fsapi.Ino) (policy.Retained, error)
	// SetRetention sets what holds a file, for its owner; the legal hold only
	// for the superuser. What is in force only grows (fsapi.Immutable), but for
	// governance retention where the superuser overrides it.
	SetRetention(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, r policy.Retained, override bool) error

	// Explain says where a file's bytes lie.
	Explain(ctx context.Context, ino fsapi.Ino) (Explanation, error)
	// DropCaches forgets everything that can be read again.
	DropCaches(ctx context.Context) error
	// Stats are for people and metrics.
	Stats() Stats
	// Syncfs is as in FS.
	Syncfs(ctx context.Context) error
}

// Explanation is where a file's bytes lie.
type Explanation struct {
	Attr      fsapi.Attr
	Effective policy.Policy
	Dirty     int64          // bytes not stored yet
	Extents   []fsapi.Extent // ascending, without the bytes of inline ones
}

// Explain implements Admin.
func (fs *Local) Explain(ctx context.Context, ino fsapi.Ino) (x Explanation, err error) {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return x, err
	}
	defer n.release()
	class, err := fs.effective(ctx, n)
	if err != nil {
		return x, err
	}
	x.Effective = class.Policy
	n.mu.RLock()
	x.Attr = n.attrLocked()
	if n.data != nil {
		for _, b := range n.data.blocks {
			x.Dirty += b.size()
		}
	}
	n.mu.RUnlock()
	if n.typ != fsapi.TypeRegular {
		return x, nil
	}
	for at := int64(0); ; {
		exts, err := fs.lookExtents(ctx, n, at, fsapi.MaxFileSize, allocStep)
		if err != nil {
			return x, err
		}
		for _, e := range exts {
			e.Inline = nil
			x.Extents = append(x.Extents, e)
		}
		if len(exts) < allocStep {
			return x, nil
		}
		at = exts[len(exts)-1].End()
	}
}

// DropCaches implements Admin.
func (fs *Local) DropCaches(context.Context) error {
	fs.nodes.dropClean()
	fs.nodes.each(func(n *node) {
		n.mu.Lock()
		n.extents.clear()
		n.mu.Unlock()
	})
	fs.o.Blob.DropCaches()
	return nil
}

// VolumeChanged implements Admin.
func (fs *Local) VolumeChanged() {
	fs.policies.gen.Add(1)
	fs.quotas.gen.Add(1)
}

// usage is what the volume holds.
func (fs *Local) usage(ctx context.Context) (u fsapi.Usage, err error) {
	err = fs.view(ctx, func(tx *meta.Tx) (err error) {
		u, err = tx.Usage(fsapi.RootIno)
		return err
	})
	return u, err
}
