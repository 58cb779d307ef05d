package azure

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// markName is the metadata that carries a provider.Mark. Names must be
// identifiers of C#; their case is not kept.
const markName = "strakemark"

// Get implements provider.API.
func (b *bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error) {
	out, err := b.client.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: n}})
	if code(err) == "InvalidRange" { // at or beyond the end
		o, _, err := b.Head(ctx, key)
		return nil, o, err
	}
	if err != nil {
		return nil, object.Object{}, kinded(err)
	}
	o := described(key, out.ContentLength, out.LastModified, out.ETag)
	if _, total, ok := strings.Cut(value(out.ContentRange), "/"); ok {
		o.Size, err = strconv.ParseInt(total, 10, 64)
	}
	if err != nil || o.Version == "" || o.Size < off {
		out.Body.Close() // what it says is not wanted
		return nil, o, fsapi.Errorf(fsapi.IO, "the answer lacks a valid ETag or Content-Range")
	}
	return out.Body, o, nil
}

// described is an object as headers tell it.
func described(key string, size *int64, modified *time.Time, etag *azcore.ETag) object.Object {
	return object.Object{Key: key, Size: value(size), Modified: value(modified), Version: object.Version(unquoted(value(etag)))}
}

// unquoted is an ETag as listings have it: without quotes.
func unquoted(etag azcore.ETag) string { return strings.Trim(string(etag), `"`) }

// value is what a pointer of the client points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Head implements provider.API.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, provider.Mark, error) {
	out, err := b.client.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return object.Object{}, "", kinded(err)
	}
	var mark provider.Mark
	for name, text := range out.Metadata {
		if strings.EqualFold(name, markName) {
			mark = provider.Mark(value(text))
		}
	}
	return described(key, out.ContentLength, out.LastModified, out.ETag), mark, nil
}

// conditions are a condition as headers: If-None-Match and If-Match.
func conditions(c object.Condition) *blob.AccessConditions {
	m := &blob.ModifiedAccessConditions{}
	if c.Absent() {
		any := azcore.ETagAny
		m.IfNoneMatch = &any
	}
	if v := c.Version(); v != "" {
		etag := azcore.ETag(`"` + string(v) + `"`)
		m.IfMatch = &etag
	}
	return &blob.AccessConditions{ModifiedAccessConditions: m}
}

// tier is the access tier of new blobs; nil: the account's.
func (b *bucket) tier() *blob.AccessTier {
	if b.traits.Class == "" {
		return nil
	}
	tier := blob.AccessTier(b.traits.Class)
	return &tier
}

func metadata(o provider.PutOptions) map[string]*string {
	mark := string(o.Mark)
	return map[string]*string{markName: &mark}
}

// Put implements provider.API.
func (b *bucket) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (object.Version, error) {
	out, err := b.client.NewBlockBlobClient(key).Upload(ctx, streaming.NopCloser(body), &blockblob.UploadOptions{
		Metadata: metadata(o), Tier: b.tier(), AccessConditions: conditions(o.Cond),
	})
	if err != nil {
		return "", kindedWrite(err, o.Cond)
	}
	return object.Version(unquoted(value(out.ETag))), nil
}

// Delete implements provider.API.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		_, err := b.client.NewBlobClient(keys[0]).Delete(ctx, nil)
		return kinded(err)
	}
	batch, err := b.client.NewBatchBuilder()
	if err != nil {
		return kinded(err)
	}
	for _, key := range keys {
		if err := batch.Delete(key, nil); err != nil {
			return kinded(err)
		}
	}
	out, err := b.client.SubmitBatch(ctx, batch, nil)
	if err != nil {
		return kinded(err)
	}
	for _, r := range out.Responses {
		if err := kinded(r.Error); err != nil && fsapi.KindOf(err) != fsapi.NotExist {
			return err
		}
	}
	return nil
}

// List implements provider.API. The first key is inclusive.
func (b *bucket) List(ctx context.Context, prefix, after, token string) (provider.Page, error) {
	o := &container.ListBlobsFlatOptions{Prefix: &prefix}
	if token != "" {
		o.Marker = &token
	} else if after != "" {
		o.StartFrom = &after
	}
	out, err := b.client.NewListBlobsFlatPager(o).NextPage(ctx)
	if err != nil {
		return provider.Page{}, kinded(err)
	}
	page := provider.Page{Next: value(out.NextMarker)}
	for _, item := range out.Segment.BlobItems {
		if item == nil || item.Properties == nil {
			return page, fsapi.Errorf(fsapi.IO, "the listing lacks properties")
		}
		page.Objects = append(page.Objects, described(value(item.Name), item.Properties.ContentLength, item.Properties.LastModified, item.Properties.ETag))
	}
	return page, nil
}
