package bucket

import (
	"context"
	"io"
	"sync"

	"github.com/strakefs/strake/internal/drive"
)

// stream is a part of a blob as the provider sends it. It goes through one small
// buffer, which a processor's cache holds, so that what is done with the bytes does
// not read them from memory again.
type stream struct {
	d    *Drive
	name string
	body io.ReadCloser
	pool *sync.Pool
	buf  *[]byte // nil once closed
}

// Stream implements drive.Streamer.
func (d *Drive) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	if err := d.check(ctx, "read", name); err != nil {
		return nil, err
	}
	body, _, err := d.store.Open(ctx, name, off, n)
	if err != nil {
		return nil, d.fail(err, "read", name)
	}
	buf, ok := d.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	return &stream{d: d, name: name, body: body, pool: &d.buffers, buf: buf}, nil
}

// Next implements drive.Stream.
func (s *stream) Next(n int) ([]byte, error) {
	if cap(*s.buf) < n {
		*s.buf = make([]byte, n+n/4)
	}
	p := (*s.buf)[:n]
	k, err := io.ReadFull(s.body, p)
	if err == io.ErrUnexpectedEOF { // the blob's end; a connection's comes wrapped
		err = io.EOF
	}
	return p[:k], s.d.fail(err, "read", s.name)
}

// Close implements drive.Stream.
func (s *stream) Close() {
	if s.buf == nil {
		return
	}
	_ = s.body.Close() // what was read was read
	s.pool.Put(s.buf)
	s.buf = nil
}
