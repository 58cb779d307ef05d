// Package lawful keeps a process that was replaced from deleting what its
// replacement may need.
//
// It owns: that nothing is deleted unless the process still has the store. It must
// not know how that is found out.
package lawful

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
)

// Fence is fsapi.Fenced where another process has taken the store over; nil: none
// had when it was called. Concurrent.
type Fence func(ctx context.Context) error

// New is a drive from which nothing is deleted once another process has taken the
// store over: what this one's metadata does not know may be the other's. It asks
// after the drive was listed, so that what was listed then is not of a process that
// took over later.
func New(d drive.Drive, fence Fence) drive.Drive { return lawful{d, fence} }

type lawful struct {
	drive.Drive
	fence Fence
}

var (
	_ drive.Drive        = lawful{}
	_ drive.BatchDeleter = lawful{}
	_ drive.Streamer     = lawful{}
)

// Unwrap is the drive below.
func (d lawful) Unwrap() drive.Drive { return d.Drive }

// Stream implements drive.Streamer.
func (d lawful) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	return drive.OpenStream(ctx, d.Drive, name, off, n)
}

// Delete implements drive.Drive.
func (d lawful) Delete(ctx context.Context, name string) error {
	if err := d.fence(ctx); err != nil {
		return err
	}
	return d.Drive.Delete(ctx, name)
}

// DeleteMany implements drive.BatchDeleter.
func (d lawful) DeleteMany(ctx context.Context, names []string) error {
	if err := d.fence(ctx); err != nil {
		return err
	}
	return drive.DeleteMany(ctx, d.Drive, names)
}
