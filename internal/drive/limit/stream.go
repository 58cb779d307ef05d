package limit

import (
	"context"
	"sync"

	"github.com/strakefs/strake/internal/drive"
)

// stream is one call from Stream to Close.
type stream struct {
	drive.Stream
	leave func()
}

var _ drive.Streamer = (*Drive)(nil)

// Stream implements drive.Streamer.
func (d *Drive) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	leave, err := d.enter(ctx, "read", name, d.read, int(n))
	if err != nil {
		return nil, err
	}
	s, err := drive.OpenStream(ctx, d.Drive, name, off, n)
	if err != nil {
		leave()
		return nil, err
	}
	return &stream{s, sync.OnceFunc(leave)}, nil
}

// Close implements drive.Stream.
func (s *stream) Close() {
	s.Stream.Close()
	s.leave()
}
