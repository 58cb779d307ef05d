package vfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// TestEverythingAtOnce runs all kinds of calls on a few names from many
// goroutines: nothing may hang, race, or break what must always hold.
func TestEverythingAtOnce(t *testing.T) {
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		o.FlushAge, o.Segment, o.DirtyMax, o.Nodes = time.Millisecond, 256<<10, 4<<20, 16
	}})
	var dirs []fsapi.Ino
	for i := range 3 {
		a, err := r.fs.Mknod(r.ctx, fsapi.Root, fsapi.RootIno, fmt.Sprint("dir", i), vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
		r.ok(err)
		dirs = append(dirs, a.Ino)
	}
	stop := r.fs.Watch(func(fsapi.Change) {})
	defer stop()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 3))
			for range 250 {
				r.anything(rnd, dirs)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		panic("hangs")
	}
	r.ok(r.fs.Syncfs(r.ctx))
	if s := r.fs.Stats(); s.DirtyBytes != 0 || s.Handles != 0 || s.Locks != 0 {
		t.Fatalf("left over: %+v", s)
	}
}

// anything does one thing. Errors of the namespace are expected; broken
// content is not.
func (r *rig) anything(rnd *rand.Rand, dirs []fsapi.Ino) {
	dir, name := dirs[rnd.IntN(len(dirs))], string(rune('a'+rnd.IntN(4)))
	to, toName := dirs[rnd.IntN(len(dirs))], string(rune('a'+rnd.IntN(4)))
	switch rnd.IntN(12) {
	case 0, 1, 2, 3:
		r.fillOne(rnd, dir, name)
	case 4:
		_ = r.fs.Unlink(r.ctx, fsapi.Root, dir, name)
	case 5:
		_ = r.fs.Rename(r.ctx, fsapi.Root, dir, name, to, toName, vfs.RenameFlags(rnd.IntN(3)))
	case 6:
		if a, err := r.fs.Lookup(r.ctx, fsapi.Root, dir, name); err == nil {
			_, _ = r.fs.Link(r.ctx, fsapi.Root, a.Ino, to, toName)
			mode := uint32(rnd.IntN(0o1000))
			_, _ = r.fs.Setattr(r.ctx, fsapi.Root, a.Ino, vfs.SetAttr{Mode: &mode, TouchMtime: true})
		}
	case 7:
		_ = r.fs.DropCaches(r.ctx)
	case 8:
		q := vfs.Quota{Bytes: int64(rnd.IntN(2)) << 30}
		_ = r.fs.SetQuota(r.ctx, fsapi.Root, dir, q)
	case 9:
		_, _ = r.fs.Batch(r.ctx, fsapi.Root, []vfs.Op{
			{Kind: vfs.OpPut, Path: "dir0/" + name, Data: bytes.Repeat([]byte{7}, 10_000)},
			{Kind: vfs.OpRename, Path: "dir0/" + name, To: "dir1/" + toName},
			{Kind: vfs.OpRemove, Path: "dir2/" + name},
		})
	case 10:
		r.ok(r.fs.Syncfs(r.ctx))
	case 11:
		if a, err := r.fs.Lookup(r.ctx, fsapi.Root, dir, name); err == nil {
			r.uniform(a.Ino)
		}
	}
}

// fillOne writes a file full of one byte, which uniform relies on.
func (r *rig) fillOne(rnd *rand.Rand, dir fsapi.Ino, name string) {
	_, f, err := r.fs.Create(r.ctx, fsapi.Root, dir, name, vfs.NewNode{Mode: 0o644}, rw)
	if err != nil {
		return
	}
	defer f.Close()
	p := bytes.Repeat([]byte{7}, 1+rnd.IntN(200_000))
	if _, err := f.WriteAt(r.ctx, p, int64(rnd.IntN(1000))); err != nil {
		r.Errorf("write: %v", err)
	}
	if rnd.IntN(3) == 0 {
		if err := f.Sync(r.ctx, false); err != nil {
			r.Errorf("fsync: %v", err)
		}
	}
	owner := vfs.LockOwner{Door: "t", Owner: rnd.Uint64()}
	_ = f.SetLock(r.ctx, vfs.Lock{Owner: owner, Type: vfs.LockWrite, End: 100}, false)
	_ = f.Flush(r.ctx, owner)
}

// uniform reads a file, which must hold sevens, or zeros where nothing was
// written.
func (r *rig) uniform(ino fsapi.Ino) {
	f, err := r.fs.Open(r.ctx, fsapi.Root, ino, vfs.OpenRead)
	if err != nil {
		return
	}
	defer f.Close()
	p := make([]byte, 300_000)
	n, err := f.ReadAt(r.ctx, p, 0)
	if err != nil {
		r.Errorf("read: %v", err)
	}
	for i, b := range p[:n] {
		if b != 7 && (b != 0 || i >= 1000) {
			r.Errorf("byte %d of inode %d is %d", i, ino, b)
			return
		}
	}
}
