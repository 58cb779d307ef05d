package history

import (
	"fmt"

	"github.com/strakefs/strake/internal/vfs"
)

// maxHandles bounds the open files.
const maxHandles = 24

func openFlags(r uint32) vfs.OpenFlags {
	const rw = vfs.OpenRead | vfs.OpenWrite
	f := pick([]vfs.OpenFlags{rw, rw, rw, rw, vfs.OpenRead, vfs.OpenWrite, rw | vfs.OpenAppend, rw | vfs.OpenTrunc, vfs.OpenExec}, r)
	switch r / 16 % 12 {
	case 0:
		f |= vfs.OpenSync
	case 1:
		f |= vfs.OpenDirect
	case 2:
		f |= vfs.OpenDsync
	}
	return f
}

// opened keeps the handles of both sides.
func (w *world) opened(r [2]result, flags vfs.OpenFlags, err error) error {
	if r[oracle].file == nil || r[subject].file == nil {
		return err
	}
	h := &handle{n: w.byIno[oracle][r[oracle].file.Ino()], flags: flags}
	for s := range r {
		h.f[s] = r[s].file
	}
	w.handles = append(w.handles, h)
	if err == nil && len(w.handles) > maxHandles {
		return w.closeHandle(0)
	}
	return err
}

func (w *world) open(r [8]uint32) error {
	n, c, flags := w.regular(r[0]), cred(r[3]), openFlags(r[1])
	res, err := w.both(fmt.Sprintf("open(#%d, %#x) by %d", n.id, uint32(flags), c.Uid), func(s int) result {
		f, err := w.fs[s].Open(w.ctx, c, n.ino[s], flags)
		return result{err: err, file: f}
	})
	return w.opened(res, flags, err)
}

func (w *world) close(r [8]uint32) error {
	if len(w.handles) == 0 {
		return nil
	}
	return w.closeHandle(int(r[0]) % len(w.handles))
}

func (w *world) closeHandle(i int) error {
	h := w.handles[i]
	w.handles = append(w.handles[:i:i], w.handles[i+1:]...)
	_, err := w.both(fmt.Sprintf("close(#%d)", h.n.id), func(s int) result { return result{err: h.f[s].Close()} })
	return err
}

// handle chooses an open file, and opens one where there is none.
func (w *world) handle(r uint32) (*handle, error) {
	if len(w.handles) == 0 {
		if err := w.create([8]uint32{r, r / 3, 0, 0, 0, 0, 0, 0}); err != nil {
			return nil, err
		}
	}
	return pick(w.handles, r), nil
}

// sizeOf is the size of a file in the model.
func (w *world) sizeOf(n *node) int64 {
	a, err := w.fs[oracle].Getattr(w.ctx, n.ino[oracle])
	if err != nil {
		return 0
	}
	return a.Size
}

// on makes a call through a handle, and compares the attributes after it.
func (w *world) on(r uint32, what func(h *handle) (string, func(s int) result)) error {
	h, err := w.handle(r)
	if err != nil || h == nil {
		return err
	}
	text, call := what(h)
	if call == nil {
		return nil
	}
	if _, err := w.both(fmt.Sprintf("%s through handle %#x of #%d", text, uint32(h.flags), h.n.id), call); err != nil {
		return err
	}
	_, err = w.both("fstat", func(s int) result { return attr(h.f[s].Attr(w.ctx)) })
	return err
}

func (w *world) read(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		off, n := offset(r[1], w.sizeOf(h.n)), size(r[2])
		return fmt.Sprintf("read %d at %d", n, off), func(s int) result {
			p := make([]byte, n)
			n, err := h.f[s].ReadAt(w.ctx, p, off)
			return result{err: err, text: string(p[:max(n, 0)])}
		}
	})
}

func (w *world) write(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) { return w.writing(h, offset(r[1], w.sizeOf(h.n)), r) })
}

func (w *world) appendTo(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) { return w.writing(h, w.sizeOf(h.n), r) })
}

func (w *world) writing(h *handle, off int64, r [8]uint32) (string, func(int) result) {
	data := bytesOf(size(r[2]), r[4])
	if r[5]%25 == 0 && h.flags&vfs.OpenWrite != 0 {
		clear(data[len(data)/3:])
		h.n.holes = true
	}
	return fmt.Sprintf("write %d at %d of content %d", len(data), off, r[4]%18), func(s int) result {
		n, err := h.f[s].WriteAt(w.ctx, data, off)
		return result{err: err, text: fmt.Sprint(n)}
	}
}

