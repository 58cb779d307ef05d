package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// CopyProgress is how far a restore or clone has come.
type CopyProgress struct {
	Seen    int64 // inodes of the source looked at
	Changed int64 // made, moved or made equal
	Removed int64 // names taken away
	// Kept are paths that stay as they are because they are under retention,
	// the first keptMax of them.
	Kept []string
}

const keptMax = 100

// treeCopy makes part of the live tree equal to part of a snapshot's. What is
// equal already is left alone, so that one that was broken off goes on where it
// was. Content is shared.
//
// With same, an inode that is there still, under whatever name below top, is
// moved to where it was rather than made anew. Then two passes are needed:
// names that the snapshot does not have go only when everything else has been
// found its place.
type treeCopy struct {
	fs       *Local
	c        *fsapi.Cred
	id       fsapi.SnapshotID
	same     bool
	top      fsapi.Ino // same: the live directory to stay below; 0: nothing is moved
	progress func(CopyProgress)

	whole  bool // the inode made last has all its content
	done   CopyProgress
	linked map[fsapi.Ino]fsapi.Ino // of inodes with several names: what stands for them
}

// copyPage is how many names are looked at together.
const copyPage = 256

func (t *treeCopy) view(ctx context.Context, fn func(tx *meta.Tx) error) error {
	return t.fs.o.Meta.ViewAt(ctx, t.fs.vol, t.id, fn)
}

// source reads an inode of the snapshot.
func (t *treeCopy) source(ctx context.Context, ino fsapi.Ino) (in *meta.Inode, err error) {
	err = t.view(ctx, func(tx *meta.Tx) error {
		in, err = tx.Inode(ino)
		return err
	})
	return in, err
}

func (t *treeCopy) seen() {
	if t.done.Seen++; t.done.Seen%64 == 0 && t.progress != nil {
		t.progress(t.done)
	}
}

// refused takes an error that says that something is under retention for an
// entry of the report.
func (t *treeCopy) refused(ctx context.Context, dir fsapi.Ino, name string, err error) error {
	if err == nil || fsapi.KindOf(err) != fsapi.Immutable {
		return err
	}
	if len(t.done.Kept) < keptMax {
		path, perr := PathOf(ctx, t.fs, dir)
		if perr != nil {
			path = fmt.Sprintf("#%d", dir)
		}
		t.done.Kept = append(t.done.Kept, strings.TrimSuffix(path, "/")+"/"+name)
	}
	return nil
}

