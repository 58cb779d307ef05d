package daemon

import (
	"io"
	"sync"

	"github.com/strakefs/strake/internal/vfs/trace"
)

// logReader is .strake/accesslog: the calls from the time it was opened.
type logReader struct {
	lines <-chan string
	rest  string
	stop  func()
	done  chan struct{}
	once  sync.Once
}

func newLogReader(l *trace.Log) *logReader {
	lines, stop := l.Subscribe()
	return &logReader{lines: lines, stop: stop, done: make(chan struct{})}
}

// Read waits for a line, then takes as many as there are.
func (r *logReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if r.rest == "" {
			if n > 0 {
				select {
				case r.rest = <-r.lines:
				default:
					return n, nil
				}
			} else {
				select {
				case r.rest = <-r.lines:
				case <-r.done:
					return 0, io.EOF
				}
			}
		}
		c := copy(p[n:], r.rest)
		r.rest = r.rest[c:]
		n += c
	}
	return n, nil
}

// Close ends a waiting Read.
func (r *logReader) Close() error {
	r.once.Do(func() {
		r.stop()
		close(r.done)
	})
	return nil
}
