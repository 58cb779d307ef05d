package fuse

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
)

// ioSize is st_blksize: what stdio buffers by, not the size of requests.
const ioSize = 4096

// formats is the file type in st_mode.
var formats = [8]uint32{
	fsapi.TypeRegular:   syscall.S_IFREG,
	fsapi.TypeDirectory: syscall.S_IFDIR,
	fsapi.TypeSymlink:   syscall.S_IFLNK,
	fsapi.TypeCharDev:   syscall.S_IFCHR,
	fsapi.TypeBlockDev:  syscall.S_IFBLK,
	fsapi.TypeFIFO:      syscall.S_IFIFO,
	fsapi.TypeSocket:    syscall.S_IFSOCK,
}

// format is the type's bits of st_mode.
func format(t fsapi.FileType) uint32 { return formats[t&7] }

// typeOf is the file type of st_mode; 0 where there is none.
func typeOf(mode uint32) fsapi.FileType {
	for t, f := range formats {
		if f != 0 && f == mode&syscall.S_IFMT {
			return fsapi.FileType(t)
		}
	}
	return 0
}

// fillAttr says a in the kernel's words.
func fillAttr(out *fuse.Attr, a *fsapi.Attr) {
	out.Ino = uint64(a.Ino)
	out.Size = uint64(a.Size)
	out.Blocks = uint64(a.Used+511) / 512
	out.Atime, out.Atimensec = uint64(a.Atime.Unix()), uint32(a.Atime.Nanosecond())
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Unix()), uint32(a.Mtime.Nanosecond())
	out.Ctime, out.Ctimensec = uint64(a.Ctime.Unix()), uint32(a.Ctime.Nanosecond())
	out.Mode = format(a.Type) | a.Mode&fsapi.ModeMask
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.Uid, a.Gid
	out.Rdev = a.Rdev
	out.Blksize = ioSize
}

// fillStatx says a as statx(2) does, with the time of creation.
func fillStatx(out *fuse.Statx, a *fsapi.Attr) {
	out.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	out.Blksize = ioSize
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.Uid, a.Gid
	out.Mode = uint16(format(a.Type) | a.Mode&fsapi.ModeMask)
	out.Ino = uint64(a.Ino)
	out.Size = uint64(a.Size)
	out.Blocks = uint64(a.Used+511) / 512
	out.Atime, out.Btime = sxTime(a.Atime), sxTime(a.Btime)
	out.Ctime, out.Mtime = sxTime(a.Ctime), sxTime(a.Mtime)
	// The kernel's new_encode_dev, which its 32-bit device numbers follow.
	out.RdevMajor = a.Rdev >> 8 & 0xfff
	out.RdevMinor = a.Rdev&0xff | a.Rdev>>12&0xfff00
}

func sxTime(t time.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Unix()), Nsec: uint32(t.Nanosecond())}
}

// cached reports whether the kernel may cache what it is told of an inode: not
// of virtual ones, which are new at every look, but of those of snapshots, which
// never change.
func cached(i fsapi.Ino) bool { return i < fsapi.VirtualIno || i >= fsapi.SnapshotIno }

// fillEntry answers a lookup. What raced with another door's change is not to
// be cached (K1).
func (r *raw) fillEntry(out *fuse.EntryOut, a *fsapi.Attr) {
	out.NodeId = uint64(a.Ino)
	fillAttr(&out.Attr, a)
	if !cached(a.Ino) {
		return
	}
	out.SetEntryTimeout(r.o.EntryTimeout)
	out.SetAttrTimeout(r.o.AttrTimeout)
}

// fillAttrOut answers a question for attributes.
func (r *raw) fillAttrOut(out *fuse.AttrOut, a *fsapi.Attr) {
	fillAttr(&out.Attr, a)
	if cached(a.Ino) {
		out.SetTimeout(r.o.AttrTimeout)
	}
}
