package drive

import (
	"context"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
)

// Streamer is a Drive that gives a long range as it arrives.
type Streamer interface {
	// Stream starts reading n bytes of a blob from off, n being above 0. ctx holds
	// for the Stream. fsapi.NotSupported: it cannot; use ReadAt.
	Stream(ctx context.Context, name string, off, n int64) (Stream, error)
}

// Stream gives a range of a blob from its start to its end. One goroutine at a
// time.
type Stream interface {
	// Next is the next n bytes, which are the caller's to read and to change until
	// the next call. Fewer come with io.EOF, of a blob that ends before. After an
	// error the stream is done.
	Next(n int) ([]byte, error)
	// Close ends the stream, and with it the use of what Next gave. It may be
	// called again.
	Close()
}

// OpenStream is d's own Stream, or fsapi.NotSupported where it has none.
func OpenStream(ctx context.Context, d Drive, name string, off, n int64) (Stream, error) {
	if s, ok := d.(Streamer); ok {
		return s.Stream(ctx, name, off, n)
	}
	return nil, fsapi.Errorf(fsapi.NotSupported, "drive %s does not stream", d.Info().Name)
}

// Held is a stream of bytes that have been read. release, called once, at Close,
// takes their memory back.
func Held(p []byte, release func()) Stream { return &held{p, release} }

type held struct {
	rest    []byte
	release func() // nil once closed
}

// Next implements Stream.
func (h *held) Next(n int) (p []byte, err error) {
	if n > len(h.rest) {
		n, err = len(h.rest), io.EOF
	}
	p, h.rest = h.rest[:n:n], h.rest[n:]
	return p, err
}

// Close implements Stream.
func (h *held) Close() {
	if h.release != nil {
		h.release()
		h.rest, h.release = nil, nil
	}
}
