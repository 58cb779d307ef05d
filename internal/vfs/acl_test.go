package vfs

import (
	"bytes"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// acl builds a list from tag, permission, id triples.
func acl(es ...ACLEntry) ACL {
	for i := range es {
		if es[i].Tag != ACLUser && es[i].Tag != ACLGroup {
			es[i].ID = aclNoID
		}
	}
	return es
}

func TestACLAccessCheck(t *testing.T) {
	a := acl(
		ACLEntry{ACLUserObj, 0, 0}, ACLEntry{ACLUser, 7, 10}, ACLEntry{ACLUser, 4, 11},
		ACLEntry{ACLGroupObj, 4, 0}, ACLEntry{ACLGroup, 2, 30}, ACLEntry{ACLGroup, 7, 31},
		ACLEntry{ACLMask, 6, 0}, ACLEntry{ACLOther, 1, 0},
	)
	for _, tc := range []struct {
		name string
		c    fsapi.Cred
		want uint32
		ok   bool
	}{
		{"owner by its entry only", fsapi.Cred{Uid: 1, Gid: 31}, 4, false},
		{"named user within the mask", fsapi.Cred{Uid: 10, Gid: 99}, 6, true},
		{"named user beyond the mask", fsapi.Cred{Uid: 10, Gid: 99}, 1, false},
		{"named user does not fall back to a group", fsapi.Cred{Uid: 11, Gid: 31}, 2, false},
		{"owning group", fsapi.Cred{Uid: 12, Gid: 2}, 4, true},
		{"owning group has no write", fsapi.Cred{Uid: 12, Gid: 2}, 2, false},
		{"any group that has all", fsapi.Cred{Uid: 12, Gid: 30, Groups: []uint32{31}}, 6, true},
		{"no one group has all", fsapi.Cred{Uid: 12, Gid: 30, Groups: []uint32{2}}, 6, false},
		{"a group that refuses keeps others out", fsapi.Cred{Uid: 12, Gid: 30}, 1, false},
		{"others", fsapi.Cred{Uid: 12, Gid: 99}, 1, true},
		{"others are not masked", fsapi.Cred{Uid: 12, Gid: 99}, 4, false},
	} {
		if got := a.allows(&tc.c, 1, 2, tc.want); got != tc.ok {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.ok)
		}
	}
}

func TestACLValidate(t *testing.T) {
	u, g, o := ACLEntry{Tag: ACLUserObj, Perm: 7}, ACLEntry{Tag: ACLGroupObj, Perm: 5}, ACLEntry{Tag: ACLOther}
	user, group, mask := ACLEntry{Tag: ACLUser, Perm: 7, ID: 9}, ACLEntry{Tag: ACLGroup, Perm: 7, ID: 9}, ACLEntry{Tag: ACLMask, Perm: 7}
	for name, tc := range map[string]struct {
		a  ACL
		ok bool
	}{
		"minimal":             {acl(u, g, o), true},
		"full":                {acl(u, user, g, group, mask, o), true},
		"mask alone":          {acl(u, g, mask, o), true},
		"user without mask":   {acl(u, user, g, o), false},
		"group without mask":  {acl(u, g, group, o), false},
		"no owner":            {acl(g, o), false},
		"no group":            {acl(u, o), false},
		"no others":           {acl(u, g), false},
		"two owners":          {acl(u, u, g, o), false},
		"out of order":        {acl(g, u, o), false},
		"unknown tag":         {acl(u, g, ACLEntry{Tag: 0x40}, o), false},
		"more than rwx":       {acl(u, g, ACLEntry{Tag: ACLOther, Perm: 8}), false},
		"something after all": {acl(u, g, o, user), false},
	} {
		got, err := ParseACL(tc.a.Bytes())
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !bytes.Equal(got.Bytes(), tc.a.Bytes()) {
			t.Errorf("%s: parsed as %v", name, got)
		}
	}
}

func TestACLModeAndInheritance(t *testing.T) {
	def := acl(
		ACLEntry{ACLUserObj, 7, 0}, ACLEntry{ACLUser, 7, 9}, ACLEntry{ACLGroupObj, 5, 0}, ACLEntry{ACLMask, 7, 0}, ACLEntry{ACLOther, 5, 0},
	)
	if bits, minimal := def.mode(); bits != 0o775 || minimal {
		t.Fatalf("mode %#o, minimal %v", bits, minimal)
	}
	got, mode := def.inherit(0o640)
	if mode != 0o640 || got == nil {
		t.Fatalf("inherited with mode %#o: %v", mode, got)
	}
	if bits, _ := got.mode(); bits != 0o640 {
		t.Fatalf("the inherited ACL stands for %#o", bits)
	}
	if got[1].Perm != 7 || got[2].Perm != 5 {
		t.Fatalf("entries below the mask changed: %v", got)
	}
	got.chmod(0o404)
	if bits, _ := got.mode(); bits != 0o404 || got[2].Perm != 5 {
		t.Fatalf("after chmod: %#o, %v", bits, got)
	}
	small := acl(ACLEntry{ACLUserObj, 6, 0}, ACLEntry{ACLGroupObj, 4, 0}, ACLEntry{ACLOther, 0, 0})
	if got, mode := small.inherit(0o777); got != nil || mode != 0o640 {
		t.Fatalf("a minimal default ACL gives %v and %#o", got, mode)
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add(acl(ACLEntry{ACLUserObj, 7, 0}, ACLEntry{ACLGroupObj, 5, 0}, ACLEntry{ACLOther, 0, 0}).Bytes())
	f.Add([]byte{2, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseACL(b)
		if err != nil || a == nil {
			return
		}
		again, err := ParseACL(a.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), a.Bytes()) {
			t.Fatalf("%v came back as %v: %v", a, again, err)
		}
		bits, _ := a.mode()
		a.chmod(bits)
		if now, _ := a.mode(); now != bits {
			t.Fatalf("chmod to its own mode %#o gives %#o", bits, now)
		}
	})
}
