package vfs

import (
	"math"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// opRun is one operation within a batch's transaction. Symlinks in paths are
// not followed.
type opRun struct {
	b  *batch
	tx *meta.Tx
	op *Op
	i  int
}

// do carries the operation out. The result is the inode it made or changed;
// nil for OpRemove.
func (x *opRun) do() (*meta.Inode, error) {
	if strings.Trim(x.op.Path, "/") == "" && x.op.Kind != OpSetattr {
		return nil, fsapi.Errorf(fsapi.Invalid, "the root cannot be made, moved or removed")
	}
	dir, name, err := x.resolve(x.op.Path)
	if err != nil {
		return nil, err
	}
	in := dir
	if name != "" {
		if in, err = x.lookup(dir, name); err != nil {
			return nil, err
		}
	}
	if err := x.condition(in); err != nil {
		return nil, err
	}
	switch x.op.Kind {
	case OpMkdir:
		if x.op.Parents && in != nil && in.Type == fsapi.TypeDirectory {
			return in, nil
		}
		return x.make(dir, name, NewNode{Type: fsapi.TypeDirectory, Mode: x.mode(0o755)})
	case OpSymlink:
		return x.make(dir, name, NewNode{Type: fsapi.TypeSymlink, Target: x.op.Target})
	case OpMknod:
		if !special(x.op.Type) {
			return nil, fsapi.Errorf(fsapi.Invalid, "%s: mknod makes devices, FIFOs and sockets only", x.op.Path)
		}
		return x.make(dir, name, NewNode{Type: x.op.Type, Mode: x.mode(0o644), Rdev: x.op.Rdev})
	case OpPut:
		return x.put(dir, name, in)
	}
	if in == nil {
		return nil, fsapi.Errorf(fsapi.NotExist, "%s is not there", x.op.Path)
	}
	switch x.op.Kind {
	case OpRemove:
		return nil, x.remove(dir, name, in)
	case OpRename:
		return in, x.rename(dir, name, in)
	case OpLink:
		return in, x.link(in)
	case OpSetattr:
		return in, x.setattr(in)
	}
	return nil, fsapi.Errorf(fsapi.Invalid, "%d is no operation", x.op.Kind)
}

// special reports whether a type is one that OpMknod makes.
func special(t fsapi.FileType) bool {
	switch t {
	case fsapi.TypeCharDev, fsapi.TypeBlockDev, fsapi.TypeFIFO, fsapi.TypeSocket:
		return true
	}
	return false
}

func (x *opRun) mode(m uint32) uint32 {
	if x.op.Mode != 0 {
		return x.op.Mode
	}
	return m
}

// in reads an inode to be changed; what is in memory of it counts.
func (x *opRun) inode(in *meta.Inode) *meta.Inode {
	if x.b.changed[in.Ino] != nil {
		return in
	}
	x.b.changed[in.Ino] = in
	if n := x.b.fs.nodes.peek(in.Ino); n != nil {
		n.mu.RLock()
		in.Change = max(in.Change, n.in.Change)
		n.mu.RUnlock()
		n.release()
	}
	return in
}

// lookup finds a name, or nil.
func (x *opRun) lookup(dir *meta.Inode, name string) (*meta.Inode, error) {
	in, err := x.tx.Lookup(dir.Ino, name)
	if kindOf(err) == fsapi.NotExist && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return x.inode(in), nil
}

// resolve walks to the directory of a path and its last name; "" is the root
// itself. With Parents, missing directories are made.
func (x *opRun) resolve(path string) (*meta.Inode, string, error) {
	dir, err := x.tx.Inode(fsapi.RootIno)
	if err != nil {
		return nil, "", err
	}
	x.inode(dir)
	path = strings.Trim(path, "/")
	if path == "" {
		return dir, "", nil
	}
	names := strings.Split(path, "/")
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, "", err
		}
		if dir.Type != fsapi.TypeDirectory {
			return nil, "", fsapi.Errorf(fsapi.NotDir, "%s is not a directory", strings.Join(names[:i], "/"))
		}
		if err := x.permit(dir, mayExec); err != nil {
			return nil, "", err
		}
		if i == 0 && name == VirtualName {
			return nil, "", fsapi.Errorf(fsapi.NotPermitted, "the name %s is taken by Strake", name)
		}
		if i == len(names)-1 {
			break
		}
		next, err := x.lookup(dir, name)
		switch {
		case err != nil:
			return nil, "", err
		case next == nil && !x.op.Parents:
			return nil, "", fsapi.Errorf(fsapi.NotExist, "%s is not there", strings.Join(names[:i+1], "/"))
		case next == nil:
			if next, err = x.make(dir, name, NewNode{Type: fsapi.TypeDirectory, Mode: 0o755}); err != nil {
				return nil, "", err
			}
		}
		dir = next
	}
	return dir, names[len(names)-1], nil
}

