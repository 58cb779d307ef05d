package meta

import (
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
)

// The forms of a dentry value. A changed layout takes a new number.
const (
	dentryInode = 1 // with the record of the inode, which has no other name
	dentryRef   = 2 // the inode has several names and is kept by number
)

// dentry is a decoded dentry value. flags, target (aliasing the value) and the
// rest of Attr are set where the inode is embedded.
type dentry struct {
	fsapi.Attr
	cookie   uint64
	embedded bool
	flags    Flags
	target   []byte
}

// appendDentry writes the dentry that holds in.
func appendDentry(b []byte, in *Inode) []byte {
	b = append(b, dentryInode, byte(in.Type))
	b = putUint(putUint(b, uint64(in.Ino)), in.cookie)
	return appendAttr(b, in)
}

func appendDentryRef(b []byte, t fsapi.FileType, ino fsapi.Ino, cookie uint64) []byte {
	return putUint(putUint(append(b, dentryRef, byte(t)), uint64(ino)), cookie)
}

func decodeDentry(key, v []byte) (dentry, error) {
	var e dentry
	d := dec{b: v}
	form := d.byte()
	e.Type = d.fileType()
	e.Ino = fsapi.Ino(d.uint())
	e.cookie = d.uint()
	switch form {
	case dentryInode:
		e.embedded = true
		e.flags, e.target = d.attr(&e.Attr)
	case dentryRef:
	default:
		return e, corrupt(key, "unknown form")
	}
	if !d.done() || e.Ino == 0 {
		return e, corrupt(key, "bad dentry")
	}
	return e, nil
}

// inode is the embedded inode.
func (e *dentry) inode(dir fsapi.Ino, name string) *Inode {
	return &Inode{
		Attr: e.Attr, Parent: dir, Name: name, Target: string(e.target),
		Flags: e.flags, embedded: true, cookie: e.cookie,
	}
}

// missing says that a directory does not have a name. It is not built by
// fsapi.Errorf because looking for what is not there is common.
type missing struct {
	dir  fsapi.Ino
	name string
}

func (m *missing) Error() string {
	return fmt.Sprintf("%q in directory %d: %v", m.name, m.dir, fsapi.NotExist)
}
func (m *missing) Unwrap() error { return fsapi.NotExist }

// dentry reads a dentry, or ok false.
func (tx *Tx) dentry(dir fsapi.Ino, name string) (e dentry, ok bool, err error) {
	tx.key = dentryKey(tx.key, tx.vol, dir, name)
	v, ok, err := tx.r.Get(tx.key)
	if err != nil || !ok {
		return e, false, err
	}
	e, err = decodeDentry(tx.key, v)
	return e, err == nil, err
}

// Lookup finds a name: fsapi.NotExist.
func (tx *Tx) Lookup(dir fsapi.Ino, name string) (*Inode, error) {
	e, ok, err := tx.dentry(dir, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		tx.missed = missing{dir, name}
		return nil, &missing{dir, name}
	}
	if in := tx.known(e.Ino); in != nil {
		return in, nil
	}
	if !e.embedded {
		return tx.Inode(e.Ino)
	}
	in := e.inode(dir, name)
	tx.know(in)
	return in, nil
}

// free fails with fsapi.Exist where a directory has a name already.
func (tx *Tx) free(dir fsapi.Ino, name string) error {
	if tx.missed.dir == dir && tx.missed.name == name {
		return nil
	}
	tx.key = dentryKey(tx.key, tx.vol, dir, name)
	_, ok, err := tx.r.Get(tx.key)
	if ok {
		return fsapi.Errorf(fsapi.Exist, "%q exists in directory %d", name, dir)
	}
	return err
}

// putRef writes a dentry that refers to an inode kept by number.
func (tx *Tx) putRef(dir fsapi.Ino, name string, in *Inode, cookie uint64) {
	tx.key = dentryKey(tx.key, tx.vol, dir, name)
	tx.val = appendDentryRef(tx.val[:0], in.Type, in.Ino, cookie)
	tx.w.Put(tx.key, tx.val)
	tx.missed = missing{}
}

func (tx *Tx) deleteDentry(dir fsapi.Ino, name string) {
	tx.key = dentryKey(tx.key, tx.vol, dir, name)
	tx.w.Delete(tx.key)
}

// Empty reports whether a directory has no names.
func (tx *Tx) Empty(dir fsapi.Ino) (bool, error) {
	tx.key = inoKey(tx.key, tabDentry, tx.vol, dir)
	tx.end = after(tx.end, tx.key)
	empty := true
	err := tx.r.Scan(tx.key, tx.end, func(_, _ []byte) (bool, error) {
		empty = false
		return false, nil
	})
	return empty, err
}

// ReadDir returns up to limit entries of a directory sorted by name after
// `after` ("" from the start), with attributes. Cookies are set.
func (tx *Tx) ReadDir(dir fsapi.Ino, afterName string, limit int) ([]fsapi.Dirent, error) {
	if limit <= 0 {
		return nil, nil
	}
	list := make([]fsapi.Dirent, 0, min(limit, 64))
	var names []byte // of all entries, so that one string holds them
	ends := make([]int, 0, min(limit, 64))
	tx.end = after(tx.end, inoKey(tx.key, tabDentry, tx.vol, dir))
	tx.key = dentryKey(tx.key, tx.vol, dir, afterName)
	if afterName != "" {
		tx.key = append(tx.key, 0)
	}
	from := append([]byte(nil), tx.key...) // attrOf uses tx.key
	err := tx.r.Scan(from, tx.end, func(k, v []byte) (bool, error) {
		e, err := decodeDentry(k, v)
		if err != nil {
			return false, err
		}
		if !e.embedded {
			if err := tx.attrOf(&e); err != nil {
				return false, err
			}
		}
		names = append(names, k[inoKeyLen:]...)
		ends = append(ends, len(names))
		list = append(list, fsapi.Dirent{Ino: e.Ino, Type: e.Type, Cookie: e.cookie, Attr: e.Attr})
		return len(list) < limit, nil
	})
	if err != nil {
		return nil, err
	}
	all, at := string(names), 0
	for i, end := range ends {
		list[i].Name = all[at:end]
		at = end
	}
	return list, nil
}

// attrOf completes a dentry whose inode is kept by number.
func (tx *Tx) attrOf(e *dentry) error {
	p, err := tx.inodeValue(e.Ino)
	if err != nil {
		if fsapi.KindOf(err) == fsapi.Stale {
			err = corrupt(tx.key, "a name refers to this inode, which is not there")
		}
		return err
	}
	if p.in == nil {
		return corrupt(tx.key, "a name refers to this inode, which has another home")
	}
	e.Attr = p.in.Attr
	return nil
}

// NameAt finds the name that has a cookie (a scan): for resuming after a
// restart. fsapi.NotExist.
func (tx *Tx) NameAt(dir fsapi.Ino, cookie uint64) (string, error) {
	var name string
	prefix := inoKey(nil, tabDentry, tx.vol, dir)
	err := tx.scan(prefix, func(k, v []byte) (bool, error) {
		e, err := decodeDentry(k, v)
		if err == nil && e.cookie == cookie {
			name = string(k[inoKeyLen:])
		}
		return name == "", err
	})
	if err == nil && name == "" {
		err = fsapi.Errorf(fsapi.NotExist, "no name in directory %d has cookie %d", dir, cookie)
	}
	return name, err
}
