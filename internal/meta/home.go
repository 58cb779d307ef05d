package meta

import (
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// homes remembers of some inodes which dentry they were last found in, to find
// them with one read instead of two. It needs no invalidation: a dentry that
// holds an inode is the only one that does, and one that does not is seen when
// it is read. Lock-free; an inode displaces another of the same slot.
type homes [homeSlots]atomic.Pointer[home]

const homeSlots = 1 << 12

type home struct {
	vol  fsapi.VolumeID
	ino  fsapi.Ino
	dir  fsapi.Ino
	name string
}

func (h *homes) slot(vol fsapi.VolumeID, ino fsapi.Ino) *atomic.Pointer[home] {
	return &h[(uint64(ino)+uint64(vol)*0x9e3779b9)%homeSlots]
}

func (h *homes) get(vol fsapi.VolumeID, ino fsapi.Ino) *home {
	if e := h.slot(vol, ino).Load(); e != nil && e.ino == ino && e.vol == vol {
		return e
	}
	return nil
}

func (h *homes) put(vol fsapi.VolumeID, in *Inode) {
	h.slot(vol, in.Ino).Store(&home{vol, in.Ino, in.Parent, in.Name})
}
