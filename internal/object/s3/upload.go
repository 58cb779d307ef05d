package s3

import (
	"context"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// upload is a multipart upload.
type upload struct {
	b    *bucket
	key  string
	id   *string
	cond object.Condition
	sums bool // the service takes checksums of the parts

	mu    sync.Mutex
	parts map[int]types.CompletedPart // guarded by mu
}

// Begin implements provider.API. Conditions are for the end.
func (b *bucket) Begin(ctx context.Context, key string, o provider.PutOptions) (u provider.Upload, err error) {
	algorithm := b.checks.algorithm()
	if u, err = b.begin(ctx, key, o, algorithm); algorithm != "" {
		err = b.checks.without(err, func() (err error) {
			u, err = b.begin(ctx, key, o, "")
			return err
		})
	}
	return u, err
}

// begin is Begin of an upload that is checked by an algorithm; empty: by none.
func (b *bucket) begin(ctx context.Context, key string, o provider.PutOptions, algorithm types.ChecksumAlgorithm) (provider.Upload, error) {
	out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.name, Key: &key, StorageClass: types.StorageClass(b.traits.Class),
		Metadata:          map[string]string{markName: string(o.Mark)},
		ChecksumAlgorithm: algorithm,
	})
	if err != nil {
		return nil, kinded(err)
	}
	return &upload{
		b: b, key: key, id: out.UploadId, cond: o.Cond, parts: map[int]types.CompletedPart{},
		sums: algorithm != "" && out.ChecksumAlgorithm == algorithm,
	}, nil
}

// number is S3's of a part: they begin at 1.
func number(n int) *int32 { return aws.Int32(int32(n) + 1) } //nolint:gosec // below 10,000

// Part implements provider.Upload.
func (u *upload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	in := &s3.UploadPartInput{
		Bucket: &u.b.name, Key: &u.key, UploadId: u.id, PartNumber: number(n),
		Body: body, ContentLength: aws.Int64(body.Size()),
	}
	if u.sums {
		var err error
		if in.ChecksumCRC32C, err = u.b.checks.sum(body); err != nil {
			return err
		}
	}
	out, err := u.b.client.UploadPart(ctx, in, u.b.checks.options(in.ChecksumCRC32C)...)
	if err != nil {
		return kinded(err)
	}
	u.b.checks.learn(in.ChecksumCRC32C, out.ChecksumCRC32C)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts[n] = types.CompletedPart{PartNumber: in.PartNumber, ETag: out.ETag, ChecksumCRC32C: in.ChecksumCRC32C}
	return nil
}

// Complete implements provider.Upload.
func (u *upload) Complete(ctx context.Context, n int) (object.Version, error) {
	parts := make([]types.CompletedPart, n)
	u.mu.Lock()
	for i := range parts {
		parts[i] = u.parts[i]
	}
	u.mu.Unlock()
	none, match := conditions(u.cond)
	out, err := u.b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.b.name, Key: &u.key, UploadId: u.id, IfNoneMatch: none, IfMatch: match,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		return "", kindedWrite(err, u.cond)
	}
	return version(out.ETag), nil
}

// Abort implements provider.Upload.
func (u *upload) Abort(ctx context.Context) error {
	_, err := u.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.b.name, Key: &u.key, UploadId: u.id})
	return kinded(err)
}
