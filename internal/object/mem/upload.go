package mem

import (
	"bytes"
	"context"
	"io"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// upload is an object on its way in parts.
type upload struct {
	b     *Bucket
	key   string
	opts  provider.PutOptions
	parts map[int][]byte // guarded by Bucket.mu
}

// Begin implements provider.API.
func (b *Bucket) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	u := &upload{b: b, key: key, opts: o, parts: map[int][]byte{}}
	return u, b.do(ctx, Request{Begin, key, 0}, func() error {
		b.uploads[u] = struct{}{}
		return nil
	})
}

// Part implements provider.Upload.
func (u *upload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "read part: %w", err)
	}
	return u.do(ctx, Request{Part, u.key, len(data)}, func() error {
		u.parts[n] = data
		return nil
	})
}

// do is Bucket.do while the upload is there.
func (u *upload) do(ctx context.Context, r Request, act func() error) error {
	return u.b.do(ctx, r, func() error {
		if _, ok := u.b.uploads[u]; !ok {
			return fsapi.Errorf(fsapi.NotExist, "no such upload")
		}
		return act()
	})
}

// Complete implements provider.Upload.
func (u *upload) Complete(ctx context.Context, n int) (v object.Version, err error) {
	err = u.do(ctx, Request{Complete, u.key, 0}, func() error {
		var whole bytes.Buffer
		for i := range n {
			if part, ok := u.parts[i]; !ok || i < n-1 && int64(len(part)) < u.b.opts.MinPart {
				return fsapi.Errorf(fsapi.Invalid, "part %d is missing or too small", i)
			}
			whole.Write(u.parts[i])
		}
		if v, err = u.b.set(u.key, whole.Bytes(), u.opts, u.b.opts.IgnoreInParts); err != nil {
			return err
		}
		delete(u.b.uploads, u)
		return nil
	})
	return v, err
}

// Abort implements provider.Upload.
func (u *upload) Abort(ctx context.Context) error {
	return u.do(ctx, Request{Abort, u.key, 0}, func() error {
		delete(u.b.uploads, u)
		return nil
	})
}
