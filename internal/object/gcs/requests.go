package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// resource is an object as the JSON API writes it ("Objects", Cloud Storage JSON
// API v1). Numbers are in strings.
type resource struct {
	Name         string            `json:"name,omitempty"`
	Size         string            `json:"size,omitempty"`
	Generation   string            `json:"generation,omitempty"`
	Updated      time.Time         `json:"updated,omitzero"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	StorageClass string            `json:"storageClass,omitempty"`
	CRC32C       string            `json:"crc32c,omitempty"`
}

// fields are those of a resource that are wanted in answers.
const fields = "name,size,generation,updated,metadata"

// markName is the metadata that carries a provider.Mark.
const markName = "strake-mark"

func (r resource) object() (object.Object, error) {
	size, err := strconv.ParseInt(r.Size, 10, 64)
	if err != nil || r.Generation == "" {
		return object.Object{}, fsapi.Errorf(fsapi.IO, "the answer lacks size or generation")
	}
	return object.Object{Key: r.Name, Size: size, Modified: r.Updated, Version: object.Version(r.Generation)}, nil
}

// objects is the URL of an object, or of all where key is empty.
func (b *bucket) objects(key string) string {
	u := b.host + "/storage/v1/b/" + url.PathEscape(b.name) + "/o"
	if key != "" {
		u += "/" + url.PathEscape(key)
	}
	return u
}

// do sends a request and gives what is no success a kind. 308 is one, of uploads.
func (b *bucket) do(req *http.Request) (*http.Response, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		var token *oauth2.RetrieveError
		if errors.As(err, &token) {
			return nil, fsapi.Wrap(fsapi.Unauthorized, err, "credentials")
		}
		return nil, fsapi.Wrap(provider.KindOfFailure(err), err, "no answer")
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusPermanentRedirect {
		return resp, nil
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 2048)) // what it says is for people
	return nil, &refusal{resp.StatusCode, strings.Join(strings.Fields(string(said)), " ")}
}

// refusal is an answer that is no success.
type refusal struct {
	status int
	said   string
}

// Error implements error.
func (r *refusal) Error() string { return http.StatusText(r.status) + ": " + r.said }

// Unwrap is the kind.
func (r *refusal) Unwrap() error { return provider.KindOfStatus(r.status) }

// status is the HTTP status of a refusal, or 0.
func status(err error) int {
	var r *refusal
	if errors.As(err, &r) {
		return r.status
	}
	return 0
}

// call sends a request and reads a JSON answer into it, unless that is nil.
func (b *bucket) call(ctx context.Context, method, at string, query url.Values, into any) error {
	if len(query) > 0 {
		at += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	resp, err := b.do(req)
	if err != nil {
		return err
	}
	return decode(resp, into)
}

// decode reads a JSON answer whole, so that the connection can be used again.
func decode(resp *http.Response, into any) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fsapi.Errorf(provider.KindOfFailure(err), "the answer broke off: %w", err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fsapi.Errorf(fsapi.IO, "the answer is no JSON: %w", err)
	}
	return nil
}

// Get implements provider.API.
func (b *bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Object, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.objects(key)+"?alt=media", nil)
	if err != nil {
		return nil, object.Object{}, fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	req.Header.Set("Range", "bytes="+strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+n-1, 10))
	resp, err := b.do(req)
	if status(err) == http.StatusRequestedRangeNotSatisfiable { // at or beyond the end
		o, _, err := b.Head(ctx, key)
		return nil, o, err
	}
	if err != nil {
		return nil, object.Object{}, err
	}
	o, err := described(key, resp)
	if err == nil && resp.StatusCode != http.StatusPartialContent && off > 0 {
		err = fsapi.Errorf(fsapi.IO, "the answer is not the range asked for")
	}
	if err != nil {
		resp.Body.Close() // what it says is not wanted
		return nil, o, err
	}
	return resp.Body, o, nil
}

// described is an object as the headers of its download tell it.
func described(key string, resp *http.Response) (object.Object, error) {
	o := object.Object{Key: key, Size: resp.ContentLength, Version: object.Version(resp.Header.Get("X-Goog-Generation"))}
	var err error
	if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		o.Size, err = strconv.ParseInt(total, 10, 64)
	}
	if err != nil || o.Version == "" || o.Size < 0 {
		return o, fsapi.Errorf(fsapi.IO, "the answer lacks generation or size")
	}
	if o.Modified, err = http.ParseTime(resp.Header.Get("Last-Modified")); err != nil {
		return o, fsapi.Errorf(fsapi.IO, "the answer lacks Last-Modified: %w", err)
	}
	return o, nil
}

// Head implements provider.API.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, provider.Mark, error) {
	var r resource
	if err := b.call(ctx, http.MethodGet, b.objects(key), url.Values{"fields": {fields}}, &r); err != nil {
		return object.Object{}, "", err
	}
	o, err := r.object()
	// Downloads tell it to the second; Get and Head are to agree.
	o.Modified = o.Modified.Truncate(time.Second)
	return o, provider.Mark(r.Metadata[markName]), err
}

// conditions are a condition as parameters; generation 0 is none.
func conditions(c object.Condition) url.Values {
	v := url.Values{"fields": {fields}}
	if c.Absent() {
		v.Set("ifGenerationMatch", "0")
	} else if c.Version() != "" {
		v.Set("ifGenerationMatch", string(c.Version()))
	}
	return v
}

// written is what an answer to a write says: there is no object to be missing.
func written(err error) error {
	if status(err) == http.StatusNotFound {
		return fsapi.Wrap(fsapi.NoDevice, err, "there is no such bucket")
	}
	return err
}

// Put implements provider.API. The body's checksum goes with it.
func (b *bucket) Put(ctx context.Context, key string, body *io.SectionReader, o provider.PutOptions) (object.Version, error) {
	r := b.resource(key, o)
	var err error
	if r.CRC32C, err = provider.CRC32C(body); err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", fsapi.Errorf(fsapi.Invalid, "describe the object: %w", err)
	}
	boundary := "strake" + string(o.Mark)
	head := []byte("--" + boundary + "\r\nContent-Type: application/json\r\n\r\n" + string(text) +
		"\r\n--" + boundary + "\r\nContent-Type: application/octet-stream\r\n\r\n")
	tail := []byte("\r\n--" + boundary + "--\r\n")
	query := conditions(o.Cond)
	query.Set("uploadType", "multipart")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.upload()+"?"+query.Encode(),
		io.MultiReader(bytes.NewReader(head), body, bytes.NewReader(tail)))
	if err != nil {
		return "", fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	req.ContentLength = int64(len(head)+len(tail)) + body.Size()
	req.Header.Set("Content-Type", "multipart/related; boundary="+boundary)
	resp, err := b.do(req) //nolint:bodyclose // made closes it
	if err != nil {
		return "", written(err)
	}
	return made(resp)
}

// upload is the URL of uploads.
func (b *bucket) upload() string {
	return b.host + "/upload/storage/v1/b/" + url.PathEscape(b.name) + "/o"
}

// resource describes an object to be made.
func (b *bucket) resource(key string, o provider.PutOptions) resource {
	return resource{Name: key, StorageClass: b.class, Metadata: map[string]string{markName: string(o.Mark)}}
}

// made is the version of the object that an answer tells of.
func made(resp *http.Response) (object.Version, error) {
	var r resource
	if err := decode(resp, &r); err != nil {
		return "", err
	}
	o, err := r.object()
	return o.Version, err
}

// Delete implements provider.API.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := b.call(ctx, http.MethodDelete, b.objects(key), nil, nil); err != nil && status(err) != http.StatusNotFound {
			return err
		}
	}
	return nil
}

// List implements provider.API. startOffset is inclusive.
func (b *bucket) List(ctx context.Context, prefix, after, token string) (provider.Page, error) {
	query := url.Values{"fields": {"nextPageToken,items(" + fields + ")"}, "prefix": {prefix}, "maxResults": {"1000"}}
	if after != "" {
		query.Set("startOffset", after)
	}
	if token != "" {
		query.Set("pageToken", token)
	}
	var answer struct {
		Next  string     `json:"nextPageToken"`
		Items []resource `json:"items"`
	}
	if err := b.call(ctx, http.MethodGet, b.objects(""), query, &answer); err != nil {
		return provider.Page{}, written(err)
	}
	page := provider.Page{Next: answer.Next, Objects: make([]object.Object, len(answer.Items))}
	for i, r := range answer.Items {
		o, err := r.object()
		if err != nil {
			return page, err
		}
		page.Objects[i] = o
	}
	return page, nil
}
