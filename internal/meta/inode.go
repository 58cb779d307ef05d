package meta

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// The forms of an inode value. A changed layout takes a new number.
const (
	inodePointer = 1 // directory and name of the dentry that holds the record
	inodeRecord  = 2 // the record itself
)

// appendAttr writes the part of an inode record that is the same wherever it
// is kept. Times are relative to the second of creation.
func appendAttr(b []byte, in *Inode) []byte {
	b = putUint(b, uint64(in.Flags))
	b = putUint(b, uint64(in.Mode))
	b = putUint(b, uint64(in.Uid))
	b = putUint(b, uint64(in.Gid))
	b = putUint(b, uint64(in.Nlink))
	b = putUint(b, uint64(in.Rdev))
	b = putUint(b, uint64(in.Size))
	b = putUint(b, uint64(in.Used))
	b = putUint(b, in.Change)
	born := in.Btime.Unix()
	b = putTime(b, 0, in.Btime)
	b = putTime(b, born, in.Atime)
	b = putTime(b, born, in.Mtime)
	b = putTime(b, born, in.Ctime)
	if in.Type == fsapi.TypeSymlink {
		b = putStr(b, in.Target)
	}
	return b
}

// attr reads what appendAttr wrote into a and says the rest. a.Type is set.
func (d *dec) attr(a *fsapi.Attr) (fl Flags, target []byte) {
	fl = Flags(d.u32())
	a.Mode = d.u32()
	a.Uid = d.u32()
	a.Gid = d.u32()
	a.Nlink = d.u32()
	a.Rdev = d.u32()
	a.Size = d.size()
	a.Used = d.size()
	a.Change = d.uint()
	a.Btime = d.time(0)
	born := a.Btime.Unix()
	a.Atime = d.time(born)
	a.Mtime = d.time(born)
	a.Ctime = d.time(born)
	if a.Type == fsapi.TypeSymlink {
		target = d.bytes()
	}
	if a.Mode&^fsapi.ModeMask != 0 {
		d.fail()
	}
	return fl, target
}

func (d *dec) fileType() fsapi.FileType {
	t := fsapi.FileType(d.byte())
	if t < fsapi.TypeRegular || t > fsapi.TypeSocket {
		d.fail()
	}
	return t
}

// appendPointer writes the inode value that points to a dentry.
func appendPointer(b []byte, dir fsapi.Ino, name string) []byte {
	return append(putUint(append(b, inodePointer), uint64(dir)), name...)
}

// appendInode writes the inode value that is the record itself.
func appendInode(b []byte, in *Inode) []byte {
	b = appendAttr(append(b, inodeRecord, byte(in.Type)), in)
	b = putStr(putUint(b, uint64(in.Parent)), in.Name)
	if in.Flags&Trashed != 0 {
		b = putInt(putInt(b, in.deleted), in.expires)
	}
	return b
}

// inodeValue is a decoded inode value: a pointer where in is nil.
type inodeValue struct {
	dir  fsapi.Ino
	name []byte
	in   *Inode
}

func decodeInode(key, v []byte, ino fsapi.Ino) (inodeValue, error) {
	d := dec{b: v}
	switch form := d.byte(); form {
	case inodePointer:
		p := inodeValue{dir: fsapi.Ino(d.uint())}
		p.name = d.rest()
		if d.bad || len(p.name) == 0 {
			return p, corrupt(key, "bad pointer")
		}
		return p, nil
	case inodeRecord:
		in := &Inode{}
		in.Ino, in.Type = ino, d.fileType()
		var target []byte
		in.Flags, target = d.attr(&in.Attr)
		in.Target = string(target)
		in.Parent = fsapi.Ino(d.uint())
		in.Name = d.str()
		if in.Flags&Trashed != 0 {
			in.deleted, in.expires = d.int(), d.int()
		}
		if !d.done() {
			return inodeValue{}, corrupt(key, "bad inode")
		}
		return inodeValue{in: in}, nil
	default:
		return inodeValue{}, corrupt(key, "unknown form")
	}
}

// Inode reads an inode: fsapi.Stale where there is none. The same inode is the
// same *Inode throughout a transaction.
func (tx *Tx) Inode(ino fsapi.Ino) (*Inode, error) {
	if in := tx.known(ino); in != nil {
		return in, nil
	}
	in, err := tx.load(ino)
	if err == nil {
		tx.know(in)
	}
	return in, err
}

