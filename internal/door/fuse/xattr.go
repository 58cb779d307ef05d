package fuse

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// GetXAttr implements fuse.RawFileSystem.
func (r *raw) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	c := r.creds.of(h)
	v, err := r.fs.Getxattr(once(cancel), c, ino(h), name)
	if retry(err, h.Pid) {
		v, err = r.fs.Getxattr(r.patient(), c, ino(h), name)
	}
	if err != nil {
		return 0, r.status("getxattr", h, err)
	}
	if len(v) > len(dest) {
		return uint32(len(v)), fuse.ERANGE
	}
	return uint32(copy(dest, v)), fuse.OK
}

// ListXAttr implements fuse.RawFileSystem: names, each ended by a NUL.
func (r *raw) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	c := r.creds.of(h)
	names, err := r.fs.Listxattr(once(cancel), c, ino(h))
	if retry(err, h.Pid) {
		names, err = r.fs.Listxattr(r.patient(), c, ino(h))
	}
	if err != nil {
		return 0, r.status("listxattr", h, err)
	}
	size := 0
	for _, n := range names {
		size += len(n) + 1
	}
	if size > len(dest) {
		return uint32(size), fuse.ERANGE
	}
	for _, n := range names {
		dest = dest[copy(dest, n):]
		dest[0] = 0
		dest = dest[1:]
	}
	return uint32(size), fuse.OK
}

// SetXAttr implements fuse.RawFileSystem.
func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	h := &in.InHeader
	c := r.creds.of(h)
	err := r.fs.Setxattr(r.patient(), c, ino(h), name, value, vfs.XattrFlags(in.Flags))
	if err == nil && in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
		err = r.killSetgid(h, c)
	}
	return r.status("setxattr", h, err)
}

// killSetgid clears setgid: who sets an ACL without being in the file's group
// must not keep it (posix_acl_update_mode in fs/posix_acl.c).
func (r *raw) killSetgid(h *fuse.InHeader, c *fsapi.Cred) error {
	a, err := r.fs.Getattr(r.patient(), ino(h))
	if err != nil || a.Mode&fsapi.ModeSetgid == 0 {
		return err
	}
	mode := a.Mode &^ fsapi.ModeSetgid
	_, err = r.fs.Setattr(r.patient(), c, ino(h), vfs.SetAttr{Mode: &mode})
	return err
}

// RemoveXAttr implements fuse.RawFileSystem.
func (r *raw) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.status("removexattr", h, r.fs.Removexattr(r.patient(), r.creds.of(h), ino(h), name))
}
