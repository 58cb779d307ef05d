package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/drive"
)

// metered counts the bytes that are written to a drive and read from it.
type metered struct {
	drive.Drive
	bytes *atomic.Int64
}

var _ drive.BatchDeleter = metered{}

// meter has drives count into bytes.
func meter(drives []drive.Drive, bytes *atomic.Int64) []drive.Drive {
	list := make([]drive.Drive, len(drives))
	for i, d := range drives {
		list[i] = metered{d, bytes}
	}
	return list
}

// Create implements drive.Drive.
func (m metered) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	w, err := m.Drive.Create(ctx, name, size)
	if err != nil {
		return nil, err
	}
	return meteredWriter{w, m.bytes}, nil
}

// ReadAt implements drive.Drive.
func (m metered) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	n, err := m.Drive.ReadAt(ctx, name, off, p)
	m.bytes.Add(int64(n))
	return n, err
}

// DeleteMany implements drive.BatchDeleter.
func (m metered) DeleteMany(ctx context.Context, names []string) error {
	return drive.DeleteMany(ctx, m.Drive, names)
}

type meteredWriter struct {
	drive.Writer
	bytes *atomic.Int64
}

// Write implements drive.Writer.
func (w meteredWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.bytes.Add(int64(n))
	return n, err
}

// reportEvery is how often long work on the metadata says how far it is.
const reportEvery = 200 * time.Millisecond

// reporting does work which counts bytes, and says meanwhile, and once at the end,
// how many. report is called by one goroutine at a time; its error ends the work.
func reporting(ctx context.Context, report func(bytes int64) error, work func(ctx context.Context, bytes *atomic.Int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var bytes atomic.Int64
	var said error // before reports has ended
	done := make(chan struct{})
	var reports sync.WaitGroup
	reports.Go(func() {
		for said == nil {
			select {
			case <-done:
				return
			case <-time.After(reportEvery):
				said = report(bytes.Load())
			}
		}
		cancel()
	})
	err := work(ctx, &bytes)
	close(done)
	reports.Wait()
	if err == nil && said == nil {
		said = report(bytes.Load())
	}
	return errors.Join(said, err)
}
