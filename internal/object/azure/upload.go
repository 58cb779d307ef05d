package azure

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// upload is a list of blocks to be. There is no beginning and no giving up:
// blocks that no list names are dropped by the provider with the next write of
// their blob, or after a week.
type upload struct {
	b    *bucket
	key  string
	opts provider.PutOptions
}

// Begin implements provider.API.
func (b *bucket) Begin(_ context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	return &upload{b: b, key: key, opts: o}, nil
}

// id is the id of a block. All of a blob are equally long, and no two uploads
// share one.
func (u *upload) id(n int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%06d", u.opts.Mark, n))
}

// Part implements provider.Upload.
func (u *upload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	_, err := u.b.client.NewBlockBlobClient(u.key).StageBlock(ctx, u.id(n), streaming.NopCloser(body), nil)
	return kindedWrite(err, object.Condition{})
}

// Complete implements provider.Upload.
func (u *upload) Complete(ctx context.Context, n int) (object.Version, error) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = u.id(i)
	}
	out, err := u.b.client.NewBlockBlobClient(u.key).CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
		Metadata: metadata(u.opts), Tier: u.b.tier(), AccessConditions: conditions(u.opts.Cond),
	})
	if err != nil {
		return "", kindedWrite(err, u.opts.Cond)
	}
	return object.Version(unquoted(value(out.ETag))), nil
}

// Abort implements provider.Upload.
func (u *upload) Abort(context.Context) error { return nil }
