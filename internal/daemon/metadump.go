package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
)

// MetaDump writes all metadata of a store that no server has open, as lines of
// JSON. Nothing in it is encrypted: names, sizes and small files can be read.
func MetaDump(ctx context.Context, cfg config.Config, w io.Writer) error {
	return withNode(ctx, cfg, func(n *Node) error { return n.meta.Dump(ctx, w) })
}

// MetaDumpFile is MetaDump into a new file that only its owner can read, durably.
// One that failed is removed.
func MetaDumpFile(ctx context.Context, cfg config.Config, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fsapi.Wrap(fsapi.IO, err, "make the dump "+path)
	}
	err = MetaDump(ctx, cfg, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// MetaLoad fills a data directory that has its keyring and no metadata from a
// dump. fsapi.Exist where it has metadata. After a failure the part that was
// loaded does not open as a store: remove it.
func MetaLoad(ctx context.Context, cfg config.Config, in io.Reader) (err error) {
	n := &Node{cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: slog.New(slog.DiscardHandler)}
	made, err := n.at.exists(n.fs)
	if err != nil {
		return fsapi.Wrap(fsapi.IO, err, "look into data directory "+n.at.dir)
	}
	if !made {
		return fsapi.Errorf(fsapi.NotExist, "%s has no keyring, without which what is loaded could not be read: copy the store's own there first (drives have it as meta/keyring)", n.at.dir)
	}
	lock, err := n.at.take(n.fs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	e, err := n.pebble(ctx)
	if err != nil {
		return err
	}
	return errors.Join(meta.Load(ctx, e, in), e.Close())
}
