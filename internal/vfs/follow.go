package vfs

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// A volume that is opened with Options.ReadOnly shows what another machine writes:
// what its nodes keep is renewed by Refresh, for each batch that the metadata shows
// newly, and by reads that find something newer first. A read is of one state of
// the file: extents are taken only from the state that the node is of.

func errReadOnly(vol fsapi.VolumeID) error {
	return fsapi.Errorf(fsapi.ReadOnly, "volume %d is open read-only here", vol)
}

// errChanged says that a file has changed since its node was read.
var errChanged = fsapi.Errorf(fsapi.Busy, "the inode has changed meanwhile: try again")

// readTries bounds how often a read begins anew because another machine changed
// the file.
const readTries = 20

// Refresh takes in what a batch changed that another machine wrote, once the
// metadata shows it, and tells the watchers. For volumes opened read-only; one call
// at a time. On an error it can be called again.
func (fs *Local) Refresh(ctx context.Context, t *meta.Touched) error {
	fs.nodes.evicted.Add(1) // what was read before is not taken for new
	if t.Inherited {
		fs.VolumeChanged()
	}
	inodes := slices.Collect(maps.Keys(t.Inodes))
	for name := range t.Names {
		if ino := fs.forgetName(name); ino != 0 {
			inodes = append(inodes, ino)
		}
	}
	for _, ino := range inodes {
		if err := fs.renew(ctx, ino); err != nil {
			return err
		}
	}
	told := map[fsapi.Ino]bool{} // true: of its content
	for _, c := range t.Changes {
		told[c.Ino] = told[c.Ino] || c.Kind == fsapi.ChangeContent
		c.Door = ""
		fs.tell(c)
	}
	for ino, content := range t.Inodes {
		switch was, ok := told[ino]; {
		case content && !was:
			fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: ino, Len: -1})
		case !ok:
			fs.tell(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: ino})
		}
	}
	for name := range t.Snapshots {
		fs.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Dir: virtualSnaps, Name: name, Type: fsapi.TypeDirectory})
	}
	return nil
}

// RefreshAll is Refresh where it is not known what changed.
func (fs *Local) RefreshAll(ctx context.Context) error {
	fs.nodes.evicted.Add(1)
	fs.VolumeChanged()
	var known []fsapi.Ino
	fs.nodes.each(func(n *node) { known = append(known, n.ino) })
	fs.nodes.dropClean()
	var err error
	fs.nodes.each(func(n *node) {
		n.ns.Lock()
		fs.dropNames(n)
		n.ns.Unlock()
		err = cmpErr(err, fs.renew(ctx, n.ino))
	})
	if err != nil {
		return err
	}
	fs.tell(fsapi.Change{Kind: fsapi.ChangeUnknown})
	for _, ino := range known {
		fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: ino, Len: -1})
	}
	return nil
}

// forgetName drops a name that a directory caches, and says which inode it had; 0:
// none.
func (fs *Local) forgetName(name meta.Name) fsapi.Ino {
	d := fs.nodes.peek(name.Dir)
	if d == nil {
		return 0
	}
	defer d.release()
	d.ns.Lock()
	defer d.ns.Unlock()
	ino, _ := d.name(name.Name)
	fs.dropName(d, name.Name)
	return ino
}

// dropNames forgets all names of a directory. REQUIRES n.ns, exclusively.
func (fs *Local) dropNames(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names = nil
	fs.nameCount.Add(-int64(n.nameCount.Swap(0)))
}

// renew reads an inode that is in memory again. One that is no more, or waits for
// the other machine to give it up, has a node for as long as it is open here.
func (fs *Local) renew(ctx context.Context, ino fsapi.Ino) error {
	n := fs.nodes.peek(ino)
	if n == nil {
		return nil
	}
	defer n.release()
	n.ns.Lock() // so that of two who renew it the later one reads it later
	defer n.ns.Unlock()
	var in *meta.Inode
	err := fs.view(ctx, func(tx *meta.Tx) (err error) {
		in, err = tx.Inode(ino)
		return err
	})
	if err != nil && !errors.Is(err, fsapi.Stale) {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.extents.clear()
	n.acl, n.pol, n.quota = nil, nil, nil
	switch {
	case err != nil:
		fs.endLocked(n)
	case in.Flags&meta.Orphan != 0 && n.opens == 0:
		n.in = *in
		fs.endLocked(n)
	default:
		n.in, n.ssize = *in, in.Size
	}
	return nil
}

// sameState fails with errChanged where a file is not in the state that its node is
// of, and with fsapi.Stale where it is no more.
func (fs *Local) sameState(tx *meta.Tx, n *node) error {
	in, err := tx.Inode(n.ino)
	if err != nil {
		return err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if in.Change != n.in.Change || in.Size != n.in.Size {
		return errChanged
	}
	return nil
}

// isOf reports whether a node is of the state that has a change number.
func (n *node) isOf(state uint64) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.in.Change == state
}

// catchUp lets the metadata show what the other machine wrote by now: for who found
// that something it read of is not there any more.
func (fs *Local) catchUp(ctx context.Context) error {
	if fs.o.CatchUp == nil {
		return nil
	}
	return fs.o.CatchUp(ctx)
}