// condition is IfAbsent, IfChange and IfIno.
func (x *opRun) condition(in *meta.Inode) error {
	absent := x.op.IfAbsent && in != nil
	changed := x.op.IfChange != 0 && (in == nil || in.Change != x.op.IfChange)
	other := x.op.IfIno != 0 && (in == nil || in.Ino != x.op.IfIno)
	if absent || changed || other {
		return fsapi.Errorf(fsapi.Precondition, "%s is not as the request expects", x.op.Path)
	}
	return nil
}

func (x *opRun) permit(in *meta.Inode, want uint32) error {
	c := x.b.c
	if c.Checked {
		return nil
	}
	p := permInode{in.Type, in.Mode, in.Uid, in.Gid, in.Flags}
	var acl ACL
	if in.Flags&meta.HasACL != 0 && c.Uid != 0 {
		acls, err := readACLs(x.tx, in.Ino)
		if err != nil {
			return err
		}
		acl = acls.access
	}
	if !p.allows(c, acl, want) {
		return fsapi.Errorf(fsapi.Access, "uid %d may not %s inode %d", c.Uid, wantText(want), in.Ino)
	}
	return nil
}

func (x *opRun) mayDelete(dir, in *meta.Inode) error {
	if err := x.permit(dir, mayWrite|mayExec); err != nil {
		return err
	}
	c := x.b.c
	if dir.Mode&fsapi.ModeSticky == 0 || c.Checked || c.Uid == 0 || c.Uid == dir.Uid || c.Uid == in.Uid {
		return nil
	}
	return fsapi.Errorf(fsapi.NotPermitted, "directory %d is sticky and inode %d belongs to another", dir.Ino, in.Ino)
}

// tell notes a change for the watchers.
func (x *opRun) tell(c fsapi.Change) {
	c.Door = x.b.c.Door
	x.b.events = append(x.b.events, c)
}

func (x *opRun) make(dir *meta.Inode, name string, nn NewNode) (*meta.Inode, error) {
	return x.makeAs(dir, name, nn, 0)
}

func (x *opRun) makeAs(dir *meta.Inode, name string, nn NewNode, ino fsapi.Ino) (*meta.Inode, error) {
	if err := nn.check(); err != nil {
		return nil, err
	}
	old, err := x.lookup(dir, name)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, errExist(name)
	}
	if err := x.permit(dir, mayWrite|mayExec); err != nil {
		return nil, err
	}
	acls := &aclPair{}
	if dir.Flags&meta.HasDefACL != 0 {
		if acls, err = readACLs(x.tx, dir.Ino); err != nil {
			return nil, err
		}
	}
	spec, acl, def := newInode(x.b.c, dir.Attr, &nn, acls.def)
	spec.Ino = ino
	_, in, err := createIn(x.tx, dir.Ino, name, spec, acl, def)
	if err != nil {
		return nil, err
	}
	holds, err := x.tx.EffectivePolicy(dir)
	if err != nil {
		return nil, err
	}
	if err := x.b.fs.pendCommit(x.tx, &holds, in); err != nil {
		return nil, err
	}
	x.b.changed[in.Ino], x.b.made[in.Ino] = in, true
	x.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: in.Ino, Dir: dir.Ino, Name: name, Type: in.Type})
	return in, nil
}

// put creates or replaces a file's content.
func (x *opRun) put(dir *meta.Inode, name string, in *meta.Inode) (*meta.Inode, error) {
	size := int64(len(x.op.Data))
	switch {
	case in == nil:
		made, err := x.makeAs(dir, name, NewNode{Type: fsapi.TypeRegular, Mode: x.mode(0o644)}, x.b.puts[x.i])
		if err != nil {
			return nil, err
		}
		in = made
	case in.Type == fsapi.TypeDirectory:
		return nil, fsapi.Errorf(fsapi.IsDir, "%s is a directory", x.op.Path)
	case in.Type == fsapi.TypeSymlink:
		return nil, fsapi.Errorf(fsapi.Loop, "%s is a symlink", x.op.Path)
	case in.Type != fsapi.TypeRegular:
		return nil, fsapi.Errorf(fsapi.NoDevice, "%s is not a regular file", x.op.Path)
	default:
		if err := x.permit(in, mayWrite); err != nil {
			return nil, err
		}
		if err := x.resize(in, 0); err != nil {
			return nil, err
		}
	}
	if size > 0 && !x.b.dry {
		if err := x.tx.SetExtents(in, 0, size, x.b.datas[x.i]); err != nil {
			return nil, err
		}
	}
	in.Size = size
	return in, x.written(in)
}

