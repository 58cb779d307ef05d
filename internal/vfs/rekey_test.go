package vfs_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/vfs"
)

// turning are data keys of which there is a second version from turn on.
type turning struct {
	blobtest.Keys
	turned atomic.Bool
}

func (k *turning) Current(fsapi.VolumeID) (fsapi.KeyVersion, fsapi.Cipher, error) {
	if k.turned.Load() {
		return 2, k.Cipher, nil
	}
	return 1, k.Cipher, nil
}

func (k *turning) DataKey(vol fsapi.VolumeID, v fsapi.KeyVersion) ([]byte, error) {
	p, err := k.Keys.DataKey(vol, 1)
	if err == nil && v == 2 {
		p[0] ^= 1
	}
	return p, err
}

// forgetful opens no frame whose key is gone: a store whose cache of keys has none
// of it any more.
type forgetful struct {
	vfs.Blob
	first atomic.Uint32 // version of the oldest key there is
}

func (b *forgetful) ReadExtent(ctx context.Context, vol fsapi.VolumeID, e *fsapi.Extent, off int64, p []byte) error {
	if v, err := blob.FrameVersion(e.Inline); err == nil && uint32(v) < b.first.Load() {
		return fsapi.Errorf(fsapi.IO, "find the key of the frame: there is no version %d", v)
	}
	return b.Blob.ReadExtent(ctx, vol, e, off, p)
}

// A small file whose extent is in memory is read still when it has been sealed with
// another key and the old one is gone; so is one of a snapshot that is open.
func TestSmallFilesOutliveTheirKey(t *testing.T) {
	keys := &turning{Keys: blobtest.Keys{Cipher: fsapi.CipherAES256GCM}}
	store := &forgetful{}
	r := newRig(t, rigOptions{keys: keys, options: func(o *vfs.Options) {
		store.Blob = o.Blob
		o.Blob = store
	}})
	data := []byte("small enough to lie with its inode")
	r.put("f", data)
	r.ok(r.fs.Syncfs(r.ctx))
	r.snapshot("s")
	var open []vfs.File
	for _, p := range []string{"f", ".strake/snapshots/s/f"} {
		f, err := r.fs.Open(r.ctx, fsapi.Root, r.path(p).Ino, vfs.OpenRead)
		r.ok(err)
		r.wants(f, data) // its extent is in memory
		open = append(open, f)
	}
	keys.turned.Store(true)
	list, _, _, err := r.meta.InlineFrames(r.ctx, r.vol.ID, meta.InlineAt{}, 100)
	r.ok(err)
	if len(list) == 0 {
		t.Fatal("nothing is inline")
	}
	for i := range list {
		var ok bool
		list[i].Fresh, ok, err = r.blob.Reseal(r.vol.ID, list[i].Chunk, list[i].Frame)
		r.ok(err)
		if !ok {
			t.Error("it is not sealed anew")
		}
	}
	_, err = r.meta.ReplaceInline(r.ctx, r.vol.ID, list)
	r.ok(err)
	store.first.Store(2)
	for _, f := range open {
		r.wants(f, data)
		r.ok(f.Close())
	}
}
