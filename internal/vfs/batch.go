package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
)

// Batch implements FS.
func (fs *Local) Batch(ctx context.Context, c *fsapi.Cred, ops []Op) ([]fsapi.Attr, error) {
	return nil, fsapi.Errorf(fsapi.NotSupported, "batch")
}