func (w *world) ftruncate(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		to := offset(r[1], w.sizeOf(h.n))
		return fmt.Sprintf("ftruncate %d", to), func(s int) result { return result{err: h.f[s].Truncate(w.ctx, to)} }
	})
}

func (w *world) allocate(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		at := w.sizeOf(h.n)
		mode := pick([]vfs.AllocMode{
			0, vfs.AllocKeepSize, vfs.AllocPunch | vfs.AllocKeepSize, vfs.AllocPunch | vfs.AllocKeepSize, vfs.AllocZero,
			vfs.AllocZero | vfs.AllocKeepSize, vfs.AllocCollapse, vfs.AllocInsert,
		}, r[1])
		off, n := offset(r[2], at), int64(size(r[4]))
		if mode == vfs.AllocCollapse || mode == vfs.AllocInsert {
			if r[5]%10 != 0 {
				off, n = off&^4095, max(n&^4095, 4096)
			}
			if mode == vfs.AllocCollapse && off+n >= at && at > 4096 {
				off, n = 0, 4096
			}
		}
		if mode&vfs.AllocPunch == 0 && h.flags&vfs.OpenWrite != 0 {
			h.n.prealloc = true
		}
		return fmt.Sprintf("fallocate %#x %d+%d", uint32(mode), off, n), func(s int) result {
			return result{err: h.f[s].Allocate(w.ctx, mode, off, n)}
		}
	})
}

func (w *world) seek(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		if h.n.holes {
			return "", nil
		}
		off, hole := offset(r[1], w.sizeOf(h.n)), r[2]%2 == 0
		return fmt.Sprintf("seek from %d, hole %v", off, hole), func(s int) result {
			at, err := h.f[s].Seek(w.ctx, off, hole)
			return result{err: err, text: fmt.Sprint(at)}
		}
	})
}

func (w *world) copy(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		to := pick(w.handles, r[5])
		off, dst, n := offset(r[1], w.sizeOf(h.n)), offset(r[2], w.sizeOf(to.n)), int64(size(r[4]))
		if h.n.holes || h.n.prealloc {
			to.n.holes = true
		}
		return fmt.Sprintf("copy %d+%d to #%d at %d (handle %#x)", off, n, to.n.id, dst, uint32(to.flags)), func(s int) result {
			n, err := h.f[s].CopyRange(w.ctx, off, to.f[s], dst, n)
			return result{err: err, text: fmt.Sprint(n)}
		}
	})
}

func (w *world) sync(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		return "fsync", func(s int) result { return result{err: h.f[s].Sync(w.ctx, r[1]%2 == 0)} }
	})
}

func (w *world) flush(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		return "flush", func(s int) result { return result{err: h.f[s].Flush(w.ctx, owner(r[1]))} }
	})
}

// owners is how many owners of locks there are.
const owners = 4

func owner(r uint32) vfs.LockOwner { return vfs.LockOwner{Door: "test", Owner: uint64(r % owners)} }

func lockOf(r [8]uint32) vfs.Lock {
	l := vfs.Lock{Owner: owner(r[1]), Type: vfs.LockType(r[2] % 3), Start: int64(r[4] % 40), Pid: r[1] % 4}
	l.End = l.Start + int64(r[5]%20)
	if r[5]%10 == 0 {
		l.End = 1<<63 - 1
	}
	if r[6]%5 == 0 {
		l.Flock, l.Start, l.End = true, 0, 1<<63-1
	}
	return l
}

func (w *world) lock(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		l := lockOf(r)
		return fmt.Sprintf("lock %+v", l), func(s int) result { return result{err: h.f[s].SetLock(w.ctx, l, false)} }
	})
}

// getlk compares whether the lock could be had; which of several refuses it is
// up to each side.
func (w *world) getlk(r [8]uint32) error {
	return w.on(r[0], func(h *handle) (string, func(int) result) {
		l := lockOf(r)
		l.Type = vfs.LockRead + l.Type%2
		return fmt.Sprintf("getlk %+v", l), func(s int) result {
			got, err := h.f[s].GetLock(w.ctx, l)
			return result{err: err, text: fmt.Sprint(got.Type == vfs.LockNone)}
		}
	})
}

// closeAll closes every handle.
func (w *world) closeAll() error {
	for len(w.handles) > 0 {
		if err := w.closeHandle(0); err != nil {
			return err
		}
	}
	return nil
}
