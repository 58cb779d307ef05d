package model

import (
	"encoding/binary"

	"github.com/strakefs/strake/internal/fsapi"
)

// The tags of acl(5), with the numbers of linux/posix_acl.h.
const (
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

// aclVersion begins the extended attribute (linux/posix_acl_xattr.h).
const aclVersion = 2

// noID is e_id of an entry whose tag has none.
const noID = 0xffffffff

// aclEntry is one line of an ACL.
type aclEntry struct {
	tag  uint16
	perm uint16
	id   uint32
}

// acl is an access or default ACL in canonical order.
type acl []aclEntry

// parseACL reads the extended attribute's form. An ACL without entries is nil.
func parseACL(b []byte) (acl, error) {
	bad := fsapi.Errorf(fsapi.Invalid, "not an ACL in the kernel's form")
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, bad
	}
	var a acl
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: binary.LittleEndian.Uint16(b[2:]),
			id:   noID,
		}
		if e.tag == tagUser || e.tag == tagGroup {
			e.id = binary.LittleEndian.Uint32(b[4:])
		}
		a = append(a, e)
	}
	if a != nil && !a.valid() {
		return nil, bad
	}
	return a, nil
}

// valid is Linux's posix_acl_valid: tags in order, one each of the three
// owners, a mask where there are named entries.
func (a acl) valid() bool {
	count := map[uint16]int{}
	last := uint16(0)
	for _, e := range a {
		if e.tag < last || e.perm > 7 {
			return false
		}
		last = e.tag
		count[e.tag]++
	}
	named := count[tagUser] + count[tagGroup]
	total := named + count[tagMask] + 3
	return count[tagUserObj] == 1 && count[tagGroupObj] == 1 && count[tagOther] == 1 &&
		count[tagMask] <= 1 && (named == 0 || count[tagMask] == 1) && total == len(a)
}

// encode is the extended attribute's form.
func (a acl) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// find is the only entry with a tag, or nil.
func (a acl) find(tag uint16) *aclEntry {
	for i := range a {
		if a[i].tag == tag {
			return &a[i]
		}
	}
	return nil
}

// group is the entry that the group bits of the mode mirror.
func (a acl) group() *aclEntry {
	if m := a.find(tagMask); m != nil {
		return m
	}
	return a.find(tagGroupObj)
}

// minimal reports whether mode bits say all that a says.
func (a acl) minimal() bool { return len(a) == 3 }

// mode is the permission bits that a corresponds to.
func (a acl) mode() uint32 {
	return uint32(a.find(tagUserObj).perm)<<6 | uint32(a.group().perm)<<3 | uint32(a.find(tagOther).perm)
}

// chmod makes a agree with permission bits.
func (a acl) chmod(mode uint32) {
	a.find(tagUserObj).perm = uint16(mode >> 6 & 7)
	a.group().perm = uint16(mode >> 3 & 7)
	a.find(tagOther).perm = uint16(mode & 7)
}

// permits is the access check algorithm of acl(5) for everybody but the owner.
// Where several group entries match, one of them must grant all of want.
func (a acl) permits(c *fsapi.Cred, gid, want uint32) bool {
	mask := uint32(7)
	if m := a.find(tagMask); m != nil {
		mask = uint32(m.perm)
	}
	for _, e := range a {
		if e.tag == tagUser && e.id == c.Uid {
			return uint32(e.perm)&mask&want == want
		}
	}
	matched := false
	for _, e := range a {
		if e.tag == tagGroupObj && c.InGroup(gid) || e.tag == tagGroup && c.InGroup(e.id) {
			matched = true
			if uint32(e.perm)&mask&want == want {
				return true
			}
		}
	}
	return !matched && uint32(a.find(tagOther).perm)&want == want
}

// inherit is what a new object below a directory with default ACL a gets: the
// access ACL (nil where the mode says it all) and the mode (acl(5), "Object
// creation and default ACLs").
func (a acl) inherit(mode uint32) (acl, uint32) {
	b := append(acl(nil), a...)
	b.find(tagUserObj).perm &= uint16(mode >> 6 & 7)
	b.group().perm &= uint16(mode >> 3 & 7)
	b.find(tagOther).perm &= uint16(mode & 7)
	mode = mode&^0o777 | b.mode()
	if b.minimal() {
		return nil, mode
	}
	return b, mode
}
