package vfs

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/strakefs/strake/internal/fsapi"
)

// RestoreSnapshot says what to restore.
type RestoreSnapshot struct {
	Snapshot string
	// Path is the file or directory, from the root of the volume: "" or "/"
	// for all of it.
	Path string
	// To, where not "", is the path that a copy is made at, instead of putting
	// Path in order where it is.
	To string
}

// Restored is what a restore did.
type Restored struct {
	CopyProgress
	Before string // the snapshot of how it was before; "" where a copy was made
}

// RestoreSnapshot implements Admin.
func (fs *Local) RestoreSnapshot(ctx context.Context, c *fsapi.Cred, r RestoreSnapshot, progress func(CopyProgress)) (done Restored, err error) {
	if c.Uid != 0 {
		return done, fsapi.Errorf(fsapi.NotPermitted, "only the superuser restores snapshots")
	}
	s, err := fs.Snapshot(ctx, r.Snapshot)
	if err != nil {
		return done, err
	}
	src, err := fs.inSnapshot(ctx, s.ID, r.Path)
	if err != nil {
		return done, err
	}
	fs.copying.Lock()
	defer fs.copying.Unlock()
	if r.To != "" {
		done.CopyProgress, err = fs.copyTo(ctx, c, s.ID, src, r.To, progress)
		return done, err
	}
	if done.Before, err = fs.takeAuto(ctx, c, "before-restore"); err != nil {
		return done, err
	}
	done.CopyProgress, err = fs.putBack(ctx, c, s.ID, src, r.Path, progress)
	if err == nil {
		err = fs.Syncfs(ctx)
	}
	return done, err
}

// inSnapshot is the inode at a path of a snapshot, by its own number. A symlink
// at the end is not followed.
func (fs *Local) inSnapshot(ctx context.Context, id fsapi.SnapshotID, at string) (fsapi.Ino, error) {
	dir := snapIno(id, fsapi.RootIno)
	for _, name := range splitPath(at) {
		a, err := fs.Lookup(ctx, fsapi.Root, dir, name)
		if err != nil {
			return 0, err
		}
		dir = a.Ino
	}
	id2, ino := splitIno(dir)
	if id2 != id || dir < fsapi.SnapshotIno {
		return 0, fsapi.Errorf(fsapi.Invalid, "%q leads out of the snapshot", at)
	}
	return ino, nil
}

// takeAuto takes a snapshot with a name of its own.
func (fs *Local) takeAuto(ctx context.Context, c *fsapi.Cred, prefix string) (string, error) {
	base := prefix + "-" + fs.now().UTC().Format("2006-01-02T15:04:05Z")
	for i := 1; ; i++ {
		name := base
		if i > 1 {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		s, err := fs.CreateSnapshot(ctx, c, Snapshot{Name: name, Auto: true})
		if err == nil || fsapi.KindOf(err) != fsapi.Exist {
			return s.Name, err
		}
	}
}

// putBack makes a live path what an inode of a snapshot was.
func (fs *Local) putBack(ctx context.Context, c *fsapi.Cred, id fsapi.SnapshotID, src fsapi.Ino, at string, progress func(CopyProgress)) (CopyProgress, error) {
	t := &treeCopy{fs: fs, c: c, id: id, same: true, progress: progress, linked: map[fsapi.Ino]fsapi.Ino{}}
	names := splitPath(at)
	if len(names) == 0 {
		t.top = fsapi.RootIno
		err := t.all(ctx, fsapi.RootIno, fsapi.RootIno)
		return t.done, err
	}
	dir, err := fs.makeParents(ctx, c, names[:len(names)-1])
	if err != nil {
		return t.done, err
	}
	name := names[len(names)-1]
	was, err := t.source(ctx, src)
	if err != nil {
		return t.done, err
	}
	if was.Type != fsapi.TypeDirectory {
		return t.done, t.entry(ctx, dir, name, src)
	}
	// What is moved stays below the directory that is there now.
	now, err := fs.Lookup(ctx, c, dir, name)
	switch {
	case err == nil && now.Type == fsapi.TypeDirectory:
	case err == nil:
		if err = t.remove(ctx, dir, name, &now); err != nil {
			return t.done, err
		}
		fallthrough
	default:
		if err != nil && fsapi.KindOf(err) != fsapi.NotExist {
			return t.done, err
		}
		ino, err := t.bring(ctx, dir, name, was, nil)
		if err != nil {
			return t.done, err
		}
		now.Ino = ino
	}
	t.top = now.Ino
	err = t.all(ctx, src, now.Ino)
	return t.done, err
}

// copyTo makes a copy of an inode of a snapshot at a path where nothing is. A
// directory appears when it is complete: until then it has another name, under
// which a copy that was broken off goes on.
func (fs *Local) copyTo(ctx context.Context, c *fsapi.Cred, id fsapi.SnapshotID, src fsapi.Ino, to string, progress func(CopyProgress)) (CopyProgress, error) {
	t := &treeCopy{fs: fs, c: c, id: id, progress: progress, linked: map[fsapi.Ino]fsapi.Ino{}}
	dir, name, err := WalkParent(ctx, fs, c, to)
	if err != nil {
		return t.done, err
	}
	if _, err := fs.Lookup(ctx, c, dir.Ino, name); err == nil {
		return t.done, errExist(to)
	} else if fsapi.KindOf(err) != fsapi.NotExist {
		return t.done, err
	}
	part := "." + name[:min(len(name), fsapi.MaxName-len("..part"))] + ".part"
	if err := t.entry(ctx, dir.Ino, part, src); err != nil {
		return t.done, err
	}
	made, err := fs.Lookup(ctx, c, dir.Ino, part)
	if err != nil {
		return t.done, err
	}
	if made.Type == fsapi.TypeDirectory {
		if err := t.finish(ctx, src, made.Ino); err != nil {
			return t.done, err
		}
	}
	if err := fs.Rename(ctx, c, dir.Ino, part, dir.Ino, name, RenameNoReplace); err != nil {
		return t.done, err
	}
	return t.done, fs.o.Meta.Sync(ctx)
}

// Clone implements Admin.
func (fs *Local) Clone(ctx context.Context, c *fsapi.Cred, from, to string, progress func(CopyProgress)) (done CopyProgress, err error) {
	if c.Uid != 0 {
		return done, fsapi.Errorf(fsapi.NotPermitted, "only the superuser clones")
	}
	a, err := Walk(ctx, fs, c, from, false)
	if err != nil {
		return done, err
	}
	fs.copying.Lock()
	defer fs.copying.Unlock()
	if a.Ino >= fsapi.SnapshotIno {
		id, src := splitIno(a.Ino)
		return fs.copyTo(ctx, c, id, src, to, progress)
	}
	if a.Ino >= fsapi.VirtualIno {
		return done, fsapi.Errorf(fsapi.Invalid, "%s is not stored and cannot be cloned", path.Clean(from))
	}
	// A live tree is cloned as it is at one moment.
	name, err := fs.takeAuto(ctx, c, "clone")
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, fs.DeleteSnapshot(context.WithoutCancel(ctx), c, name)) }()
	s, err := fs.Snapshot(ctx, name)
	if err != nil {
		return done, err
	}
	return fs.copyTo(ctx, c, s.ID, a.Ino, to, progress)
}