// load reads an inode from where it is kept.
func (tx *Tx) load(ino fsapi.Ino) (*Inode, error) {
	if h := tx.s.homes.get(tx.vol, ino); h != nil {
		e, ok, err := tx.dentry(h.dir, h.name)
		if err == nil && ok && e.embedded && e.Ino == ino {
			return e.inode(h.dir, h.name), nil
		}
	}
	p, err := tx.inodeValue(ino)
	if err != nil || p.in != nil {
		return p.in, err
	}
	in, err := tx.follow(ino, p)
	if err == nil && !tx.past {
		tx.s.homes.put(tx.vol, in)
	}
	return in, err
}

// inodeValue reads what is kept by an inode's number.
func (tx *Tx) inodeValue(ino fsapi.Ino) (inodeValue, error) {
	tx.key = inoKey(tx.key, tabInode, tx.vol, ino)
	v, ok, err := tx.r.Get(tx.key)
	if err != nil {
		return inodeValue{}, err
	}
	if !ok {
		return inodeValue{}, fsapi.Errorf(fsapi.Stale, "inode %d of volume %d is gone", ino, tx.vol)
	}
	return decodeInode(tx.key, v, ino)
}

// follow reads an inode at the dentry that holds it.
func (tx *Tx) follow(ino fsapi.Ino, p inodeValue) (*Inode, error) {
	name := string(p.name)
	tx.key = dentryKey(tx.key, tx.vol, p.dir, name)
	v, ok, err := tx.r.Get(tx.key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, corrupt(tx.key, "an inode points to this name, which is not there")
	}
	e, err := decodeDentry(tx.key, v)
	if err != nil {
		return nil, err
	}
	if !e.embedded || e.Ino != ino {
		return nil, corrupt(tx.key, "an inode points to this name, which holds another")
	}
	return e.inode(p.dir, name), nil
}

// parent is the directory of an inode's primary name: 0 for the root and for
// orphans. It is cheaper than Inode.
func (tx *Tx) parent(ino fsapi.Ino) (fsapi.Ino, error) {
	if in := tx.known(ino); in != nil {
		return in.Parent, nil
	}
	p, err := tx.inodeValue(ino)
	if err != nil {
		return 0, err
	}
	if p.in != nil {
		tx.know(p.in)
		return p.in.Parent, nil
	}
	return p.dir, nil
}

// store writes an inode to where it is kept.
func (tx *Tx) store(in *Inode) {
	tx.keepTop(in)
	if in.embedded {
		tx.key = dentryKey(tx.key, tx.vol, in.Parent, in.Name)
		tx.val = appendDentry(tx.val[:0], in)
	} else {
		tx.key = inoKey(tx.key, tabInode, tx.vol, in.Ino)
		tx.val = appendInode(tx.val[:0], in)
	}
	tx.w.Put(tx.key, tx.val)
}

// embed makes the dentry dir/name the home of an inode.
func (tx *Tx) embed(in *Inode, dir fsapi.Ino, name string, cookie uint64) {
	in.embedded, in.Parent, in.Name, in.cookie = true, dir, name, cookie
	tx.key = inoKey(tx.key, tabInode, tx.vol, in.Ino)
	tx.val = appendPointer(tx.val[:0], dir, name)
	tx.w.Put(tx.key, tx.val)
	tx.store(in)
}

// changed stamps a change of attributes.
func (tx *Tx) changed(in *Inode) {
	in.Ctime = tx.Now()
	in.Change++
}

// SetInode writes back Mode, Uid, Gid, Rdev, Size, the times, and Flags of an
// inode read in this transaction, and increments Change. Nlink, Used, Parent
// and Name are kept by the other calls.
func (tx *Tx) SetInode(in *Inode) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if in.Size < 0 || in.Size > fsapi.MaxFileSize {
		return fsapi.Errorf(fsapi.FileTooBig, "inode %d: size %d is not within 0 to %d", in.Ino, in.Size, int64(fsapi.MaxFileSize))
	}
	in.Mode &= fsapi.ModeMask
	in.Change++
	tx.store(in)
	return nil
}

// IsAncestor reports whether a is ino or above it, by primary names.
func (tx *Tx) IsAncestor(a, ino fsapi.Ino) (bool, error) {
	for depth := 0; ino != 0; depth++ {
		if ino == a {
			return true, nil
		}
		if depth == maxDepth {
			return false, errDepth(ino)
		}
		var err error
		if ino, err = tx.parent(ino); err != nil {
			return false, err
		}
	}
	return false, nil
}

// maxDepth bounds walks towards the root, so that damage cannot make one
// endless.
const maxDepth = 1 << 20

func errDepth(ino fsapi.Ino) error {
	return fsapi.Errorf(fsapi.Corrupt, "inode %d has no way to the root within %d steps; run strake fsck", ino, maxDepth)
}

func timeOf(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }
