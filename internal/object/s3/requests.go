package s3

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// markName is the user metadata that carries a provider.Mark.
const markName = "strake-mark"

// Get implements provider.API.
func (b *bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.name, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1)),
	})
	if code(err) == "InvalidRange" { // at or beyond the end
		o, _, err := b.Head(ctx, key)
		return nil, o, err
	}
	if err != nil {
		return nil, object.Object{}, kinded(err)
	}
	o := object.Object{Key: key, Size: total(out), Modified: aws.ToTime(out.LastModified), Version: version(out.ETag)}
	if o.Version == "" || o.Size < off {
		out.Body.Close() // what it says is not wanted
		return nil, o, fsapi.Errorf(fsapi.IO, "the answer lacks a valid ETag or Content-Range")
	}
	return out.Body, o, nil
}

// total is the size of the whole object, from "bytes 0-9/100".
func total(out *s3.GetObjectOutput) int64 {
	if _, size, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(size, 10, 64); err == nil {
			return n
		}
	}
	return aws.ToInt64(out.ContentLength)
}

// version keeps an ETag as the provider wrote it, quotes included.
func version(etag *string) object.Version { return object.Version(aws.ToString(etag)) }

// Head implements provider.API.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, provider.Mark, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return object.Object{}, "", kinded(err)
	}
	o := object.Object{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), Version: version(out.ETag)}
	return o, provider.Mark(out.Metadata[markName]), nil
}

// conditions are a condition as headers: If-None-Match and If-Match.
func conditions(c object.Condition) (none, match *string) {
	if c.Absent() {
		none = aws.String("*")
	}
	if v := c.Version(); v != "" {
		match = aws.String(string(v))
	}
	return none, match
}

// Put implements provider.API.
func (b *bucket) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (v object.Version, err error) {
	sum, err := b.checks.sum(body)
	if err != nil {
		return "", err
	}
	if v, err = b.put(ctx, key, body, o, sum); sum != nil {
		err = b.checks.without(err, func() (err error) {
			v, err = b.put(ctx, key, io.NewSectionReader(body, 0, body.Size()), o, nil)
			return err
		})
	}
	return v, err
}

// put is Put with the body's checksum; nil: without one.
func (b *bucket) put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions, sum *string) (object.Version, error) {
	none, match := conditions(o.Cond)
	out, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: &key, Body: body, ContentLength: aws.Int64(body.Size()), ChecksumCRC32C: sum,
		IfNoneMatch: none, IfMatch: match, StorageClass: types.StorageClass(b.traits.Class),
		Metadata: map[string]string{markName: string(o.Mark)},
	}, b.checks.options(sum)...)
	if err != nil {
		return "", kindedWrite(err, o.Cond)
	}
	b.checks.learn(sum, out.ChecksumCRC32C)
	return version(out.ETag), nil
}

// Delete implements provider.API.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &keys[0]})
		return kinded(err)
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &b.name, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return kinded(err)
	}
	for _, e := range out.Errors {
		if kind := kindOfCode(aws.ToString(e.Code), 0); kind != fsapi.NotExist {
			return fsapi.Errorf(kind, "%s: %s: %s", aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message))
		}
	}
	return nil
}

// List implements provider.API.
func (b *bucket) List(ctx context.Context, prefix, after, token string) (provider.Page, error) {
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix}
	if token != "" {
		in.ContinuationToken = &token
	} else if after != "" {
		in.StartAfter = &after
	}
	out, err := b.client.ListObjectsV2(ctx, in)
	if err != nil {
		return provider.Page{}, kinded(err)
	}
	page := provider.Page{Objects: make([]object.Object, len(out.Contents))}
	for i, c := range out.Contents {
		page.Objects[i] = object.Object{
			Key: aws.ToString(c.Key), Size: aws.ToInt64(c.Size), Modified: aws.ToTime(c.LastModified), Version: version(c.ETag),
		}
	}
	if aws.ToBool(out.IsTruncated) {
		page.Next = aws.ToString(out.NextContinuationToken)
		if page.Next == "" {
			return page, fsapi.Errorf(fsapi.IO, "the listing is cut off and says not where to go on")
		}
	}
	return page, nil
}
