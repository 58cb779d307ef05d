package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/s3"
	"github.com/strakefs/strake/test/servers"
)

const unsigned = "UNSIGNED-PAYLOAD"

// between is a proxy that sees every body on its way to a service.
type between struct {
	*httptest.Server
	// flip turns one bit of the next body of so many bytes; 0: none.
	mu     sync.Mutex
	flip   int
	bodies []string // of those with a body: what the header says is signed
}

func newBetween(t *testing.T, to string) *between {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	b := &between{}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host
			b.pass(t, r.Out)
		},
	}
	b.Server = httptest.NewServer(p)
	t.Cleanup(b.Close)
	return b
}

// pass notes a request that writes, and flips a bit of the one asked for.
func (b *between) pass(t *testing.T, r *http.Request) {
	if r.Method != http.MethodPut || r.ContentLength == 0 {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flip > 0 && len(body) == b.flip {
		body[len(body)/2] ^= 4
		b.flip = 0
	}
	if how := r.Header.Get("X-Amz-Content-Sha256"); how == unsigned {
		b.bodies = append(b.bodies, unsigned)
		// SigV4: the header with the checksum must be among those signed.
		if !strings.Contains(r.Header.Get("Authorization"), "x-amz-checksum-crc32c") {
			t.Error("neither the body nor its checksum is signed")
		}
	} else {
		b.bodies = append(b.bodies, "signed")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
}

// seen is what was seen since the last call.
func (b *between) seen() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.Join(b.bodies, " ")
	b.bodies = nil
	return s
}

func write(ctx context.Context, s object.Store, key string, content []byte) error {
	w, err := s.Create(ctx, key, int64(len(content)), object.Condition{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return err
	}
	_, err = w.Commit(ctx)
	return err
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// unaware is a service that takes everything, keeps nothing and has not heard of
// checksums.
func unaware(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"1"`)
		if r.Method == http.MethodPost {
			fmt.Fprint(w, "<Result><UploadId>u</UploadId><ETag>1</ETag></Result>")
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestRefusedChecksum writes to services that refuse requests with a checksum: once,
// and without from then on.
func TestRefusedChecksum(t *testing.T) {
	for name, c := range map[string]struct {
		status        int
		code, message string
	}{
		"header": {http.StatusBadRequest, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc32c' received for this API call."},
		"all":    {http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented."},
	} {
		for _, size := range []int{100, 6 << 20} {
			var refused atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				for h := range r.Header {
					if strings.Contains(h, "Checksum") {
						refused.Add(1)
						w.WriteHeader(c.status)
						fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", c.code, c.message)
						return
					}
				}
				w.Header().Set("ETag", `"1"`)
				if r.Method == http.MethodPost {
					fmt.Fprint(w, "<Result><UploadId>u</UploadId><ETag>1</ETag></Result>")
				}
			}))
			b := newBetween(t, srv.URL)
			s := opened(t, s3.Options{Bucket: "bkt", Endpoint: b.URL, PathStyle: true, AccessKey: "a", SecretKey: "b", Options: provider.Options{PartSize: 5 << 20}})
			for range 3 {
				if err := write(t.Context(), s, "x", random(size)); err != nil {
					t.Fatalf("%s, %d bytes: %v", name, size, err)
				}
			}
			if n := refused.Load(); n != 1 {
				t.Errorf("%s, %d bytes: refused %d times", name, size, n)
			}
			if got := b.seen(); strings.Contains(got, unsigned) {
				t.Errorf("%s, %d bytes: bodies without a checksum were %s", name, size, got)
			}
			s.Close()
			srv.Close()
		}
	}
}

// TestOtherRefusal is a service that refuses conditions, not checksums: it goes on
// getting those.
func TestOtherRefusal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprint(w, "<Error><Code>NotImplemented</Code><Message>no conditions</Message></Error>")
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("X-Amz-Checksum-Crc32c", r.Header.Get("X-Amz-Checksum-Crc32c"))
	}))
	defer srv.Close()
	b := newBetween(t, srv.URL)
	s := opened(t, s3.Options{Bucket: "bkt", Endpoint: b.URL, PathStyle: true, AccessKey: "a", SecretKey: "b"})
	defer s.Close()
	if _, err := object.PutBytes(t.Context(), s, "x", random(10), object.IfAbsent()); !errors.Is(err, fsapi.NotSupported) {
		t.Fatal(err)
	}
	b.seen()
	for range 2 {
		if err := write(t.Context(), s, "x", random(10)); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.seen(); got != "signed "+unsigned {
		t.Errorf("bodies were %s", got)
	}
}

// TestBodiesAreNotSigned once the service has shown that it compares checksums,
// and are where it has not, or where that is asked for.
func TestBodiesAreNotSigned(t *testing.T) {
	srv := servers.S3(t)
	srv.Bucket(t, "bkt")
	const parts = 3
	large := random(parts * 5 << 20)
	for name, c := range map[string]struct {
		endpoint  string
		signed    bool
		one, many string
	}{
		"compared": {endpoint: srv.Endpoint, one: unsigned, many: strings.Repeat(unsigned+" ", parts)},
		"unaware":  {endpoint: unaware(t), one: "signed", many: strings.Repeat("signed ", parts)},
		"asked":    {endpoint: srv.Endpoint, signed: true, one: "signed", many: strings.Repeat("signed ", parts)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBetween(t, c.endpoint)
			o := options(srv, "bkt")
			o.Endpoint, o.Prefix, o.SignedPayload = b.URL, name, c.signed
			s := opened(t, o)
			defer s.Close()
			do := func(key string, content []byte, want string) {
				t.Helper()
				if err := write(t.Context(), s, key, content); err != nil {
					t.Fatal(err)
				}
				if got := b.seen(); got != strings.TrimSpace(want) {
					t.Errorf("%s: bodies were %s, not %s", key, got, want)
				}
			}
			do("first", large[:100], "signed") // nothing is known of the service yet
			do("second", large[:100], c.one)
			do("large", large, c.many)
		})
	}
}

// TestFlippedBit is a bit that changes on the way to the service, in a body that
// is not signed: the service refuses it and it is sent again.
func TestFlippedBit(t *testing.T) {
	srv := servers.S3(t)
	srv.Bucket(t, "bkt")
	b := newBetween(t, srv.Endpoint)
	o := options(srv, "bkt")
	o.Endpoint = b.URL
	var s object.Store
	s, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := write(t.Context(), s, "first", random(10)); err != nil {
		t.Fatal(err)
	}
	b.seen()
	for key, c := range map[string]struct {
		size, flip int
		want       string
	}{
		"one":  {size: 1000, flip: 1000, want: "UNSIGNED-PAYLOAD UNSIGNED-PAYLOAD"},
		"many": {size: 11 << 20, flip: 1 << 20, want: "UNSIGNED-PAYLOAD UNSIGNED-PAYLOAD UNSIGNED-PAYLOAD UNSIGNED-PAYLOAD"},
	} {
		content := random(c.size)
		b.mu.Lock()
		b.flip = c.flip
		b.mu.Unlock()
		before := s.Requests().Retries
		if err := write(t.Context(), s, key, content); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if got := b.seen(); got != c.want {
			t.Errorf("%s: bodies were %s, not %s", key, got, c.want)
		}
		if got := s.Requests().Retries - before; got != 1 {
			t.Errorf("%s: %d retries", key, got)
		}
		back := make([]byte, len(content))
		if _, _, err := s.Get(t.Context(), key, 0, back); err != nil || !bytes.Equal(back, content) {
			t.Errorf("%s reads back %v, or other bytes", key, err)
		}
	}
}