// written stores a file whose content changed.
func (x *opRun) written(in *meta.Inode) error {
	in.Mtime, in.Ctime = x.tx.Now(), x.tx.Now()
	if x.b.c.Uid != 0 {
		in.Mode = killPriv(x.b.c, in.Mode, in.Gid)
	}
	c := fsapi.Change{Kind: fsapi.ChangeContent, Ino: in.Ino, Type: in.Type, Len: -1}
	x.tx.Note(c)
	x.tell(c)
	return x.tx.SetInode(in)
}

// resize cuts or extends a file, which must be quiet unless the batch made it.
func (x *opRun) resize(in *meta.Inode, size int64) error {
	if err := x.mustBeQuiet(in); err != nil {
		return err
	}
	if _, err := x.tx.TruncateExtents(in, size, math.MaxInt); err != nil {
		return err
	}
	in.Size = size
	return nil
}

// mustBeQuiet refuses to go on with a file that may have unsaved changes.
func (x *opRun) mustBeQuiet(in *meta.Inode) error {
	if in.Type != fsapi.TypeRegular || x.b.quiet[in.Ino] != nil || x.mine(in.Ino) {
		return nil
	}
	x.b.other = in.Ino
	return errOther
}

// mine reports whether the batch made the inode.
func (x *opRun) mine(ino fsapi.Ino) bool { return x.b.made[ino] }

func (x *opRun) remove(dir *meta.Inode, name string, in *meta.Inode) error {
	if err := x.mayDelete(dir, in); err != nil {
		return err
	}
	keep, err := x.keep(in)
	if err != nil {
		return err
	}
	if in.Type == fsapi.TypeDirectory {
		err = x.tx.Rmdir(dir, name, in, keep)
	} else {
		err = x.tx.Unlink(dir, name, in, keep)
	}
	if err != nil {
		return err
	}
	x.lost(in, keep)
	x.tell(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: in.Ino, Dir: dir.Ino, Name: name, Type: in.Type})
	return nil
}

// keep says what becomes of in when its last name goes. It stops others from
// opening it until the batch is done.
func (x *opRun) keep(in *meta.Inode) (meta.Keep, error) {
	p, err := x.tx.EffectivePolicy(in)
	if err != nil {
		return 0, err
	}
	switch {
	case p.Trash > 0:
		return meta.KeepTrash, nil
	case x.b.dry:
		return meta.KeepNone, nil
	}
	n := x.b.locked[in.Ino]
	if n == nil {
		if n = x.b.fs.nodes.peek(in.Ino); n == nil {
			return meta.KeepNone, nil
		}
		n.ns.Lock()
		x.b.locked[in.Ino] = n
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.opens > 0 {
		return meta.KeepOrphan, nil
	}
	return meta.KeepNone, nil
}

func (x *opRun) lost(in *meta.Inode, keep meta.Keep) {
	if in.Nlink == 0 {
		x.b.gone[in.Ino] = keep
	}
}

func (x *opRun) rename(dir *meta.Inode, name string, in *meta.Inode) error {
	to, toName, err := x.resolve(x.op.To)
	if err != nil {
		return err
	}
	if toName == "" {
		return fsapi.Errorf(fsapi.Invalid, "the root cannot be replaced")
	}
	victim, err := x.lookup(to, toName)
	if err != nil || victim == in {
		return err
	}
	if in.Type == fsapi.TypeDirectory {
		if above, err := x.tx.IsAncestor(in.Ino, to.Ino); err != nil || above {
			return cmpErr(err, fsapi.Errorf(fsapi.Invalid, "%s would move below itself", x.op.Path))
		}
	}
	if victim != nil && victim.Type == fsapi.TypeDirectory {
		if above, err := x.tx.IsAncestor(victim.Ino, dir.Ino); err != nil || above {
			return cmpErr(err, fsapi.Errorf(fsapi.NotEmpty, "directory %s is not empty", x.op.To))
		}
	}
	if err := x.mayRename(dir, in, to, victim); err != nil {
		return err
	}
	keep := meta.KeepNone
	if victim != nil {
		if err := x.mustBeQuiet(in); err != nil { // its data is stored first (D2)
			return err
		}
		if keep, err = x.keep(victim); err != nil {
			return err
		}
	}
	if dir.Ino != to.Ino {
		x.b.fs.moved.Add(1)
	}
	if err := x.tx.Rename(dir, name, in, to, toName, victim, false, keep); err != nil {
		return err
	}
	if victim != nil {
		x.lost(victim, keep)
		x.tell(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: victim.Ino, Dir: to.Ino, Name: toName, Type: victim.Type})
	}
	x.tell(fsapi.Change{Kind: fsapi.ChangeRename, Ino: in.Ino, Dir: to.Ino, Name: toName, FromDir: dir.Ino, From: name, Type: in.Type})
	return nil
}