// fill is the first pass: every name of the snapshot's directory src is in the
// live directory dir, and so on below.
func (t *treeCopy) fill(ctx context.Context, src, dir fsapi.Ino) error {
	for last := ""; ; {
		if err := ctx.Err(); err != nil {
			return fsapi.Wrap(fsapi.Interrupted, err, "copy a tree")
		}
		var page []fsapi.Dirent
		err := t.view(ctx, func(tx *meta.Tx) (err error) {
			page, err = tx.ReadDir(src, last, copyPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			last = page[i].Name
			if src == fsapi.RootIno && last == VirtualName {
				continue
			}
			if err := t.entry(ctx, dir, last, page[i].Ino); err != nil {
				return err
			}
		}
	}
}

// entry makes dir/name what the inode src of the snapshot is, and fills it.
func (t *treeCopy) entry(ctx context.Context, dir fsapi.Ino, name string, src fsapi.Ino) error {
	t.seen()
	in, err := t.source(ctx, src)
	if err != nil {
		return err
	}
	t.whole = false
	ino, err := t.place(ctx, dir, name, in)
	switch {
	case err != nil:
		return t.refused(ctx, dir, name, err)
	case in.Type == fsapi.TypeDirectory:
		return t.fill(ctx, src, ino)
	case t.whole:
		return nil
	}
	return t.refused(ctx, dir, name, t.equal(ctx, ino, in))
}

// place sees to it that dir/name is an inode that stands for in: itself, where
// it is still there, or another of its type.
func (t *treeCopy) place(ctx context.Context, dir fsapi.Ino, name string, in *meta.Inode) (fsapi.Ino, error) {
	stands := in.Ino
	if in.Nlink > 1 && in.Type != fsapi.TypeDirectory && t.linked[in.Ino] != 0 {
		stands = t.linked[in.Ino]
	}
	now, err := t.fs.Lookup(ctx, t.c, dir, name)
	if err != nil && fsapi.KindOf(err) != fsapi.NotExist {
		return 0, err
	}
	occupied := err == nil
	if occupied && now.Ino == stands && (t.same || stands != in.Ino) {
		return t.remember(in, stands), nil
	}
	alive, err := t.alive(ctx, dir, in, stands)
	if err != nil {
		return 0, err
	}
	if alive == nil && occupied {
		ok, err := t.takesPlace(ctx, &now, in)
		if err != nil {
			return 0, err
		}
		if ok {
			return t.remember(in, now.Ino), nil
		}
	}
	if occupied {
		if err := t.clear(ctx, dir, name, &now); err != nil {
			return 0, err
		}
	}
	t.done.Changed++
	ino, err := t.bring(ctx, dir, name, in, alive)
	if err != nil {
		return 0, err
	}
	return t.remember(in, ino), nil
}

// remember notes what stands for an inode with several names.
func (t *treeCopy) remember(in *meta.Inode, ino fsapi.Ino) fsapi.Ino {
	if in.Nlink > 1 && in.Type != fsapi.TypeDirectory {
		t.linked[in.Ino] = ino
	}
	return ino
}

// alive is the live inode to be moved or linked to where in was: one that
// stands for it already, or itself; nil where there is none.
func (t *treeCopy) alive(ctx context.Context, dir fsapi.Ino, in *meta.Inode, stands fsapi.Ino) (found *meta.Inode, err error) {
	if stands == in.Ino && !t.same {
		return nil, nil
	}
	err = t.fs.view(ctx, func(tx *meta.Tx) error {
		now, err := tx.Inode(stands)
		if err != nil {
			if fsapi.KindOf(err) == fsapi.Stale {
				return nil
			}
			return err
		}
		if now.Nlink == 0 || now.Type != in.Type {
			return nil
		}
		if stands != in.Ino {
			found = now
			return nil
		}
		if t.top == 0 {
			return nil
		}
		below, err := tx.IsAncestor(t.top, now.Parent)
		if err != nil || !below {
			return err
		}
		if now.Type == fsapi.TypeDirectory {
			// A directory does not go below itself.
			if above, err := tx.IsAncestor(now.Ino, dir); err != nil || above {
				return err
			}
		}
		found = now
		return nil
	})
	return found, err
}

// takesPlace reports whether what has the name now can be made to stand for in,
// which is gone: it is of the same type, has no other name that would change
// with it, and the snapshot does not need it elsewhere.
func (t *treeCopy) takesPlace(ctx context.Context, now *fsapi.Attr, in *meta.Inode) (bool, error) {
	isDir := now.Type == fsapi.TypeDirectory
	if now.Type != in.Type || !isDir && now.Type != fsapi.TypeRegular {
		return false, nil
	}
	if !isDir && (now.Nlink > 1 && in.Nlink == 1 || in.Nlink > 1 && t.linked[in.Ino] != 0) {
		return false, nil
	}
	if !t.same || t.top == 0 {
		return true, nil
	}
	needed, err := t.needed(ctx, now.Ino)
	return !needed, err
}

// needed reports whether a live inode has a name in the snapshot.
func (t *treeCopy) needed(ctx context.Context, ino fsapi.Ino) (bool, error) {
	in, err := t.source(ctx, ino)
	if err != nil {
		if fsapi.KindOf(err) == fsapi.Stale {
			return false, nil
		}
		return false, err
	}
	return in.Nlink > 0, nil
}

// clear frees a name: what the snapshot has elsewhere goes aside until its turn
// comes, and so does a directory, below which there may be some of that; the rest
// is removed.
func (t *treeCopy) clear(ctx context.Context, dir fsapi.Ino, name string, now *fsapi.Attr) error {
	needed := t.same && t.top != 0
	if needed && now.Type != fsapi.TypeDirectory {
		var err error
		if needed, err = t.needed(ctx, now.Ino); err != nil {
			return err
		}
	}
	if !needed {
		return t.remove(ctx, dir, name, now)
	}
	aside := fmt.Sprintf(".strake-restore-%d-%d", now.Ino, t.done.Seen)
	return t.fs.Rename(ctx, t.c, dir, name, dir, aside, RenameNoReplace)
}

// remove removes a name with everything below it.
func (t *treeCopy) remove(ctx context.Context, dir fsapi.Ino, name string, now *fsapi.Attr) error {
	if now.Type != fsapi.TypeDirectory {
		t.done.Removed++
		return t.fs.Unlink(ctx, t.c, dir, name)
	}
	for last := ""; ; {
		page, err := t.live(ctx, now.Ino, last)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			t.done.Removed++
			return t.fs.Rmdir(ctx, t.c, dir, name)
		}
		for i := range page {
			last = page[i].Name
			if err := t.remove(ctx, now.Ino, last, &page[i].Attr); err != nil {
				return err
			}
		}
	}
}

// live is a page of a live directory.
func (t *treeCopy) live(ctx context.Context, dir fsapi.Ino, last string) (page []fsapi.Dirent, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fsapi.Wrap(fsapi.Interrupted, err, "copy a tree")
	}
	err = t.fs.view(ctx, func(tx *meta.Tx) error {
		page, err = tx.ReadDir(dir, last, copyPage)
		return err
	})
	return page, err
}

