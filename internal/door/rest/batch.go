package rest

import (
	"context"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

var opKinds = map[string]vfs.OpKind{
	"mkdir": vfs.OpMkdir, "put": vfs.OpPut, "remove": vfs.OpRemove, "rename": vfs.OpRename,
	"link": vfs.OpLink, "setattr": vfs.OpSetattr, "symlink": vfs.OpSymlink,
	"mknod": vfs.OpMknod,
}

// batch does all operations in one transaction and answers when it is durable.
func (d *Door) batch(ctx context.Context, req api.Batch) (api.BatchResult, error) {
	var res api.BatchResult
	fs, _, err := d.o.Volumes.Volume(req.Volume)
	if err != nil {
		return res, err
	}
	if len(req.Ops) == 0 {
		return res, fsapi.Errorf(fsapi.Invalid, "ops is empty: a batch has at least one operation")
	}
	ops := make([]vfs.Op, len(req.Ops))
	for i := range req.Ops {
		if ops[i], err = opOf(&req.Ops[i]); err != nil {
			return res, fsapi.Errorf(fsapi.KindOf(err), "ops[%d]: %w", i, err)
		}
	}
	attrs, err := fs.Batch(ctx, cred, ops)
	if err != nil {
		return res, err
	}
	if err := syncRoot(ctx, fs); err != nil {
		return res, err
	}
	for i := range attrs {
		m := metaOf(lastName(ops[i].Path), &attrs[i])
		m.Path = req.Ops[i].Path
		res.Results = append(res.Results, m)
	}
	return res, nil
}

// syncRoot makes every namespace change committed so far durable: they share
// one log.
func syncRoot(ctx context.Context, fs vfs.FS) error {
	dh, err := fs.OpenDir(ctx, cred, fsapi.RootIno)
	if err != nil {
		return err
	}
	defer dh.Close()
	return dh.Sync(ctx)
}

func opOf(b *api.BatchOp) (vfs.Op, error) {
	kind, ok := opKinds[b.Op]
	if !ok {
		return vfs.Op{}, fsapi.Errorf(fsapi.Invalid, "op %q is not one of mkdir put remove rename link setattr symlink mknod", b.Op)
	}
	op := vfs.Op{
		Kind: kind, Path: b.Path, To: b.To, Target: b.Target, Data: b.Data, Parents: b.Parents, IfAbsent: b.IfAbsent,
		Set: vfs.SetAttr{Uid: b.Uid, Gid: b.Gid, Size: b.Size, Mtime: b.Mtime, Atime: b.Atime},
	}
	for _, raw := range []struct {
		bytes []byte
		text  *string
	}{{b.RawPath, &op.Path}, {b.RawTo, &op.To}, {b.RawTarget, &op.Target}} {
		if len(raw.bytes) > 0 {
			*raw.text = string(raw.bytes)
		}
	}
	if kind == vfs.OpMknod {
		if op.Type, op.Rdev = typeNamed(b.Type), b.Rdev; op.Type == 0 {
			return op, fsapi.Errorf(fsapi.Invalid, "type %q is not one of chardev blockdev fifo socket", b.Type)
		}
	}
	if b.Mode != nil {
		op.Mode = *b.Mode
	}
	if kind == vfs.OpSetattr {
		op.Set.Mode = b.Mode
	}
	if b.IfMatch != "" {
		if op.IfIno, op.IfChange, ok = parseETag(b.IfMatch); !ok {
			return op, fsapi.Errorf(fsapi.Invalid, "if_match %q is not an etag of ours", b.IfMatch)
		}
	}
	return op, nil
}
