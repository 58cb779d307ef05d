package rest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
)

// one is a Volumes with a single volume.
type one struct{ fs vfs.FS }

func (o one) Volume(name string) (vfs.FS, string, error) {
	if name != "" && name != "main" {
		return nil, "", fsapi.Errorf(fsapi.NotExist, "no volume %q", name)
	}
	return o.fs, "main", nil
}

// tokens maps tokens to roles.
type tokens map[string]Role

func (t tokens) Role(_ context.Context, token string) (Role, error) { return t[token], nil }

// feed numbers the changes that a FS tells its watchers.
type feed struct {
	mu      sync.Mutex
	cond    *sync.Cond
	changes []fsapi.Change
	gone    uint64 // events up to here are not retained
}

func newFeed(fs vfs.FS) *feed {
	f := &feed{}
	f.cond = sync.NewCond(&f.mu)
	fs.Watch(func(c fsapi.Change) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changes = append(f.changes, c)
		f.cond.Broadcast()
	})
	return f
}

func (f *feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.changes))
}

func (f *feed) VolumeName(fsapi.VolumeID) string { return "main" }

func (f *feed) Follow(ctx context.Context, from uint64, fn func(uint64, []fsapi.Change) error) error {
	defer context.AfterFunc(ctx, f.cond.Broadcast)()
	for ; ; from++ {
		f.mu.Lock()
		if from <= f.gone {
			f.mu.Unlock()
			return fsapi.Errorf(fsapi.NotExist, "event %d is no longer retained", from)
		}
		for uint64(len(f.changes)) < from && ctx.Err() == nil {
			f.cond.Wait()
		}
		if ctx.Err() != nil {
			f.mu.Unlock()
			return ctx.Err()
		}
		c := f.changes[from-1]
		f.mu.Unlock()
		if err := fn(from, []fsapi.Change{c}); err != nil {
			return err
		}
	}
}

// rig is a door on a TCP port over the model.
type rig struct {
	t    *testing.T
	base string
	fs   vfs.FS
	feed *feed
	door *Door
}

func newRig(t *testing.T) *rig {
	t.Helper()
	fs := model.New(model.Options{})
	f := newFeed(fs)
	d := New(Options{
		Volumes: one{fs}, Tokens: tokens{"r": RoleRead, "w": RoleWrite, "a": RoleAdmin}, Feed: f,
		Metrics: http.NotFoundHandler(), Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler), Version: "test",
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := d.Serve(l, false, nil)
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, base: "http://" + l.Addr().String(), fs: fs, feed: f, door: d}
}

// do sends a request with the writer's token, and headers as "Name: value".
func (r *rig) do(method, path string, body io.Reader, headers ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer w")
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

func (r *rig) want(status int, method, path, body string, headers ...string) string {
	r.t.Helper()
	resp, got := r.do(method, path, strings.NewReader(body), headers...)
	if resp.StatusCode != status {
		r.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, got)
	}
	return got
}

func TestPutGetDelete(t *testing.T) {
	r := newRig(t)
	large := make([]byte, 3<<20+17)
	rand.Read(large)
	for name, data := range map[string]string{"small": "hello", "empty": "", "large": string(large)} {
		path := "/v1/files/a/b/" + name + ".bin"
		r.want(201, "PUT", path, data)
		if got := r.want(200, "GET", path, ""); got != data {
			t.Errorf("%s: read %d bytes, want the %d written", name, len(got), len(data))
		}
		r.want(200, "PUT", path, data+"x")
		if got := r.want(200, "GET", path, ""); got != data+"x" {
			t.Errorf("%s: not replaced", name)
		}
		r.want(204, "DELETE", path, "")
		r.want(404, "GET", path, "")
	}
	r.want(200, "GET", "/v1/meta/a/b", "")
	r.want(409, "DELETE", "/v1/files/a", "")
	r.want(204, "DELETE", "/v1/files/a?recursive=true", "")
	r.want(404, "GET", "/v1/meta/a", "")
}

