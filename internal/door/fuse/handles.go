package fuse

import (
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// fileHandle is an open regular file: what the kernel knows as a file handle.
type fileHandle struct {
	file vfs.File // never with vfs.OpenAppend: pages of a mapping are written at their offset
	ino  fsapi.Ino
	cred *fsapi.Cred
	// flags are those file was opened with.
	flags vfs.OpenFlags

	mu sync.Mutex
	// appender is file opened again with vfs.OpenAppend, at the first write
	// with O_APPEND; guarded by mu.
	appender vfs.File
}

// dirHandle is an open directory.
type dirHandle struct {
	mu  sync.Mutex // one reader at a time
	dir vfs.Dir
	ino fsapi.Ino
}

// The table grows by blocks of this many handles, up to maxBlocks of them:
// 16 Mi handles.
const (
	blockBits = 10
	blockSize = 1 << blockBits
	maxBlocks = 1 << 14
)

type block[T any] [blockSize]atomic.Pointer[T]

// table gives handles numbers from 1. get takes no lock and does not wait for
// put or drop; a number comes back into use only after drop. Safe for
// concurrent use.
type table[T any] struct {
	blocks [maxBlocks]atomic.Pointer[block[T]]

	mu   sync.Mutex
	free []uint64 // numbers dropped; guarded by mu
	next uint64   // numbers below it have been given out once; guarded by mu
}

// put gives h a number, or fails with fsapi.Busy where the table is full.
func (t *table[T]) put(h *T) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var i uint64
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		i = t.next
		if i>>blockBits >= maxBlocks {
			return 0, fsapi.Errorf(fsapi.Busy, "%d files are open through this mount; close some", i)
		}
		if i&(blockSize-1) == 0 {
			t.blocks[i>>blockBits].Store(new(block[T]))
		}
		t.next++
	}
	t.slot(i).Store(h)
	return i + 1, nil
}

// get is the handle of a number, or nil.
func (t *table[T]) get(fh uint64) *T {
	if s := t.slot(fh - 1); s != nil {
		return s.Load()
	}
	return nil
}

// drop takes a handle out, or is nil where there is none.
func (t *table[T]) drop(fh uint64) *T {
	s := t.slot(fh - 1)
	if s == nil {
		return nil
	}
	h := s.Swap(nil)
	if h != nil {
		t.mu.Lock()
		t.free = append(t.free, fh-1)
		t.mu.Unlock()
	}
	return h
}

// each calls fn for every handle.
func (t *table[T]) each(fn func(fh uint64, h *T)) {
	t.mu.Lock()
	n := t.next
	t.mu.Unlock()
	for i := range n {
		if h := t.slot(i).Load(); h != nil {
			fn(i+1, h)
		}
	}
}

func (t *table[T]) slot(i uint64) *atomic.Pointer[T] {
	if i>>blockBits >= maxBlocks {
		return nil
	}
	b := t.blocks[i>>blockBits].Load()
	if b == nil {
		return nil
	}
	return &b[i&(blockSize-1)]
}