// bring gives dir/name, which is free, to what is to stand for in: the live
// inode, the inode out of the trash, or a new one.
func (t *treeCopy) bring(ctx context.Context, dir fsapi.Ino, name string, in, alive *meta.Inode) (fsapi.Ino, error) {
	switch {
	case alive != nil && (alive.Ino != in.Ino || in.Nlink > 1 && in.Type != fsapi.TypeDirectory):
		_, err := t.fs.Link(ctx, t.c, alive.Ino, dir, name)
		return alive.Ino, err
	case alive != nil:
		return alive.Ino, t.fs.Rename(ctx, t.c, alive.Parent, alive.Name, dir, name, RenameNoReplace)
	}
	if t.same {
		back, err := t.untrash(ctx, dir, name, in)
		if err != nil || back {
			return in.Ino, err
		}
	}
	return t.plant(ctx, dir, name, in)
}

// untrash brings an inode back from the trash, if it is there.
func (t *treeCopy) untrash(ctx context.Context, dir fsapi.Ino, name string, in *meta.Inode) (bool, error) {
	n, err := t.fs.node(ctx, in.Ino)
	if err != nil {
		if fsapi.KindOf(err) == fsapi.Stale {
			return false, nil
		}
		return false, err
	}
	defer n.release()
	if n.flags()&meta.Trashed == 0 || n.typ != in.Type {
		return false, nil
	}
	err = t.fs.restore(ctx, t.c, n, dir, name)
	if kindOf(err) == fsapi.NotExist && err != nil {
		return false, nil // it has just expired
	}
	return err == nil, err
}

// plant makes a new inode like in, content and all where it is not large.
func (t *treeCopy) plant(ctx context.Context, dir fsapi.Ino, name string, in *meta.Inode) (fsapi.Ino, error) {
	fs := t.fs
	d, err := fs.enter(ctx, t.c, dir, name)
	if err != nil {
		return 0, err
	}
	defer d.release()
	holds, err := fs.effective(ctx, d)
	if err != nil {
		return 0, err
	}
	n, err := t.plantIn(d, name, in, &holds.Policy)
	if err != nil {
		return 0, err
	}
	defer n.release()
	return n.ino, nil
}

func (t *treeCopy) plantIn(d *node, name string, in *meta.Inode, holds *policy.Policy) (*node, error) {
	fs := t.fs
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	d.ns.Lock()
	defer d.ns.Unlock()
	var dirIn, made *meta.Inode
	seq, err := fs.update(func(tx *meta.Tx) (err error) {
		tx.SetDoor(t.c.Door)
		if dirIn, err = tx.Inode(d.ino); err != nil {
			return err
		}
		made, err = tx.Create(dirIn, name, meta.NewInode{
			Type: in.Type, Mode: in.Mode, Uid: in.Uid, Gid: in.Gid, Rdev: in.Rdev, Target: in.Target,
		})
		if err != nil || in.Type == fsapi.TypeDirectory {
			return err
		}
		if err := fs.pendCommit(tx, holds, made); err != nil {
			return err
		}
		old, err := tx.At(t.id)
		if err != nil {
			return err
		}
		if _, err := t.likeness(tx, old, made, in); err != nil {
			return err
		}
		end, err := shareStep(tx, old, made, in, 0)
		t.whole = end == fsapi.MaxFileSize
		return cmpErr(err, tx.SetInode(made))
	})
	if err != nil {
		return nil, err
	}
	n := fs.born(d, dirIn, made, name, seq)
	if made.Flags&meta.HasPolicy != 0 {
		fs.policies.gen.Add(1)
	}
	fs.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: made.Ino, Dir: d.ino, Name: name, Type: made.Type, Door: t.c.Door})
	return n, nil
}

