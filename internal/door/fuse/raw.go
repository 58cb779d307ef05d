package fuse

import (
	"log/slog"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// raw answers the kernel's requests. Its methods are called concurrently.
type raw struct {
	o      Options
	fs     vfs.FS
	log    *slog.Logger
	creds  creds
	files  table[fileHandle]
	dirs   table[dirHandle]
	inval  *invalidator
	gaveUp chan struct{} // closed when the mount is given up: patient calls end
	// directMmap is whether the kernel maps files opened for direct I/O
	// (FUSE_DIRECT_IO_ALLOW_MMAP); set before the first request is served.
	directMmap bool
}

var _ fuse.RawFileSystem = (*raw)(nil)

// String implements fuse.RawFileSystem.
func (r *raw) String() string { return "strake" }

// SetDebug implements fuse.RawFileSystem.
func (r *raw) SetDebug(bool) {}

// Init implements fuse.RawFileSystem: it comes before the first request.
func (r *raw) Init(s *fuse.Server) {
	r.directMmap = s.KernelSettings().Flags64()&fuse.CAP_DIRECT_IO_ALLOW_MMAP != 0
}

// OnUnmount implements fuse.RawFileSystem: handles that the kernel did not
// release, having been cut off, are closed.
func (r *raw) OnUnmount() {
	r.files.each(func(fh uint64, _ *fileHandle) { r.closeFile(fh) })
	r.dirs.each(func(fh uint64, _ *dirHandle) { r.closeDir(fh) })
}

// Forget implements fuse.RawFileSystem: numbers are never reused, so the
// kernel's knowledge of one is nothing to keep account of.
func (r *raw) Forget(uint64, uint64) {}

// once is the context of a call that may be tried again (see requestCtx).
func once(cancel <-chan struct{}) requestCtx { return requestCtx{cancel} }

// patient is the context of a call that a signal does not end.
func (r *raw) patient() requestCtx { return requestCtx{r.gaveUp} }

// status answers err and logs what a user would not expect: an errno of EIO
// has no cause with it.
func (r *raw) status(op string, h *fuse.InHeader, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	st := errno(err)
	if st == fuse.EIO {
		r.log.Error("request failed", "op", op, "inode", h.NodeId, "caller", caller(h), "err", err)
	}
	return st
}

// ino is the inode a request is about.
func ino(h *fuse.InHeader) fsapi.Ino { return fsapi.Ino(h.NodeId) }
