package daemon

import (
	"context"
	"strings"

	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/drive"
)

// ownHistory is a drive on which no copy of the metadata is begun that is not known to
// be this store's at that moment. What another store adds for a few seconds after a
// drive was taken over from it harms nobody: it has names and keys of its own. A copy
// of this one has the same, and its batches the same numbers.
func ownHistory(d drive.Drive) drive.Drive {
	if c, ok := d.(drive.Claimed); ok {
		return claimedHistory{d, c}
	}
	return d
}

type claimedHistory struct {
	drive.Drive
	claim drive.Claimed
}

var (
	_ drive.Drive        = claimedHistory{}
	_ drive.BatchDeleter = claimedHistory{}
	_ drive.Streamer     = claimedHistory{}
	_ drive.Claimed      = claimedHistory{}
)

// Unwrap is the drive below.
func (d claimedHistory) Unwrap() drive.Drive { return d.Drive }

// Create implements drive.Drive.
func (d claimedHistory) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	if strings.HasPrefix(name, checkpoint.Prefix) {
		if err := d.claim.Claimed(ctx); err != nil {
			return nil, err
		}
	}
	return d.Drive.Create(ctx, name, size)
}

// Claimed implements drive.Claimed.
func (d claimedHistory) Claimed(ctx context.Context) error { return d.claim.Claimed(ctx) }

// DeleteMany implements drive.BatchDeleter.
func (d claimedHistory) DeleteMany(ctx context.Context, names []string) error {
	return drive.DeleteMany(ctx, d.Drive, names)
}

// Stream implements drive.Streamer.
func (d claimedHistory) Stream(ctx context.Context, name string, off, n int64) (drive.Stream, error) {
	return drive.OpenStream(ctx, d.Drive, name, off, n)
}
