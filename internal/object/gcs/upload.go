package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// upload is a resumable upload ("Resumable uploads", Cloud Storage). Whatever
// has an odd size comes last and waits for Complete, which tells the whole size.
// One goroutine at a time.
type upload struct {
	b       *bucket
	session string // URL

	stored int64             // bytes that the provider has, as far as it said
	size   int64             // of the parts up to last
	unsure bool              // a request ended without an answer: stored may be more
	last   *io.SectionReader // held back; nil: none
	next   int               // part
}

// Begin implements provider.API.
func (b *bucket) Begin(ctx context.Context, key string, o provider.PutOptions) (provider.Upload, error) {
	text, err := json.Marshal(b.resource(key, o))
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "describe the object: %w", err)
	}
	query := conditions(o.Cond)
	query.Set("uploadType", "resumable")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.upload()+"?"+query.Encode(), bytes.NewReader(text))
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json; charset=UTF-8")
	resp, err := b.do(req)
	if err != nil {
		return nil, written(err)
	}
	session := resp.Header.Get("Location")
	if err := decode(resp, nil); err != nil {
		return nil, err
	}
	if session == "" {
		return nil, fsapi.Errorf(fsapi.IO, "the answer lacks the session's Location")
	}
	return &upload{b: b, session: session}, nil
}

// Part implements provider.Upload.
func (u *upload) Part(ctx context.Context, n int, body *io.SectionReader) error {
	switch {
	case u.last != nil || n > u.next:
		return fsapi.Errorf(fsapi.Invalid, "part %d out of order", n)
	case n == u.next:
		u.next++
		u.size += body.Size()
	}
	if body.Size()%chunk != 0 {
		u.last = body
		return nil
	}
	resp, err := u.send(ctx, body, "*")
	if err != nil {
		return err
	}
	return decode(resp, nil)
}

// Complete implements provider.Upload.
func (u *upload) Complete(ctx context.Context, _ int) (object.Version, error) {
	last := u.last
	if last == nil {
		last = io.NewSectionReader(bytes.NewReader(nil), 0, 0)
	}
	resp, err := u.send(ctx, last, strconv.FormatInt(u.size, 10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusPermanentRedirect {
		resp.Body.Close()
		return "", fsapi.Errorf(fsapi.IO, "the upload of %d bytes is not complete", u.size)
	}
	return made(resp)
}

// send sends what the provider lacks of the last part, body. total is the whole
// size, or "*". The answer's body is the caller's.
func (u *upload) send(ctx context.Context, body *io.SectionReader, total string) (*http.Response, error) {
	if u.unsure {
		resp, err := u.put(ctx, nil, "bytes */"+total)
		if err != nil || resp.StatusCode != http.StatusPermanentRedirect {
			return resp, err
		}
		resp.Body.Close()
	}
	start := u.size - body.Size()
	for {
		lack := u.size - u.stored
		if u.stored < start {
			return nil, fsapi.Errorf(fsapi.Corrupt, "the provider has lost bytes it had: %d of %d", u.stored, start)
		}
		if lack == 0 && total == "*" {
			return &http.Response{StatusCode: http.StatusPermanentRedirect, Body: http.NoBody}, nil
		}
		span := "*"
		if lack > 0 {
			span = fmt.Sprintf("%d-%d", u.stored, u.size-1)
		}
		before := u.stored
		resp, err := u.put(ctx, io.NewSectionReader(body, u.stored-start, lack), "bytes "+span+"/"+total)
		if err != nil || resp.StatusCode != http.StatusPermanentRedirect || u.stored == u.size {
			return resp, err
		}
		resp.Body.Close()
		if u.stored == before {
			return nil, fsapi.Errorf(fsapi.IO, "the provider takes none of %d bytes", lack)
		}
	}
}

// put makes one request of the session.
func (u *upload) put(ctx context.Context, body *io.SectionReader, contentRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.session, http.NoBody)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	if body != nil && body.Size() > 0 {
		req.Body, req.ContentLength = io.NopCloser(body), body.Size()
	}
	req.Header.Set("Content-Range", contentRange)
	u.unsure = true
	resp, err := u.b.do(req)
	if err != nil {
		return nil, err
	}
	u.unsure = false
	if resp.StatusCode == http.StatusPermanentRedirect {
		u.stored, err = received(resp.Header.Get("Range"))
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// received is the number of bytes in a "bytes=0-41" of an answer; none is 0.
func received(header string) (int64, error) {
	if header == "" {
		return 0, nil
	}
	last, err := strconv.ParseInt(strings.TrimPrefix(header, "bytes=0-"), 10, 64)
	if err != nil {
		return 0, fsapi.Errorf(fsapi.IO, "the answer has the range %q", header)
	}
	return last + 1, nil
}

// Abort implements provider.Upload. 499 is the success of it.
func (u *upload) Abort(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, u.session, http.NoBody)
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "request: %w", err)
	}
	resp, err := u.b.do(req)
	if status(err) == 499 {
		return nil
	}
	if err != nil {
		return err
	}
	return decode(resp, nil)
}
