package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/sealed"
)

// MetaDump writes all metadata of a store that no server has open, as lines of
// JSON, in which names, sizes and small files can be read; or, encrypted, as a
// sealed file of such lines.
func MetaDump(ctx context.Context, cfg config.Config, req api.MetaDump, w io.Writer) error {
	return withNode(ctx, cfg, func(n *Node) error { return n.dumpMeta(ctx, req, w) })
}

// dumpMeta writes the metadata as of one moment, with all that was written before.
func (n *Node) dumpMeta(ctx context.Context, req api.MetaDump, w io.Writer) error {
	for _, v := range n.volumes.all() {
		if err := v.local.Syncfs(ctx); err != nil {
			return err
		}
	}
	if !req.Encrypt {
		return n.meta.Dump(ctx, w)
	}
	s, err := sealed.NewWriter(w, n.keys.StoreKey(), n.keys.Bytes())
	if err != nil {
		return err
	}
	if err := n.meta.Dump(ctx, s); err != nil {
		return err
	}
	return s.Close()
}

// MetaBackup brings all metadata of a store that no server has open to a place. The
// last event has End and says what came of it.
func MetaBackup(ctx context.Context, cfg config.Config, req api.MetaBackup, emit func(api.MetaBackupEvent) error) error {
	return withNode(ctx, cfg, func(n *Node) error { return n.backupMeta(ctx, req, emit) })
}

// MetaLoad fills a data directory, or a bucket that is to hold everything, that
// has no metadata from a dump. An encrypted dump brings the keyring; for a plain
// one it must be in the data directory. ask asks a person for the password, as in
// Rebuilding. fsapi.Exist where there is metadata.
func MetaLoad(ctx context.Context, cfg config.Config, in io.Reader, ask func() ([]byte, error)) (err error) {
	r, err := newRebuild(cfg, ask, func(api.FsckEvent) error { return nil })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	buf := bufio.NewReaderSize(in, 1<<16)
	head, err := buf.Peek(len(sealed.Magic))
	if err != nil && !errors.Is(err, io.EOF) {
		return fsapi.Wrap(fsapi.KindOf(err), err, "read the dump")
	}
	lock, err := r.at.take(r.fs)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, lock.Close)
	if err := r.refuseMeta(); err != nil {
		return err
	}
	lines := io.Reader(buf)
	if string(head) == sealed.Magic {
		lines, err = r.unseal(ctx, buf)
	} else {
		err = r.wantKeyring(ctx)
	}
	if err != nil {
		return err
	}
	t := r.target(false)
	if err := r.brought(ctx, t, func(e kv.Engine) error {
		if err := meta.Load(ctx, e, lines); err != nil {
			return err
		}
		return disown(ctx, e)
	}); err != nil {
		return err
	}
	_, err = t.commit(ctx)
	return err
}

// unseal opens an encrypted dump, with the keyring of the data directory or, where
// it has none or is only a cache, with the one in the dump, which it gets.
func (r *rebuild) unseal(ctx context.Context, in io.Reader) (io.Reader, error) {
	dump, err := sealed.Open(in)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, "read the dump")
	}
	made, err := r.at.exists(r.fs)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "look into data directory "+r.at.dir)
	}
	if !made || r.cfg.Engine.Bucket() {
		if err := r.putKeyring(dump.Keyring()); err != nil {
			return nil, err
		}
	}
	if err := r.openKeyring(ctx); err != nil {
		return nil, err
	}
	dump.Unlock(r.keys.StoreKey())
	return dump, nil
}

// wantKeyring refuses a plain dump where what is loaded could not be read, and
// opens the keyring where the target needs it.
func (r *rebuild) wantKeyring(ctx context.Context) error {
	made, err := r.at.exists(r.fs)
	switch {
	case err != nil:
		return fsapi.Wrap(fsapi.IO, err, "look into data directory "+r.at.dir)
	case !made:
		return fsapi.Errorf(fsapi.NotExist, "%s has no keyring, without which what is loaded could not be read: copy the store's own there first (drives have it as meta/keyring), or load an encrypted dump, which brings it", r.at.dir)
	case r.cfg.Engine.Bucket():
		return r.openKeyring(ctx)
	}
	return nil
}