func TestPutOfUnknownLengthIsWhole(t *testing.T) {
	r := newRig(t)
	pr, pw := io.Pipe()
	go func() {
		for range 5 {
			pw.Write(bytes.Repeat([]byte("z"), 300_000))
		}
		pw.Close()
	}()
	if resp, body := r.do("PUT", "/v1/files/f", pr); resp.StatusCode != http.StatusCreated {
		t.Fatal(body)
	}
	if got := r.want(200, "GET", "/v1/files/f", ""); len(got) != 1_500_000 {
		t.Errorf("%d bytes, want 1500000", len(got))
	}
}

// A body that ends early must leave the old file as it was and nothing beside
// it.
func TestPutCutShortChangesNothing(t *testing.T) {
	r := newRig(t)
	r.want(201, "PUT", "/v1/files/f", "old")
	for _, length := range []int{100_000, 5 << 20} {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /v1/files/f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer w\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat("n", length/2))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	if got := r.want(200, "GET", "/v1/files/f", ""); got != "old" {
		t.Errorf("the file became %d bytes", len(got))
	}
	var l api.Listing
	json.Unmarshal([]byte(r.want(200, "GET", "/v1/ls/", "")), &l)
	if len(l.Entries) != 1 {
		t.Errorf("the directory holds %v, want only f", l.Entries)
	}
}

func TestRangesAndConditions(t *testing.T) {
	r := newRig(t)
	r.want(201, "PUT", "/v1/files/f", "0123456789")
	if got := r.want(206, "GET", "/v1/files/f", "", "Range: bytes=2-4"); got != "234" {
		t.Errorf("range: %q", got)
	}
	if got := r.want(206, "GET", "/v1/files/f", "", "Range: bytes=-3"); got != "789" {
		t.Errorf("suffix range: %q", got)
	}
	r.want(416, "GET", "/v1/files/f", "", "Range: bytes=20-30")
	resp, _ := r.do("HEAD", "/v1/files/f", nil)
	tag := resp.Header.Get("ETag")
	if resp.ContentLength != 10 || tag == "" {
		t.Fatalf("HEAD: length %d, etag %q", resp.ContentLength, tag)
	}
	r.want(304, "GET", "/v1/files/f", "", "If-None-Match: "+tag)
	r.want(412, "GET", "/v1/files/f", "", `If-Match: "0-0"`)
	r.want(412, "PUT", "/v1/files/f", "x", "If-None-Match: *")
	r.want(201, "PUT", "/v1/files/g", "x", "If-None-Match: *")
	r.want(412, "PUT", "/v1/files/f", "x", `If-Match: "0-0"`)
	r.want(200, "PUT", "/v1/files/f", "new", "If-Match: "+tag)
	r.want(412, "PUT", "/v1/files/f", "newer", "If-Match: "+tag)
	r.want(412, "PUT", "/v1/files/nothing", "x", "If-Match: *")
	big := strings.Repeat("b", 1<<20)
	resp, _ = r.do("HEAD", "/v1/files/f", nil)
	r.want(200, "PUT", "/v1/files/f", big, "If-Match: "+resp.Header.Get("ETag"))
	r.want(412, "PUT", "/v1/files/f", big, "If-Match: "+resp.Header.Get("ETag"))
	r.want(412, "DELETE", "/v1/files/f", "", `If-Match: "0-0"`)
}

// Of many creators with If-None-Match: * exactly one wins.
func TestExclusivePutHasOneWinner(t *testing.T) {
	r := newRig(t)
	for _, size := range []int{10, 600 << 10} {
		var wg sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wg.Go(func() {
				resp, _ := r.do("PUT", fmt.Sprintf("/v1/files/x%d", size), strings.NewReader(strings.Repeat("x", size)), "If-None-Match: *")
				statuses[i] = resp.StatusCode
			})
		}
		wg.Wait()
		won := 0
		for _, s := range statuses {
			switch s {
			case 201:
				won++
			case 412:
			default:
				t.Errorf("size %d: status %d", size, s)
			}
		}
		if won != 1 {
			t.Errorf("size %d: %d winners", size, won)
		}
	}
}

