package vfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// fileHistory does random operations on the content of one file and on a plain
// slice of bytes, while write-back runs as often as it can.
type fileHistory struct {
	*rig
	rnd  *rand.Rand
	f    vfs.File
	ino  fsapi.Ino
	want []byte
	max  int
	opts func(*vfs.Options)
	log  []string
}

func (h *fileHistory) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
	if len(h.log) > 60 {
		h.log = h.log[1:]
	}
}

func (h *fileHistory) fit(n int) {
	if n > len(h.want) {
		h.want = append(h.want, make([]byte, n-len(h.want))...)
	}
}

func (h *fileHistory) check(off, n int) {
	h.Helper()
	end := min(len(h.want), off+n)
	var want []byte
	if off < end {
		want = h.want[off:end]
	}
	got := h.read(h.f, int64(off), n)
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	for _, l := range h.log {
		h.Log(l)
	}
	h.Fatalf("read of %d at %d differs at %d: %d bytes, want %d", n, off, off+i, len(got), len(want))
}

// span picks a range that often meets block and page bounds.
func (h *fileHistory) span() (off, n int) {
	off, n = h.rnd.IntN(h.max), 1+h.rnd.IntN(h.max/4)
	switch h.rnd.IntN(4) {
	case 0:
		off &^= 1<<16 - 1
	case 1:
		off, n = off&^4095, (n+4095)&^4095
	case 2:
		n = 1 + n%5000
	}
	return off, min(n, h.max-off)
}

func (h *fileHistory) step(seed int) {
	off, n := h.span()
	switch h.rnd.IntN(24) {
	case 0, 1, 2, 3, 4, 5, 6:
		h.note("write %d at %d", n, off)
		p := noise(uint64(seed), n)
		if h.rnd.IntN(8) == 0 {
			clear(p)
		}
		h.write(h.f, p, int64(off))
		h.fit(off + n)
		copy(h.want[off:], p)
	case 7:
		h.note("truncate to %d", off)
		h.ok(h.f.Truncate(h.ctx, int64(off)))
		h.fit(off)
		h.want = h.want[:off:off]
	case 8:
		h.note("punch %d at %d", n, off)
		h.ok(h.f.Allocate(h.ctx, vfs.AllocPunch|vfs.AllocKeepSize, int64(off), int64(n)))
		if off < len(h.want) {
			clear(h.want[off:min(off+n, len(h.want))])
		}
	case 9:
		h.note("zero %d at %d", n, off)
		h.ok(h.f.Allocate(h.ctx, vfs.AllocZero, int64(off), int64(n)))
		h.fit(off + n)
		clear(h.want[off : off+n])
	case 10:
		h.note("allocate %d at %d", n, off)
		h.ok(h.f.Allocate(h.ctx, 0, int64(off), int64(n)))
		h.fit(off + n)
	case 11:
		h.collapse(off&^4095, (n+4095)&^4095)
	case 12:
		h.insert(off&^4095, (n%20000+4095)&^4095)
	case 13:
		h.copyRange(off, n)
	case 14, 15:
		h.note("sync")
		h.ok(h.f.Sync(h.ctx, false))
	case 16:
		h.note("syncfs")
		h.ok(h.fs.Syncfs(h.ctx))
	case 17:
		h.note("drop caches")
		h.ok(h.fs.DropCaches(h.ctx))
	case 18:
		h.reopen()
	case 19:
		h.note("wait")
		time.Sleep(time.Duration(h.rnd.IntN(3)) * time.Millisecond)
	default:
		h.check(off, n)
	}
}

func (h *fileHistory) collapse(off, n int) {
	h.note("collapse %d at %d", n, off)
	err := h.f.Allocate(h.ctx, vfs.AllocCollapse, int64(off), int64(n))
	if off+n >= len(h.want) {
		h.fails(fsapi.Invalid, err)
		return
	}
	h.ok(err)
	h.want = append(h.want[:off:off], h.want[off+n:]...)
}

func (h *fileHistory) insert(off, n int) {
	h.note("insert %d at %d", n, off)
	if len(h.want)+n > 2*h.max {
		return
	}
	err := h.f.Allocate(h.ctx, vfs.AllocInsert, int64(off), int64(n))
	if off >= len(h.want) {
		h.fails(fsapi.Invalid, err)
		return
	}
	h.ok(err)
	h.want = append(h.want[:off:off], append(make([]byte, n), h.want[off:]...)...)
}

func (h *fileHistory) copyRange(off, n int) {
	to := h.rnd.IntN(h.max)
	n = min(n, len(h.want)-off)
	if n <= 0 || off < to+n && to < off+n {
		return
	}
	h.note("copy %d from %d to %d", n, off, to)
	for done := 0; done < n; {
		k, err := h.f.CopyRange(h.ctx, int64(off+done), h.f, int64(to+done), int64(n-done))
		h.ok(err)
		done += int(k)
	}
	h.fit(to + n)
	copy(h.want[to:], h.want[off:off+n])
}

func (h *fileHistory) reopen() {
	h.note("reopen")
	h.ok(h.f.Close())
	h.ok(h.fs.Close(h.ctx))
	h.open(h.opts)
	f, err := h.fs.Open(h.ctx, fsapi.Root, h.ino, rw)
	h.ok(err)
	h.f = f
	h.check(0, 3*h.max)
}

func TestFileHistories(t *testing.T) {
	runs, steps := 12, 400
	if os.Getenv("STRAKE_LONG") != "" {
		runs, steps = 400, 3000
	}
	for run := range runs {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			h := &fileHistory{rnd: rand.New(rand.NewPCG(uint64(run), 7)), max: []int{40_000, 300_000, 3 << 20}[run%3]}
			h.opts = func(o *vfs.Options) {
				o.FlushAge = time.Millisecond
				o.Segment = []int64{200_000, 1 << 20}[run%2]
				o.Nodes = 1
			}
			h.rig = newRig(t, rigOptions{options: h.opts, policy: func(p *policy.Policy) {
				if run%4 == 1 {
					p.Chunking = policy.Chunking{Fixed: 64 << 10}
				} else {
					p.Chunking = policy.Chunking{Min: 2 << 10, Avg: 8 << 10, Max: 32 << 10}
				}
			}})
			h.f = h.create("f")
			h.ino = h.f.Ino()
			for i := range steps {
				h.step(run*steps + i)
			}
			h.check(0, 3*h.max)
			h.reopen()
			h.ok(h.f.Close())
		})
	}
}
