package vfs

import (
	"context"
	"encoding/binary"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// The extended attributes that hold ACLs.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// ACLTag says whom an ACL entry is for, with the numbers of
// linux/posix_acl_xattr.h.
type ACLTag uint16

// The tags.
const (
	ACLUserObj  ACLTag = 0x01
	ACLUser     ACLTag = 0x02
	ACLGroupObj ACLTag = 0x04
	ACLGroup    ACLTag = 0x08
	ACLMask     ACLTag = 0x10
	ACLOther    ACLTag = 0x20
)

// ACLEntry gives Perm (a set of 4, 2, 1) to whom Tag and, for ACLUser and
// ACLGroup, ID name.
type ACLEntry struct {
	Tag  ACLTag
	Perm uint16
	ID   uint32
}

// ACL is a POSIX.1e access control list, in the order of its binary form:
// owner, users, owning group, groups, mask, others.
type ACL []ACLEntry

const (
	aclVersion = 2
	aclHeader  = 4
	aclEntry   = 8
	aclNoID    = ^uint32(0)
)

// aclPair is what is known of a node's ACLs; nil where there is none.
type aclPair struct{ access, def ACL }

// ParseACL reads the kernel's binary form and checks it as posix_acl_valid
// does. An empty value, or one without entries, is no ACL: nil.
func ParseACL(b []byte) (ACL, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < aclHeader || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fsapi.Errorf(fsapi.NotSupported, "ACL is not of version %d", aclVersion)
	}
	b = b[aclHeader:]
	if len(b)%aclEntry != 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "ACL of %d bytes is cut short", len(b)+aclHeader)
	}
	if len(b) == 0 {
		return nil, nil
	}
	a := make(ACL, 0, len(b)/aclEntry)
	for ; len(b) > 0; b = b[aclEntry:] {
		e := ACLEntry{ACLTag(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.Tag != ACLUser && e.Tag != ACLGroup {
			e.ID = aclNoID
		}
		a = append(a, e)
	}
	return a, a.validate()
}

// validate is Linux's posix_acl_valid.
func (a ACL) validate() error {
	want, mask := ACLUserObj, false
	for _, e := range a {
		if e.Perm&^7 != 0 {
			return fsapi.Errorf(fsapi.Invalid, "ACL permission %#o is not of rwx", e.Perm)
		}
		switch {
		case e.Tag == ACLUserObj && want == ACLUserObj:
			want = ACLUser
		case e.Tag == ACLUser && want == ACLUser:
			mask = true
		case e.Tag == ACLGroupObj && want == ACLUser:
			want = ACLGroup
		case e.Tag == ACLGroup && want == ACLGroup:
			mask = true
		case e.Tag == ACLMask && want == ACLGroup:
			want, mask = ACLOther, false
		case e.Tag == ACLOther && (want == ACLOther || want == ACLGroup && !mask):
			want, mask = 0, false
		default:
			return fsapi.Errorf(fsapi.Invalid, "ACL entries are out of order, or one is missing or twice there")
		}
	}
	if want != 0 {
		return fsapi.Errorf(fsapi.Invalid, "ACL has no entry for others")
	}
	return nil
}

// Bytes is the kernel's binary form.
func (a ACL) Bytes() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, aclHeader+len(a)*aclEntry), aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Tag))
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// allows is the access check algorithm of acl(5) for who is not the owner and
// not the superuser.
func (a ACL) allows(c *fsapi.Cred, uid, gid uint32, want uint32) bool {
	var perm uint16
	mask, group, matched := uint16(7), false, false
	for _, e := range a {
		if e.Tag == ACLMask {
			mask = e.Perm
		}
	}
	granted := func(p uint16) bool { return uint32(p)&want == want }
	for _, e := range a {
		switch e.Tag {
		case ACLUserObj:
			if c.Uid == uid {
				return granted(e.Perm)
			}
		case ACLUser:
			if c.Uid == e.ID {
				return granted(e.Perm & mask)
			}
		case ACLGroupObj, ACLGroup:
			if e.Tag == ACLGroupObj && c.InGroup(gid) || e.Tag == ACLGroup && c.InGroup(e.ID) {
				group = true
				matched = matched || granted(e.Perm&mask)
			}
		case ACLOther:
			perm = e.Perm
		}
	}
	if group {
		return matched
	}
	return granted(perm)
}

