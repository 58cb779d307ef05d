package daemon

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
)

// lawful is a drive from which nothing is deleted once another machine has taken
// the store over: what this one's metadata does not know may be the other's. It
// asks after the drive was listed, so that what was listed then is not of a
// machine that took over later.
type lawful struct {
	drive.Drive
	fence func(ctx context.Context) error // fsapi.Fenced: another has taken over
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
