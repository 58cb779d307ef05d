package fuse

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// make answers every request for a new inode that is not opened at once.
func (r *raw) make(op string, h *fuse.InHeader, name string, n vfs.NewNode, out *fuse.EntryOut) fuse.Status {
	r.inval.begin()
	defer r.inval.end()
	a, err := r.fs.Mknod(r.patient(), r.creds.of(h), ino(h), name, n)
	if err != nil {
		return r.status(op, h, err)
	}
	r.fillEntry(out, &a)
	return fuse.OK
}

// Mknod implements fuse.RawFileSystem.
func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	t := typeOf(in.Mode)
	if in.Mode&syscall.S_IFMT == 0 {
		t = fsapi.TypeRegular
	}
	if t == 0 || t == fsapi.TypeDirectory || t == fsapi.TypeSymlink {
		return fuse.EINVAL
	}
	return r.make("mknod", &in.InHeader, name, vfs.NewNode{
		Type: t, Mode: in.Mode & fsapi.ModeMask, Umask: in.Umask, Rdev: in.Rdev,
	}, out)
}

// Mkdir implements fuse.RawFileSystem.
func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return r.make("mkdir", &in.InHeader, name, vfs.NewNode{
		Type: fsapi.TypeDirectory, Mode: in.Mode & fsapi.ModeMask, Umask: in.Umask,
	}, out)
}

// Symlink implements fuse.RawFileSystem.
func (r *raw) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if len(target) > fsapi.MaxSymlink {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	return r.make("symlink", h, name, vfs.NewNode{Type: fsapi.TypeSymlink, Mode: 0o777, Target: target}, out)
}

// Link implements fuse.RawFileSystem.
func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r.inval.begin()
	defer r.inval.end()
	a, err := r.fs.Link(r.patient(), r.creds.of(&in.InHeader), fsapi.Ino(in.Oldnodeid), ino(&in.InHeader), name)
	if err != nil {
		return r.status("link", &in.InHeader, err)
	}
	r.fillEntry(out, &a)
	return fuse.OK
}

// Unlink implements fuse.RawFileSystem.
func (r *raw) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.status("unlink", h, r.fs.Unlink(r.patient(), r.creds.of(h), ino(h), name))
}

// Rmdir implements fuse.RawFileSystem.
func (r *raw) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.status("rmdir", h, r.fs.Rmdir(r.patient(), r.creds.of(h), ino(h), name))
}

// Rename implements fuse.RawFileSystem: RENAME, and RENAME2 with the flags of
// renameat2(2). There are no whiteouts.
func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	flags := vfs.RenameFlags(in.Flags)
	if flags&^(vfs.RenameNoReplace|vfs.RenameExchange) != 0 {
		return fuse.EINVAL
	}
	return r.status("rename", &in.InHeader, r.fs.Rename(r.patient(), r.creds.of(&in.InHeader),
		ino(&in.InHeader), from, fsapi.Ino(in.Newdir), to, flags))
}
