package meta

import "github.com/strakefs/strake/internal/fsapi"

// The names of the attributes that have a flag of their own (acl(5)).
const (
	xattrACL    = "system.posix_acl_access"
	xattrDefACL = "system.posix_acl_default"
)

// Xattr is the value of an extended attribute: fsapi.NoAttr. The slice is the
// caller's.
func (tx *Tx) Xattr(ino fsapi.Ino, name string) ([]byte, error) {
	tx.key = xattrKey(tx.key, tx.vol, ino, name)
	v, ok, err := tx.r.Get(tx.key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", ino, name)
	}
	return append(make([]byte, 0, len(v)), v...), nil
}

// SetXattr sets an extended attribute, keeps HasXattr, HasACL and HasDefACL of
// in, stamps it and stores it. fsapi.Invalid, TooBig.
func (tx *Tx) SetXattr(in *Inode, name string, value []byte) error {
	switch err := tx.writable(); {
	case err != nil:
		return err
	case name == "" || len(name) > fsapi.MaxXattrName:
		return fsapi.Errorf(fsapi.Range, "attribute name of %d bytes; want 1 to %d", len(name), fsapi.MaxXattrName)
	case len(value) > fsapi.MaxXattr:
		return fsapi.Errorf(fsapi.TooBig, "attribute %q of %d bytes; %d is the most", name, len(value), fsapi.MaxXattr)
	case name == RetentionXattr:
		return fsapi.Errorf(fsapi.NotPermitted, "attribute %q is set as retention", name)
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	tx.key = xattrKey(tx.key, tx.vol, in.Ino, name)
	tx.w.Put(tx.key, value)
	in.Flags |= HasXattr
	switch name {
	case xattrACL:
		in.Flags |= HasACL
	case xattrDefACL:
		in.Flags |= HasDefACL
	}
	tx.changed(in)
	tx.store(in)
	return nil
}

// RemoveXattr removes an extended attribute and stamps and stores in:
// fsapi.NoAttr.
func (tx *Tx) RemoveXattr(in *Inode, name string) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if name == RetentionXattr {
		return fsapi.Errorf(fsapi.NotPermitted, "attribute %q is removed as retention", name)
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	tx.key = xattrKey(tx.key, tx.vol, in.Ino, name)
	_, ok, err := tx.r.Get(tx.key)
	if err != nil {
		return err
	}
	if !ok {
		return fsapi.Errorf(fsapi.NoAttr, "inode %d has no attribute %q", in.Ino, name)
	}
	tx.w.Delete(tx.key)
	switch name {
	case xattrACL:
		in.Flags &^= HasACL
	case xattrDefACL:
		in.Flags &^= HasDefACL
	}
	if err := tx.recountXattrs(in); err != nil {
		return err
	}
	tx.changed(in)
	tx.store(in)
	return nil
}

// Xattrs lists the names of an inode's extended attributes, sorted.
func (tx *Tx) Xattrs(ino fsapi.Ino) ([]string, error) {
	var names []string
	prefix := inoKey(nil, tabXattr, tx.vol, ino)
	err := tx.r.Scan(prefix, after(nil, prefix), func(k, _ []byte) (bool, error) {
		names = append(names, string(k[inoKeyLen:]))
		return true, nil
	})
	return names, err
}
