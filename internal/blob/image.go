package blob

import (
	"context"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/strakefs/strake/internal/blob/slab"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// image is a whole segment in memory: what shards are made from, and what is
// copied to other drives.
type image struct {
	st     *Store
	blocks []imageBlock
	size   int64
	end    func()       // after the memory was given back
	lent   atomic.Int32 // blocks that writers of drives may be reading
}

// imageBlock is a piece of an image.
type imageBlock struct {
	off int64
	buf *slab.Buf
	n   int // bytes of buf that count
}

// append takes a buffer of which n bytes are the segment's next.
func (m *image) append(buf *slab.Buf, n int) {
	m.blocks = append(m.blocks, imageBlock{m.size, buf, n})
	m.size += int64(n)
}

// ReadAt is io.ReaderAt's.
func (m *image) ReadAt(p []byte, off int64) (n int, err error) {
	i, found := slices.BinarySearchFunc(m.blocks, off, func(b imageBlock, off int64) int { return int(b.off - off) })
	if !found {
		i--
	}
	for ; i >= 0 && i < len(m.blocks) && n < len(p); i++ {
		b := &m.blocks[i]
		n += copy(p[n:], b.buf.B[min(off+int64(n)-b.off, int64(b.n)):b.n])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// write writes the image to a drive, which reads the image's own memory.
func (m *image) write(w drive.Writer) error {
	for _, b := range m.blocks {
		m.lent.Add(1)
		if err := drive.Give(w, b.buf.B[:b.n], func() { m.lent.Add(-1) }); err != nil {
			return err
		}
	}
	return nil
}

// free gives the memory back, unless a call that was left behind may be reading it.
func (m *image) free() {
	if m.lent.Load() == 0 {
		for _, b := range m.blocks {
			m.st.pool.Put(b.buf)
		}
	}
	m.blocks = nil
	m.end()
}

// newImage is an image for a segment that exists: there are few at a time. Free
// it.
func (s *Store) newImage(ctx context.Context) (*image, error) {
	select {
	case s.images <- struct{}{}:
		return &image{st: s, end: func() { <-s.images }}, nil
	case <-ctx.Done():
		return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), ctx.Err(), "wait for memory")
	}
}

// fill reads a segment of size bytes into the image, by read, which may be
// called concurrently.
func (m *image) fill(size int64, read func(off int64, p []byte) error) error {
	for m.size < size {
		n := int(min(size-m.size, blockSize))
		m.append(m.st.pool.Get(n), n)
	}
	var g errgroup.Group
	g.SetLimit(imageReads)
	for i := range m.blocks {
		b := &m.blocks[i]
		g.Go(func() error { return read(b.off, b.buf.B[:b.n]) })
	}
	return g.Wait()
}

// imageReads is how many blocks of an image are read at a time.
const imageReads = 4
