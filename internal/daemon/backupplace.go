package daemon

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/bucket"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/url"
	"github.com/strakefs/strake/internal/osfs"
)

// openBackup opens a place that takes copies of the metadata and nothing else: a
// directory or what a URL names, under the deadlines of a drive of its kind. A
// drive is refused. With an owner the place must belong to it, and is made where
// there is nothing; without one it is only read.
func openBackup(ctx context.Context, fs osfs.FS, where string, owner *identity.Owner) (drive.Drive, error) {
	rec := meta.DriveRecord{Kind: dirKind}
	open := openBackupDir
	if isURL(where) {
		rec.Kind = bucketKind
		open = openBackupBucket
	} else if !filepath.IsAbs(where) {
		return nil, fsapi.Errorf(fsapi.Invalid, "place of backups %q is neither an absolute path nor the URL of a bucket", where)
	}
	d, err := open(ctx, fs, where, owner)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.KindOf(err), "open %s for backups of metadata: %w", where, err)
	}
	return &placed{Drive: watch.New(d, patience(rec, nil)), where: where}, nil
}

func openBackupDir(_ context.Context, fs osfs.FS, where string, owner *identity.Owner) (drive.Drive, error) {
	if _, err := dir.ReadIdentity(fs, where); owner != nil && errors.Is(err, fsapi.NotExist) {
		if err := dir.Init(fs, where, identity.Identity{ID: newDriveID(), Created: owner.Since, Role: identity.Backup}); err != nil {
			return nil, err
		}
	}
	d, err := dir.Open(dir.Options{FS: fs, Path: where, Name: where, Role: identity.Backup, Owner: owner})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openBackupBucket(ctx context.Context, _ osfs.FS, where string, owner *identity.Owner) (_ drive.Drive, err error) {
	store, err := url.All().Open(ctx, where, url.Secrets{}, provider.Options{})
	if err != nil {
		return nil, err
	}
	d, err := openBackupStore(ctx, store, where, owner)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return d, nil
}

func openBackupStore(ctx context.Context, store object.Store, where string, owner *identity.Owner) (*bucket.Drive, error) {
	if _, err := bucket.ReadIdentity(ctx, store); owner != nil && errors.Is(err, fsapi.NotExist) {
		if err := bucket.Init(ctx, store, identity.Identity{ID: newDriveID(), Created: owner.Since, Role: identity.Backup}); err != nil {
			return nil, err
		}
	}
	return bucket.Open(ctx, bucket.Options{Store: store, Name: where, Role: identity.Backup, Owner: owner})
}