// chmod sets the entries that the permission bits of mode stand for, in place.
func (a ACL) chmod(mode uint32) {
	group := -1
	for i := range a {
		switch a[i].Tag {
		case ACLUserObj:
			a[i].Perm = uint16(mode >> 6 & 7)
		case ACLGroupObj:
			if group < 0 {
				group = i
			}
		case ACLMask:
			group = i
		case ACLOther:
			a[i].Perm = uint16(mode & 7)
		}
	}
	if group >= 0 {
		a[group].Perm = uint16(mode >> 3 & 7)
	}
}

// mode is the permission bits that a stands for, and whether a says no more
// than they do.
func (a ACL) mode() (bits uint32, minimal bool) {
	minimal = true
	var group uint32
	for _, e := range a {
		switch e.Tag {
		case ACLUserObj:
			bits |= uint32(e.Perm) << 6
		case ACLGroupObj:
			group = uint32(e.Perm) << 3
		case ACLMask:
			group = uint32(e.Perm) << 3
			minimal = false
		case ACLOther:
			bits |= uint32(e.Perm)
		default:
			minimal = false
		}
	}
	return bits | group, minimal
}

// inherit makes the access ACL of a new inode from its directory's default ACL
// and the mode asked for: Linux's posix_acl_create. nil where the mode says it
// all.
func (a ACL) inherit(mode uint32) (ACL, uint32) {
	acc := append(ACL(nil), a...)
	group := -1
	for i := range acc {
		e := &acc[i]
		switch e.Tag {
		case ACLUserObj:
			e.Perm &= uint16(mode >> 6 & 7)
			mode = mode&^0o700 | uint32(e.Perm)<<6
		case ACLGroupObj:
			if group < 0 {
				group = i
			}
		case ACLMask:
			group = i
		case ACLOther:
			e.Perm &= uint16(mode & 7)
			mode = mode&^0o007 | uint32(e.Perm)
		}
	}
	if group >= 0 {
		e := &acc[group]
		e.Perm &= uint16(mode >> 3 & 7)
		mode = mode&^0o070 | uint32(e.Perm)<<3
	}
	if _, minimal := acc.mode(); minimal {
		return nil, mode
	}
	return acc, mode
}

// loadACL reads n's ACLs.
func (fs *Local) loadACL(ctx context.Context, n *node) (*aclPair, error) {
	var p *aclPair
	n.mu.RLock()
	seq := n.seq
	n.mu.RUnlock()
	err := fs.view(ctx, func(tx *meta.Tx) (err error) {
		p, err = readACLs(tx, n.ino)
		return err
	})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seq == seq {
		n.acl = p
	}
	return p, nil
}

func readACLs(tx *meta.Tx, ino fsapi.Ino) (*aclPair, error) {
	p := &aclPair{}
	for name, to := range map[string]*ACL{accessACL: &p.access, defaultACL: &p.def} {
		v, err := tx.Xattr(ino, name)
		if err != nil && fsapi.KindOf(err) != fsapi.NoAttr {
			return nil, err
		}
		if *to, err = ParseACL(v); err != nil {
			return nil, fsapi.Errorf(fsapi.Corrupt, "inode %d has a bad %s: %w", ino, name, err)
		}
	}
	return p, nil
}

// aclsOf is n's ACLs, read only where it has any.
func (fs *Local) aclsOf(ctx context.Context, n *node) (*aclPair, error) {
	n.mu.RLock()
	flags, p := n.in.Flags, n.acl
	n.mu.RUnlock()
	switch {
	case flags&(meta.HasACL|meta.HasDefACL) == 0:
		return &aclPair{}, nil
	case p != nil:
		return p, nil
	}
	return fs.loadACL(ctx, n)
}
