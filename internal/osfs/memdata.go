package osfs

import (
	"slices"
	"syscall"
)

// blockSize is the unit of copy-on-write in bytes, sectorSize what a disk
// writes whole.
const (
	blockSize  = 4096
	sectorSize = 512
)

// block is a piece of a file. Once frozen it never changes again: it is part of
// a durable image or of another Mem. frozen goes from false to true only, under
// the lock of the file that alone holds the block then.
type block struct {
	frozen bool
	b      [blockSize]byte
}

// table is the blocks of a file; nil is zeros. Once shared it never changes
// again; shared is set as block.frozen is.
type table struct {
	shared bool
	blocks []*block
	alloc  int64 // blocks that are not nil
}

// share makes t immutable, so that it may have several owners.
func (t *table) share() *table {
	if !t.shared {
		t.shared = true
		for _, b := range t.blocks {
			if b != nil && !b.frozen {
				b.frozen = true
			}
		}
	}
	return t
}

// owned is t, or a copy of it where t is shared.
func (t *table) owned() *table {
	if !t.shared {
		return t
	}
	return &table{blocks: slices.Clone(t.blocks), alloc: t.alloc}
}

// set puts b at index i, growing the table.
func (t *table) set(i int64, b *block) {
	if grow := i + 1 - int64(len(t.blocks)); grow > 0 {
		t.blocks = append(t.blocks, make([]*block, grow)...)
	}
	if t.blocks[i] == nil && b != nil {
		t.alloc++
	} else if t.blocks[i] != nil && b == nil {
		t.alloc--
	}
	t.blocks[i] = b
}

func (t *table) get(i int64) *block {
	if i >= int64(len(t.blocks)) {
		return nil
	}
	return t.blocks[i]
}

// writable is block i, made if missing, copied if frozen.
func (t *table) writable(i int64) *block {
	b := t.get(i)
	if b == nil {
		b = new(block)
		t.set(i, b)
	} else if b.frozen {
		b = &block{b: b.b}
		t.set(i, b)
	}
	return b
}

// write puts p at off. t must be owned.
func (t *table) write(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(t.writable(off / blockSize).b[off%blockSize:], p)
		p, off = p[n:], off+int64(n)
	}
}

// zero clears [off, end) without making blocks that are not there.
func (t *table) zero(off, end int64) {
	end = min(end, int64(len(t.blocks))*blockSize)
	for off < end {
		i, from := off/blockSize, off%blockSize
		to := min(end-i*blockSize, blockSize)
		switch {
		case t.blocks[i] == nil:
		case from == 0 && to == blockSize:
			t.set(i, nil)
		default:
			clear(t.writable(i).b[from:to])
		}
		off = i*blockSize + to
	}
}

// cut drops everything from size on.
func (t *table) cut(size int64) {
	end := int64(len(t.blocks)) * blockSize
	t.zero(size, end)
	if n := (size + blockSize - 1) / blockSize; n < int64(len(t.blocks)) {
		t.blocks = t.blocks[:n]
	}
}

// read fills p from off; holes and what lies past the table are zeros.
func (t *table) read(p []byte, off int64) {
	for len(p) > 0 {
		from := off % blockSize
		n := min(int64(len(p)), blockSize-from)
		if b := t.get(off / blockSize); b != nil {
			copy(p[:n], b.b[from:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// change is one unsynced write or truncation of a file.
type change struct {
	off  int64  // of the write; of the first byte cut off
	end  int64  // of the bytes written or cut off
	data []byte // nil: a truncation
	size int64  // of the file afterwards
}

// content is the bytes of a file: as the program sees them, as a power cut
// leaves them at least, and the changes that lie between.
type content struct {
	live    *table
	size    int64
	durable *table
	synced  int64 // size in durable
	log     []change
}

func newContent() content { return content{live: new(table), durable: new(table)} }

// need is how many blocks a write of n bytes at off would add.
func (c *content) need(off, n int64) (blocks int64) {
	for i := off / blockSize; i*blockSize < off+n; i++ {
		if c.live.get(i) == nil {
			blocks++
		}
	}
	return blocks
}

func (c *content) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.live = c.live.owned()
	c.live.write(p, off)
	end := off + int64(len(p))
	c.size = max(c.size, end)
	c.log = append(c.log, change{off: off, end: end, data: slices.Clone(p), size: c.size})
}

func (c *content) truncate(size int64) {
	if size == c.size {
		return
	}
	old := c.size
	c.live = c.live.owned()
	if size < old {
		c.live.cut(size)
	}
	c.size = size
	c.log = append(c.log, change{off: size, end: max(old, size), size: size})
}

// sync makes the live bytes the durable ones, in time proportional to what
// changed.
func (c *content) sync() {
	if len(c.log) == 0 {
		return
	}
	d := c.durable.owned()
	for i := range c.log {
		ch := &c.log[i]
		last := min(ch.end, max(int64(len(c.live.blocks)), int64(len(d.blocks)))*blockSize)
		for j := ch.off / blockSize; j*blockSize < last; j++ {
			b := c.live.get(j)
			if b != nil && !b.frozen {
				b.frozen = true
			}
			if b != nil || d.get(j) != nil {
				d.set(j, b)
			}
		}
	}
	if len(d.blocks) > len(c.live.blocks) {
		d.blocks = d.blocks[:len(c.live.blocks)]
	}
	c.durable, c.synced, c.log = d, c.size, nil
}

// errNoSpace is what a full Mem answers.
const errNoSpace = syscall.ENOSPC