// shareStep makes a part of a file's extents from `from` on those of the
// snapshot's, a bounded number, and returns where it ended: MaxFileSize at the
// end. The size follows.
func shareStep(tx, old *meta.Tx, now, was *meta.Inode, from int64) (end int64, err error) {
	if was.Type != fsapi.TypeRegular {
		return fsapi.MaxFileSize, nil
	}
	theirs, err := old.Extents(was.Ino, from, fsapi.MaxFileSize, allocStep)
	if err != nil {
		return from, err
	}
	ours, err := tx.Extents(now.Ino, from, fsapi.MaxFileSize, allocStep)
	if err != nil {
		return from, err
	}
	end = fsapi.MaxFileSize
	for _, list := range [][]fsapi.Extent{theirs, ours} {
		if len(list) == allocStep {
			end = min(end, list[allocStep-1].End())
		}
	}
	theirs, ours = shifted(theirs, from, end, 0), shifted(ours, from, end, 0)
	if !slices.EqualFunc(theirs, ours, sameExtent) {
		if err := tx.SetExtents(now, from, end, theirs); err != nil {
			return from, err
		}
	}
	now.Size = was.Size
	if end < fsapi.MaxFileSize {
		now.Size = min(was.Size, end)
	}
	return end, nil
}

// sameExtent reports whether two extents hold the same bytes of one chunk,
// wherever it lies.
func sameExtent(a, b fsapi.Extent) bool {
	return a.Off == b.Off && a.Len == b.Len && a.Kind == b.Kind && a.Chunk == b.Chunk && a.ChunkOff == b.ChunkOff && a.ChunkLen == b.ChunkLen
}

// equal makes a live inode, not a directory, equal to one of the snapshot.
func (t *treeCopy) equal(ctx context.Context, ino fsapi.Ino, was *meta.Inode) error {
	n, err := t.fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	if n.untouched(was) {
		return nil
	}
	n.io.Lock()
	defer n.io.Unlock()
	if err := t.fs.flushNode(n); err != nil {
		return err
	}
	changed := false
	for from := int64(0); from < fsapi.MaxFileSize; {
		end := from
		did, err := t.alter(ctx, n, func(tx, old *meta.Tx, in *meta.Inode) (bool, error) {
			before, size := in.Change, in.Size
			var err error
			if end, err = shareStep(tx, old, in, was, from); err != nil {
				return false, err
			}
			likened := false
			if end == fsapi.MaxFileSize {
				likened, err = t.likeness(tx, old, in, was)
			}
			return likened || in.Change != before || in.Size != size, err
		})
		if err != nil {
			return err
		}
		changed, from = changed || did, end
	}
	if changed {
		t.done.Changed++
		t.fs.tell(fsapi.Change{Kind: fsapi.ChangeContent, Ino: ino, Type: was.Type, Len: -1, Door: t.c.Door})
	}
	return nil
}

// untouched reports whether n is certainly as it was. Times alone do not say so:
// clocks are coarse, and are set back.
func (n *node) untouched(was *meta.Inode) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	a, b := &n.in.Attr, &was.Attr
	return a.Ino == b.Ino && a.Change == b.Change && n.data == nil && n.pend&^fAtime == 0 && len(n.flights) == 0 && n.in.Flags == was.Flags &&
		a.Ctime.Equal(b.Ctime) && a.Mtime.Equal(b.Mtime) && a.Size == b.Size && a.Used == b.Used && a.Mode == b.Mode && a.Nlink == b.Nlink
}

// alter commits what fn changes of a live inode, and reports whether it did
// change anything.
func (t *treeCopy) alter(ctx context.Context, n *node, fn func(tx, old *meta.Tx, in *meta.Inode) (bool, error)) (bool, error) {
	fs := t.fs
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	n.ns.Lock()
	defer n.ns.Unlock()
	if n.isGone() {
		return false, errGone(n.ino)
	}
	if err := fs.mutable(ctx, n); err != nil {
		return false, err
	}
	var stored *meta.Inode
	event := fsapi.Change{Kind: fsapi.ChangeAttr, Ino: n.ino, Type: n.typ, Door: t.c.Door}
	seq, err := fs.update(func(tx *meta.Tx) error {
		tx.SetDoor(t.c.Door)
		in, err := n.inTx(tx)
		if err != nil {
			return err
		}
		old, err := tx.At(t.id)
		if err != nil {
			return err
		}
		changed, err := fn(tx, old, in)
		if err != nil {
			return err
		}
		if !changed {
			return errEnough
		}
		stored = in
		fs.note(tx, event)
		return tx.SetInode(in)
	})
	if errors.Is(err, errEnough) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n.mu.Lock()
	n.pend &^= fAtime
	n.installLocked(stored, seq)
	n.extents.clear()
	n.acl = nil
	n.mu.Unlock()
	fs.policies.gen.Add(1)
	fs.tell(event)
	return true, nil
}

