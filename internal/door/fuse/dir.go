package fuse

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

// OpenDir implements fuse.RawFileSystem. The kernel keeps the listing until the
// directory changes. There is no doing without the request altogether (answered
// with ENOSYS): the kernel would then cache virtual directories too, and a
// directory removed while it is open would have no handle to live by.
func (r *raw) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	h := &in.InHeader
	d, err := r.fs.OpenDir(r.patient(), r.creds.of(h), ino(h))
	if err != nil {
		return r.status("opendir", h, err)
	}
	if out.Fh, err = r.dirs.put(&dirHandle{dir: d, ino: ino(h)}); err != nil {
		_ = d.Close()
		return r.status("opendir", h, err)
	}
	if !cached(ino(h)) {
		return fuse.OK
	}
	out.OpenFlags = fuse.FOPEN_CACHE_DIR
	if r.inval.settled(ino(h)) {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(in, false, func(e *fsapi.Dirent) bool { return out.AddDirEntry(dirEntry(e)) })
}

// ReadDirPlus implements fuse.RawFileSystem. "." and ".." are not looked up by
// it (NodeId 0), nor is what vfs gives no attributes for.
func (r *raw) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(in, true, func(e *fsapi.Dirent) bool {
		o := out.AddDirLookupEntry(dirEntry(e))
		if o == nil {
			return false
		}
		if e.Attr.Ino != 0 && e.Name != "." && e.Name != ".." {
			r.fillEntry(o, &e.Attr)
		}
		return true
	})
}

// readDir hands the entries after in.Offset to add until it has no room.
func (r *raw) readDir(in *fuse.ReadIn, attrs bool, add func(*fsapi.Dirent) bool) fuse.Status {
	d := r.dirs.get(in.Fh)
	if d == nil {
		return fuse.EBADF
	}
	r.inval.begin()
	defer r.inval.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.status("readdir", &in.InHeader, d.dir.Read(r.patient(), in.Offset, attrs,
		func(e fsapi.Dirent) bool { return add(&e) }))
}

func dirEntry(e *fsapi.Dirent) fuse.DirEntry {
	return fuse.DirEntry{Mode: format(e.Type), Name: e.Name, Ino: uint64(e.Ino), Off: e.Cookie}
}

// FsyncDir implements fuse.RawFileSystem.
func (r *raw) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	d := r.dirs.get(in.Fh)
	if d == nil {
		return fuse.EBADF
	}
	err := d.dir.Sync(once(cancel))
	if retry(err, in.Pid) {
		err = d.dir.Sync(r.patient())
	}
	return r.status("fsyncdir", &in.InHeader, err)
}

// ReleaseDir implements fuse.RawFileSystem.
func (r *raw) ReleaseDir(in *fuse.ReleaseIn) { r.closeDir(in.Fh) }

func (r *raw) closeDir(fh uint64) {
	if d := r.dirs.drop(fh); d != nil {
		if err := d.dir.Close(); err != nil {
			r.log.Warn("closing a directory failed", "inode", d.ino, "err", err)
		}
	}
}