func TestPutKeepsModeOwnerAndXattrs(t *testing.T) {
	r := newRig(t)
	r.want(201, "PUT", "/v1/files/f?mode=600", "x")
	ctx := context.Background()
	a, err := vfs.Walk(ctx, r.fs, fsapi.Root, "f", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.fs.Setxattr(ctx, fsapi.Root, a.Ino, "user.k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	r.want(200, "PUT", "/v1/files/f", strings.Repeat("y", 1<<20))
	var m api.Meta
	json.Unmarshal([]byte(r.want(200, "GET", "/v1/meta/f", "")), &m)
	if m.Mode != 0o600 || string(m.Xattrs["user.k"]) != "v" || m.Size != 1<<20 {
		t.Errorf("after replacing: mode %o, xattrs %v, size %d", m.Mode, m.Xattrs, m.Size)
	}
}

func TestListPages(t *testing.T) {
	r := newRig(t)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("n%02d", i)
		want = append(want, name)
		r.want(201, "PUT", "/v1/files/d/"+name, "x")
	}
	var got []string
	after := ""
	for pages := 0; ; pages++ {
		var l api.Listing
		if err := json.Unmarshal([]byte(r.want(200, "GET", "/v1/ls/d?limit=10&after="+after, "")), &l); err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Entries {
			got = append(got, e.Name)
		}
		if after = l.Next; after == "" {
			if pages != 2 {
				t.Errorf("%d pages, want 3", pages+1)
			}
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	r.want(409, "GET", "/v1/ls/d/n00", "")
	r.want(400, "GET", "/v1/ls/d?limit=0", "")
	r.want(400, "GET", "/v1/ls/d?unknown=1", "")
}

func TestBatchIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	ok := `{"ops":[{"op":"mkdir","path":"/a/b","parents":true},{"op":"put","path":"/a/b/f","data":"aGk="},{"op":"rename","path":"/a/b/f","to":"/a/g"}]}`
	r.want(200, "POST", "/v1/batch", ok)
	if got := r.want(200, "GET", "/v1/files/a/g", ""); got != "hi" {
		t.Errorf("got %q", got)
	}
	bad := `{"ops":[{"op":"put","path":"/a/new","data":"aGk="},{"op":"remove","path":"/nothing"}]}`
	r.want(404, "POST", "/v1/batch", bad)
	r.want(404, "GET", "/v1/meta/a/new", "")
	r.want(400, "POST", "/v1/batch", `{"ops":[{"op":"explode","path":"/a"}]}`)
	r.want(400, "POST", "/v1/batch", `{"operations":[]}`)
	r.want(400, "POST", "/v1/batch", `{"ops":[]}`)
}

func TestTokensDecide(t *testing.T) {
	r := newRig(t)
	r.want(401, "GET", "/v1/meta/", "", "Authorization: ")
	r.want(401, "GET", "/v1/meta/", "", "Authorization: Bearer wrong")
	r.want(200, "GET", "/v1/meta/", "", "Authorization: Bearer r")
	r.want(401, "PUT", "/v1/files/f", "x", "Authorization: Bearer r")
	r.want(404, "GET", "/v1/meta/f", "")
	r.want(200, "GET", "/healthz", "", "Authorization: ")
	r.want(200, "GET", "/v1/openapi.json", "", "Authorization: ")
}

func TestEventsResume(t *testing.T) {
	r := newRig(t)
	r.want(201, "PUT", "/v1/files/one", "1")
	r.want(201, "PUT", "/v1/files/two", "2")
	names := func(from string, n int) []string {
		req, _ := http.NewRequest(http.MethodGet, r.base+"/v1/events", nil)
		req.Header.Set("Authorization", "Bearer r")
		req.Header.Set("Last-Event-ID", from)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		resp, err := http.DefaultClient.Do(req.WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
			t.Fatalf("content type %q, status %d", ct, resp.StatusCode)
		}
		var got []string
		sc := bufio.NewScanner(resp.Body)
		for len(got) < n && sc.Scan() {
			data, ok := strings.CutPrefix(sc.Text(), "data: ")
			if !ok {
				continue
			}
			var e api.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind == "create" {
				got = append(got, e.Name)
			}
		}
		return got
	}
	if d := cmp.Diff([]string{"one", "two"}, names("1", 2)); d != "" {
		t.Error(d)
	}
	r.feed.mu.Lock() // the handler of the events may not have ended yet
	r.feed.gone = 1
	r.feed.mu.Unlock()
	r.want(404, "GET", "/v1/events?from=1", "")
}

// The document names exactly the operations that the mux serves.
func TestOpenAPIMatchesHandlers(t *testing.T) {
	r := newRig(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
		}
	}
	if err := json.Unmarshal([]byte(r.want(200, "GET", "/v1/openapi.json", "")), &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	n := 0
	for _, e := range r.door.table {
		op, ok := doc.Paths[pathParam.ReplaceAllString(e.Path, "{$1}")][strings.ToLower(e.Method)]
		if !ok || op.Summary == "" || ids[op.OperationID] {
			t.Errorf("%s %s: in the document %v, summary %q, id %q", e.Method, e.Path, ok, op.Summary, op.OperationID)
		}
		ids[op.OperationID] = true
		n++
	}
	documented := 0
	for _, m := range doc.Paths {
		documented += len(m)
	}
	if documented != n {
		t.Errorf("%d operations documented, %d served", documented, n)
	}
}

func TestEveryKindHasAStatus(t *testing.T) {
	for k := range fsapi.Kind(fsapi.KindCount) {
		s := Status(k)
		internal := k == fsapi.Other || k == fsapi.Corrupt || k == fsapi.IO || k == fsapi.Lost
		if (s == 500) != internal {
			t.Errorf("%v: status %d", k, s)
		}
	}
}

// What a copying client needs: special files, names that are no UTF-8, writes
// in place, holes, extended attributes.
func TestCopying(t *testing.T) {
	r := newRig(t)
	raw := base64.StdEncoding.EncodeToString([]byte("/d/\xff"))
	r.want(200, "POST", "/v1/batch", `{"ops":[{"op":"mkdir","path":"/d"},{"op":"put","raw_path":"`+raw+`"},
		{"op":"mknod","path":"/d/pipe","type":"fifo","mode":384},{"op":"mknod","path":"/d/null","type":"chardev","rdev":259},
		{"op":"symlink","path":"/d/l","raw_target":"`+raw+`"}]}`)
	r.want(400, "POST", "/v1/batch", `{"ops":[{"op":"mknod","path":"/d/x","type":"file"}]}`)
	r.want(200, "PATCH", "/v1/files/d/%FF?offset=1048576&sync=true", "tail")
	r.want(200, "PATCH", "/v1/files/d/%FF", "head")
	r.want(400, "PATCH", "/v1/files/d/%FF?offset=-1", "x")
	r.want(404, "PATCH", "/v1/files/d/none", "x")
	var holes api.Ranges
	if err := json.Unmarshal([]byte(r.want(200, "GET", "/v1/ranges/d/%FF", "")), &holes); err != nil {
		t.Fatal(err)
	}
	if n := len(holes.Ranges); holes.Size != 1048580 || n != 2 || holes.Ranges[0].Off != 0 || holes.Ranges[1].Off+holes.Ranges[1].Len != 1048580 || holes.Ranges[1].Off < 900_000 {
		t.Errorf("%+v", holes)
	}
	r.want(204, "PUT", "/v1/xattr/d/%FF?name=user.a", "\x00value")
	r.want(204, "PUT", "/v1/xattr/d/%FF?name=user.b", "b")
	r.want(204, "DELETE", "/v1/xattr/d/%FF?name=user.b", "")
	r.want(400, "PUT", "/v1/xattr/d/%FF", "b")
	var list api.Listing
	if err := json.Unmarshal([]byte(r.want(200, "GET", "/v1/ls/d?xattrs=true", "")), &list); err != nil {
		t.Fatal(err)
	}
	got := map[string]api.Meta{}
	for _, m := range list.Entries {
		got[m.Name] = m
	}
	f := got["\ufffd"]
	if string(f.RawName) != "\xff" || len(f.Xattrs) != 1 || string(f.Xattrs["user.a"]) != "\x00value" {
		t.Errorf("%+v", f)
	}
	if string(got["l"].RawTarget) != "/d/\xff" || got["pipe"].Type != "fifo" || got["pipe"].Mode != 0o600 || got["null"].Rdev != 259 {
		t.Errorf("%+v", got)
	}
}