func (x *opRun) mayRename(dir, in, to, victim *meta.Inode) error {
	if err := x.mayDelete(dir, in); err != nil {
		return err
	}
	if in.Type == fsapi.TypeDirectory && dir != to {
		if err := x.permit(in, mayWrite); err != nil {
			return err
		}
	}
	if victim == nil {
		return x.permit(to, mayWrite|mayExec)
	}
	if err := x.mayDelete(to, victim); err != nil {
		return err
	}
	switch isDir := in.Type == fsapi.TypeDirectory; {
	case isDir && victim.Type != fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.NotDir, "%s is not a directory", x.op.To)
	case !isDir && victim.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "%s is a directory", x.op.To)
	}
	return nil
}

func (x *opRun) link(in *meta.Inode) error {
	to, name, err := x.resolve(x.op.To)
	if err != nil {
		return err
	}
	if name == "" {
		return errExist("/")
	}
	old, err := x.lookup(to, name)
	switch {
	case err != nil:
		return err
	case old != nil:
		return errExist(name)
	}
	if err := x.permit(to, mayWrite|mayExec); err != nil {
		return err
	}
	if in.Type == fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotPermitted, "%s is a directory: it can have one name only", x.op.Path)
	}
	if err := x.tx.Link(to, name, in); err != nil {
		return err
	}
	x.tell(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: in.Ino, Dir: to.Ino, Name: name, Type: in.Type})
	return nil
}

func (x *opRun) setattr(in *meta.Inode) error {
	s, c := &x.op.Set, x.b.c
	if *s == (SetAttr{}) {
		return nil
	}
	if s.changes() {
		if err := x.tx.Mutable(in); err != nil {
			return err
		}
	}
	if err := mayChown(c, &in.Attr, s); err != nil {
		return err
	}
	owner := c.Checked || c.Uid == 0 || c.Uid == in.Uid
	if (s.Mode != nil || s.Atime != nil || s.Mtime != nil || s.Ctime != nil) && !owner {
		return fsapi.Errorf(fsapi.NotPermitted, "only its owner may do this to %s", x.op.Path)
	}
	if s.Size != nil || (s.TouchAtime || s.TouchMtime) && !owner {
		if err := x.permit(in, mayWrite); err != nil {
			return err
		}
	}
	if s.Size != nil {
		if err := x.setSize(in, *s.Size); err != nil {
			return err
		}
	}
	if s.timesSet() {
		if err := x.mustBeQuiet(in); err != nil {
			return err
		}
	}
	acls, err := readACLs(x.tx, in.Ino)
	if err != nil {
		return err
	}
	in.Ctime = x.tx.Now()
	s.setOwner(c, in)
	if s.Mode != nil {
		if err := s.setMode(x.tx, c, in, acls); err != nil {
			return err
		}
	}
	in.Atime, in.Mtime = s.times(in.Atime, in.Mtime, x.tx.Now())
	if s.Ctime != nil {
		in.Ctime = *s.Ctime
	}
	e := fsapi.Change{Kind: fsapi.ChangeAttr, Ino: in.Ino, Type: in.Type}
	x.tx.Note(e)
	x.tell(e)
	return x.tx.SetInode(in)
}

func (x *opRun) setSize(in *meta.Inode, size int64) error {
	switch {
	case in.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "%s is a directory", x.op.Path)
	case in.Type != fsapi.TypeRegular || size < 0:
		return fsapi.Errorf(fsapi.Invalid, "%s cannot have the size %d", x.op.Path, size)
	}
	if err := x.resize(in, size); err != nil {
		return err
	}
	in.Mtime = x.tx.Now()
	return nil
}
