// Package client talks to a Strake server's REST door: over the socket in its
// data directory, or over TCP with a token.
//
// It owns: how a server is found and spoken to. It must not know what the
// commands print.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
)

// Client is a connection to one server. Safe for concurrent use.
type Client struct {
	http  *http.Client
	base  string
	token string
	where string // for messages
	err   error  // why nothing can be asked; nil: it can
}

// Socket is where the server of a data directory listens.
func Socket(dataDir string) string { return filepath.Join(dataDir, "run", "strake.sock") }

// Dial makes a client: of the server at address ("http://host:port", with
// token) where that is given, else of the server that runs on dataDir. It does
// not connect yet.
func Dial(address, token, dataDir string) *Client {
	if address != "" {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		return &Client{http: &http.Client{}, base: strings.TrimSuffix(address, "/"), token: token, where: address}
	}
	sock := Socket(dataDir)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", sock)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://strake", where: sock}
}

// Trust lets the client trust the authorities in a PEM file besides the system's,
// of a server that speaks TLS. An error is that of all calls from then on.
func (c *Client) Trust(caFile string) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	pem, err := os.ReadFile(caFile)
	switch {
	case err != nil:
		c.err = fsapi.Wrap(fsapi.IO, err, "read the certificates to trust")
	case !roots.AppendCertsFromPEM(pem):
		c.err = fsapi.Errorf(fsapi.Invalid, "%s holds no certificate in PEM", caFile)
	}
	c.http.Transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
}

// Do sends one request with a body (nil: none) and returns the response, whose
// body the caller closes. A status of 400 or more is an error of the kind the
// server named.
func (c *Client) Do(ctx context.Context, method, path string, q url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	if c.err != nil {
		return nil, c.err
	}
	u := c.base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "make request")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, responseError(resp)
	}
	return resp, nil
}

func (c *Client) unreachable(err error) error {
	if errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "connection refused") {
		return fsapi.Errorf(fsapi.NoDevice, "no server answers at %s: start one with `strake serve`, or name it with --data or --server", c.where)
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fsapi.Errorf(fsapi.Unauthorized, "the server at %s shows a certificate that nobody who is trusted here has signed: name its authority's with --ca (%w)", c.where, err)
	}
	return fsapi.Wrap(fsapi.IO, err, "ask the server at "+c.where)
}

func responseError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var e api.Error
	if json.Unmarshal(b, &e) == nil && e.Message != "" {
		return &fsapi.Error{Kind: fsapi.Kind(e.Code), Msg: e.Message}
	}
	return fsapi.Errorf(fsapi.Other, "the server answered %s", resp.Status)
}

// Call sends req as the endpoint wants it (query for GET and DELETE, else JSON)
// and decodes the answer.
func Call[Resp any](ctx context.Context, c *Client, method, path string, req any) (Resp, error) {
	var out Resp
	resp, err := c.send(ctx, method, path, req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fsapi.Wrap(fsapi.Other, err, "decode the server's answer")
	}
	return out, nil
}

// Download is a request whose answer is bytes, which go to w. An answer that the
// server could not finish is an error.
func (c *Client) Download(ctx context.Context, path string, req any, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, path, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "receive the server's answer")
	}
	return nil
}

// Follow is Call for an endpoint that streams; fn gets each value.
func Follow[Event any](ctx context.Context, c *Client, method, path string, req any, fn func(Event) error) error {
	resp, err := c.send(ctx, method, path, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var ev Event
		if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
			return fsapi.Wrap(fsapi.Other, err, "decode the server's answer")
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	return sc.Err()
}

func (c *Client) send(ctx context.Context, method, path string, req any) (*http.Response, error) {
	if method == http.MethodGet || method == http.MethodDelete {
		return c.Do(ctx, method, path, query(req), nil, nil)
	}
	b, err := json.Marshal(req)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "encode request")
	}
	return c.Do(ctx, method, path, nil, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(b))
}

// query turns a request struct into the parameters that the server reads back
// by its json tags.
func query(req any) url.Values {
	q := url.Values{}
	v := reflect.ValueOf(req)
	if !v.IsValid() || v.Kind() != reflect.Struct {
		return q
	}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		if f.Kind() == reflect.Pointer { // one that points to a zero says so
			f = f.Elem()
		}
		q.Set(name, fmt.Sprint(f.Interface()))
	}
	return q
}

// FilePath is the URL path of a file for a prefix such as "/v1/files".
func FilePath(prefix, path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return prefix + "/" + strings.Join(parts, "/")
}
