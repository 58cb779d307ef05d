package vfs

import (
	"context"
	"path"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// TrashEntry is one deleted file, symlink or directory.
type TrashEntry struct {
	Ino     fsapi.Ino
	Path    string // where it was, from the volume's root
	Deleted time.Time
	Expires time.Time
	Attr    fsapi.Attr
}

const (
	reclaimStep = 1000 // records that one transaction releases
	trashStep   = 256  // entries of the trash that one transaction drops
	trashCheck  = time.Minute
)

// janitor releases storage of what was removed, deleted snapshots among it, and
// expires the trash.
func (fs *Local) janitor() {
	for {
		fs.drainReclaim()
		fs.drainSnapshots()
		select {
		case <-fs.stop:
			return
		case <-fs.reclaim:
			fs.orphans.drop(fs)
		case <-fs.o.Clock.After(trashCheck):
			if _, err := fs.expireTrash(fs.ctx, fs.now()); err != nil {
				fs.o.Log.Warn("the trash could not be expired; it is tried again", "err", err)
			}
			if err := cmpErr(fs.commitDue(fs.ctx), fs.o.Meta.KeepRetentionClock(fs.ctx)); err != nil {
				fs.o.Log.Warn("files could not be put under retention; it is tried again", "err", err)
			}
		}
	}
}

func (fs *Local) wakeReclaim() {
	select {
	case fs.reclaim <- struct{}{}:
	default:
	}
}

// drainReclaim releases storage until nothing waits.
func (fs *Local) drainReclaim() {
	for {
		select {
		case <-fs.stop:
			return
		default:
		}
		var more bool
		_, err := fs.updateShared(func(tx *meta.Tx) (err error) {
			more, err = tx.Reclaim(reclaimStep)
			return err
		})
		if err != nil {
			fs.o.Log.Warn("storage of removed files could not be released; it is tried again", "err", err)
			return
		}
		if !more {
			return
		}
	}
}

// orphans are inodes whose last handle was closed, to be handed to Reclaim.
type orphans struct {
	mu   sync.Mutex
	inos []fsapi.Ino
}

func (o *orphans) add(fs *Local, ino fsapi.Ino) {
	o.mu.Lock()
	o.inos = append(o.inos, ino)
	o.mu.Unlock()
	fs.wakeReclaim()
}

func (o *orphans) drop(fs *Local) {
	o.mu.Lock()
	inos := o.inos
	o.inos = nil
	o.mu.Unlock()
	if len(inos) == 0 {
		return
	}
	if err := fs.dropInos(inos, (*meta.Tx).DropOrphan); err != nil {
		fs.o.Log.Warn("unlinked files stay until the next start", "count", len(inos), "err", err)
	}
}

// dropInos hands inodes to Reclaim. Those that are gone already do not matter.
func (fs *Local) dropInos(inos []fsapi.Ino, drop func(*meta.Tx, fsapi.Ino) error) error {
	for len(inos) > 0 {
		k := min(len(inos), trashStep)
		fs.gate.RLock()
		err := fs.dropStep(inos[:k], drop)
		fs.gate.RUnlock()
		if err != nil {
			return err
		}
		inos = inos[k:]
	}
	return nil
}

// dropStep is dropInos in one transaction. REQUIRES gate.
func (fs *Local) dropStep(inos []fsapi.Ino, drop func(*meta.Tx, fsapi.Ino) error) error {
	if len(inos) == 0 {
		return nil
	}
	_, err := fs.update(func(tx *meta.Tx) error {
		for _, ino := range inos {
			err := drop(tx, ino)
			if k := kindOf(err); err != nil && k != fsapi.Stale && k != fsapi.NotExist {
				return err
			}
		}
		return nil
	})
	return err
}

// dropOrphans drops what a process left that ended with files open and
// unlinked.
func (fs *Local) dropOrphans() error {
	var after fsapi.Ino
	for {
		var inos []fsapi.Ino
		err := fs.view(fs.ctx, func(tx *meta.Tx) (err error) {
			inos, err = tx.Orphans(after, trashStep)
			return err
		})
		if err != nil || len(inos) == 0 {
			return err
		}
		if err := fs.dropInos(inos, (*meta.Tx).DropOrphan); err != nil {
			return err
		}
		after = inos[len(inos)-1]
	}
}

// eachTrash calls fn for pages of the trash, oldest first, until it returns
// false.
func (fs *Local) eachTrash(ctx context.Context, fn func([]meta.TrashEntry) (more bool, err error)) error {
	var after *meta.TrashEntry
	for {
		var page []meta.TrashEntry
		err := fs.view(ctx, func(tx *meta.Tx) (err error) {
			page, err = tx.Trash(after, trashStep)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = &page[len(page)-1]
		if more, err := fn(page); err != nil || !more {
			return err
		}
	}
}

// expireTrash drops what expired by now.
func (fs *Local) expireTrash(ctx context.Context, now time.Time) (int, error) {
	return fs.dropTrash(ctx, func(e *meta.TrashEntry) bool { return !e.Expires.After(now) })
}

// dropTrash drops what pick picks, unless it is open: that is left for the next
// time.
func (fs *Local) dropTrash(ctx context.Context, pick func(*meta.TrashEntry) bool) (count int, err error) {
	err = fs.eachTrash(ctx, func(page []meta.TrashEntry) (bool, error) {
		fs.gate.RLock()
		defer fs.gate.RUnlock()
		var nodes []*node
		var inos []fsapi.Ino
		defer func() {
			for _, n := range nodes {
				n.ns.Unlock()
				n.release()
			}
		}()
		for i := range page {
			if !pick(&page[i]) {
				continue
			}
			n, err := fs.node(ctx, page[i].Ino)
			if err != nil {
				continue // somebody else dropped it
			}
			if !n.ns.TryLock() { // it is being opened or restored
				n.release()
				continue
			}
			nodes = append(nodes, n)
			if n.droppable() {
				inos = append(inos, n.ino)
			}
		}
		if err := fs.dropStep(inos, (*meta.Tx).TrashDrop); err != nil {
			return false, err
		}
		for _, n := range nodes {
			n.mu.Lock()
			if n.opens == 0 && n.in.Flags&meta.Trashed != 0 {
				fs.endLocked(n)
			}
			n.mu.Unlock()
		}
		count += len(inos)
		return true, nil
	})
	if count > 0 {
		fs.wakeReclaim()
	}
	return count, err
}

// droppable reports whether n is in the trash and not open.
func (n *node) droppable() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.opens == 0 && n.in.Flags&meta.Trashed != 0
}

// Trash implements Admin.
func (fs *Local) Trash(ctx context.Context, limit int) (entries []TrashEntry, more bool, err error) {
	err = fs.eachTrash(ctx, func(page []meta.TrashEntry) (bool, error) {
		for _, e := range page {
			if limit > 0 && len(entries) == limit {
				more = true
				return false, nil
			}
			t := TrashEntry(e)
			fs.freshenTrash(&t)
			entries = append(entries, t)
		}
		return true, nil
	})
	return entries, more, err
}

// freshenTrash puts what is in memory of a deleted inode over what is stored:
// it may have data that is not stored yet.
func (fs *Local) freshenTrash(e *TrashEntry) {
	if a, ok := fs.nodes.getattr(e.Ino); ok {
		e.Attr = a
	}
}

// EmptyTrash implements Admin.
func (fs *Local) EmptyTrash(ctx context.Context, ino fsapi.Ino, before time.Time) (int, error) {
	return fs.dropTrash(ctx, func(e *meta.TrashEntry) bool {
		if ino != 0 {
			return e.Ino == ino
		}
		return before.IsZero() || e.Deleted.Before(before)
	})
}

// RestoreTrash implements Admin.
func (fs *Local) RestoreTrash(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, to string) (string, error) {
	if to == "" {
		e, err := fs.trashEntry(ctx, ino)
		if err != nil {
			return "", err
		}
		to = e.Path
	}
	names := splitPath(to)
	if len(names) == 0 {
		return "", fsapi.Errorf(fsapi.Invalid, "%q is not a place to restore to", to)
	}
	n, err := fs.node(ctx, ino)
	if err != nil {
		return "", err
	}
	defer n.release()
	if err := fs.mustOwn(c, n); err != nil {
		return "", err
	}
	dir, err := fs.makeParents(ctx, c, names[:len(names)-1])
	if err != nil {
		return "", err
	}
	return path.Join(append([]string{"/"}, names...)...), fs.restore(ctx, c, n, dir, names[len(names)-1])
}

func (fs *Local) trashEntry(ctx context.Context, ino fsapi.Ino) (found TrashEntry, err error) {
	err = fs.eachTrash(ctx, func(page []meta.TrashEntry) (bool, error) {
		for _, e := range page {
			if e.Ino == ino {
				found = TrashEntry(e)
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil && found.Ino == 0 {
		err = fsapi.Errorf(fsapi.NotExist, "inode %d is not in the trash", ino)
	}
	return found, err
}

// makeParents makes the directories of a path that are not there. One that is
// in the trash is not restored for it: a new one takes its place.
func (fs *Local) makeParents(ctx context.Context, c *fsapi.Cred, names []string) (fsapi.Ino, error) {
	dir := fsapi.RootIno
	for _, name := range names {
		a, err := fs.Lookup(ctx, c, dir, name)
		if err != nil && fsapi.KindOf(err) == fsapi.NotExist {
			a, err = fs.Mknod(ctx, c, dir, name, NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
		}
		if err != nil {
			return 0, err
		}
		dir = a.Ino
	}
	return dir, nil
}

// restore gives a deleted inode a name.
func (fs *Local) restore(ctx context.Context, c *fsapi.Cred, n *node, dir fsapi.Ino, name string) error {
	d, err := fs.enter(ctx, c, dir, name)
	if err != nil {
		return err
	}
	defer d.release()
	if err := fs.permit(ctx, c, d, mayWrite|mayExec); err != nil {
		return err
	}
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	d.ns.Lock()
	defer d.ns.Unlock()
	n.ns.Lock()
	defer n.ns.Unlock()
	if n.flags()&meta.Trashed == 0 {
		return fsapi.Errorf(fsapi.NotExist, "inode %d is not in the trash", n.ino)
	}
	var dirIn, in *meta.Inode
	seq, err := fs.update(func(tx *meta.Tx) (err error) {
		tx.SetDoor(c.Door)
		if dirIn, err = tx.Inode(dir); err != nil {
			return err
		}
		in, err = tx.RestoreTrash(n.ino, dirIn, name)
		return err
	})
	if err != nil {
		return err
	}
	d.install(dirIn, seq)
	n.mu.Lock()
	n.installLocked(in, seq)
	n.pol, n.quota = nil, nil
	n.mu.Unlock()
	fs.setName(d, name, n.ino)
	fs.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: n.ino, Dir: dir, Name: name, Type: n.typ, Door: c.Door})
	return nil
}