// likeness gives an inode the attributes, extended attributes and policy of one
// of the snapshot, and reports whether it differed.
func (t *treeCopy) likeness(tx, old *meta.Tx, in, was *meta.Inode) (changed bool, err error) {
	if in.Mode != was.Mode || in.Uid != was.Uid || in.Gid != was.Gid || in.Rdev != was.Rdev || !in.Mtime.Equal(was.Mtime) {
		changed = true
	}
	labelled, err := t.labels(tx, old, in, was)
	if err != nil {
		return false, err
	}
	own, err := old.Policy(was.Ino)
	if err != nil {
		return false, err
	}
	have, err := tx.Policy(in.Ino)
	if err != nil {
		return false, err
	}
	if !own.Equal(have) {
		changed = true
		if err := tx.SetPolicy(in, own); err != nil {
			return false, err
		}
	}
	in.Mode, in.Uid, in.Gid, in.Rdev = was.Mode, was.Uid, was.Gid, was.Rdev
	in.Atime, in.Mtime, in.Ctime = was.Atime, was.Mtime, tx.Now()
	return changed || labelled, nil
}

// labels makes extended attributes equal; retention is not among them.
func (t *treeCopy) labels(tx, old *meta.Tx, in, was *meta.Inode) (changed bool, err error) {
	theirs, err := old.Xattrs(was.Ino)
	if err != nil {
		return false, err
	}
	ours, err := tx.Xattrs(in.Ino)
	if err != nil {
		return false, err
	}
	for _, name := range ours {
		if slices.Contains(theirs, name) || name == meta.RetentionXattr {
			continue
		}
		changed = true
		if err := tx.RemoveXattr(in, name); err != nil {
			return false, err
		}
	}
	for _, name := range theirs {
		if name == meta.RetentionXattr {
			continue
		}
		value, err := old.Xattr(was.Ino, name)
		if err != nil {
			return false, err
		}
		if slices.Contains(ours, name) {
			have, err := tx.Xattr(in.Ino, name)
			if err != nil {
				return false, err
			}
			if bytes.Equal(have, value) {
				continue
			}
		}
		changed = true
		if err := tx.SetXattr(in, name, value); err != nil {
			return false, err
		}
	}
	return changed, nil
}

// finish is the second pass: names that the snapshot's directory does not have
// go, and directories get their attributes.
func (t *treeCopy) finish(ctx context.Context, src, dir fsapi.Ino) error {
	for last := ""; ; {
		page, err := t.live(ctx, dir, last)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return t.finishDir(ctx, src, dir)
		}
		for i := range page {
			e := &page[i]
			if last = e.Name; dir == fsapi.RootIno && last == VirtualName {
				continue
			}
			if err := t.finishEntry(ctx, src, dir, e); err != nil {
				return err
			}
		}
	}
}

func (t *treeCopy) finishEntry(ctx context.Context, src, dir fsapi.Ino, e *fsapi.Dirent) error {
	var was *meta.Inode
	err := t.view(ctx, func(tx *meta.Tx) (err error) {
		was, err = tx.Lookup(src, e.Name)
		return err
	})
	switch {
	case err != nil && fsapi.KindOf(err) == fsapi.NotExist:
		if !t.same { // nobody else's
			return nil
		}
		return t.refused(ctx, dir, e.Name, t.remove(ctx, dir, e.Name, &e.Attr))
	case err != nil:
		return err
	case was.Type == fsapi.TypeDirectory && e.Type == fsapi.TypeDirectory:
		return t.finish(ctx, was.Ino, e.Ino)
	}
	return nil
}

// finishDir gives a directory its attributes.
func (t *treeCopy) finishDir(ctx context.Context, src, dir fsapi.Ino) error {
	was, err := t.source(ctx, src)
	if err != nil {
		return err
	}
	n, err := t.fs.dir(ctx, dir)
	if err != nil {
		return err
	}
	defer n.release()
	_, err = t.alter(ctx, n, func(tx, old *meta.Tx, in *meta.Inode) (bool, error) { return t.likeness(tx, old, in, was) })
	return err
}

// all copies a directory: what it holds, and itself.
func (t *treeCopy) all(ctx context.Context, src, dir fsapi.Ino) error {
	if t.linked == nil {
		t.linked = map[fsapi.Ino]fsapi.Ino{}
	}
	if err := t.fill(ctx, src, dir); err != nil {
		return err
	}
	return t.finish(ctx, src, dir)
}
