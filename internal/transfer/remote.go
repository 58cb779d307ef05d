package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

// Remote is a directory of a volume of a server.
type Remote struct {
	c      *client.Client
	volume string
	root   string
}

var _ Tree = (*Remote)(nil)

// NewRemote is the tree below root of a volume ("": the default one).
func NewRemote(c *client.Client, volume, root string) *Remote {
	return &Remote{c, volume, path.Join("/", root)}
}

// String implements Tree.
func (r *Remote) String() string { return "strake:" + r.volume + r.root }

func (r *Remote) at(p string) string { return path.Join(r.root, p) }

// do sends a request about a path.
func (r *Remote) do(ctx context.Context, method, prefix, p string, q url.Values, h http.Header, body io.Reader) (*http.Response, error) {
	if q == nil {
		q = url.Values{}
	}
	if r.volume != "" {
		q.Set("volume", r.volume)
	}
	resp, err := r.c.Do(ctx, method, client.FilePath(prefix, r.at(p)), q, h, body)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, r.at(p))
	}
	return resp, nil
}

func get[T any](ctx context.Context, r *Remote, prefix, p string, q url.Values) (v T, err error) {
	resp, err := r.do(ctx, "GET", prefix, p, q, nil, nil)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&v)
	return v, fsapi.Wrap(fsapi.IO, err, "read the server's answer")
}

// send is a request whose answer does not matter.
func (r *Remote) send(ctx context.Context, method, prefix, p string, q url.Values, body io.Reader) error {
	resp, err := r.do(ctx, method, prefix, p, q, nil, body)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// List implements Tree.
func (r *Remote) List(ctx context.Context, dir string) ([]Entry, error) {
	list := []Entry{}
	for after := ""; ; {
		page, err := get[api.Listing](ctx, r, "/v1/ls", dir, url.Values{"after": {after}, "xattrs": {"true"}})
		if err != nil {
			return nil, err
		}
		for i := range page.Entries {
			name := page.Entries[i].Name
			if raw := page.Entries[i].RawName; raw != nil {
				name = string(raw)
			}
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				return nil, fsapi.Errorf(fsapi.Corrupt, "%s: the server lists %q, which is no name", r.at(dir), name)
			}
			list = append(list, entryFrom(path.Join(dir, name), &page.Entries[i]))
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// Stat implements Tree.
func (r *Remote) Stat(ctx context.Context, p string) (Entry, error) {
	m, err := get[api.Meta](ctx, r, "/v1/meta", p, nil)
	return entryFrom(p, &m), err
}

// Above implements Tree.
func (r *Remote) Above(ctx context.Context) (list []Place, err error) {
	for at := r.root; ; at = path.Dir(at) {
		m, err := get[api.Meta](ctx, NewRemote(r.c, r.volume, at), "/v1/meta", "", nil)
		if err != nil {
			return nil, err
		}
		list = append(list, Place{m.Ino, m.Mtime.UnixNano(), m.Ctime.UnixNano()})
		if at == "/" {
			return list, nil
		}
	}
}

var typeNames = map[string]fsapi.FileType{
	"file": fsapi.TypeRegular, "directory": fsapi.TypeDirectory, "symlink": fsapi.TypeSymlink, "chardev": fsapi.TypeCharDev,
	"blockdev": fsapi.TypeBlockDev, "fifo": fsapi.TypeFIFO, "socket": fsapi.TypeSocket,
}

func entryFrom(p string, m *api.Meta) Entry {
	e := Entry{
		Path: p, Type: typeNames[m.Type], Mode: m.Mode, Uid: m.Uid, Gid: m.Gid, Nlink: m.Nlink, Rdev: m.Rdev,
		Atime: m.Atime, Mtime: m.Mtime, Ctime: m.Ctime, Target: m.Target, ID: strconv.FormatUint(m.Ino, 10),
	}
	if m.RawTarget != nil {
		e.Target = string(m.RawTarget)
	}
	if e.Type == fsapi.TypeRegular {
		e.Size = m.Size
	}
	for name, v := range m.Xattrs {
		if !copied(name) {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = v
	}
	return e
}

// remoteReader is a file of the server.
type remoteReader struct {
	r    *Remote
	p    string
	size int64
	etag string
}

// Open implements Tree.
func (r *Remote) Open(ctx context.Context, p string) (Reader, error) {
	m, err := get[api.Meta](ctx, r, "/v1/meta", p, nil)
	if err != nil {
		return nil, err
	}
	return &remoteReader{r, p, m.Size, m.ETag}, nil
}

func (f *remoteReader) Size() int64 { return f.size }
func (f *remoteReader) Close()      {}

func (f *remoteReader) Ranges(ctx context.Context, fn func(off, n int64) error) error {
	for from := int64(0); ; {
		page, err := get[api.Ranges](ctx, f.r, "/v1/ranges", f.p, url.Values{"from": {strconv.FormatInt(from, 10)}})
		if err != nil {
			return err
		}
		for _, x := range page.Ranges {
			if n := min(x.Len, f.size-x.Off); n > 0 {
				if err := fn(x.Off, n); err != nil {
					return err
				}
			}
		}
		if from = page.Next; from == 0 {
			return nil
		}
	}
}

func (f *remoteReader) Section(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+n-1)}}
	resp, err := f.r.do(ctx, "GET", "/v1/files", f.p, nil, h, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (f *remoteReader) Changed(ctx context.Context) (bool, error) {
	m, err := get[api.Meta](ctx, f.r, "/v1/meta", f.p, nil)
	return m.ETag != f.etag, err
}

// Bounds of a request to /v1/batch, well below the server's.
const (
	maxOps  = 2048
	maxData = 4 << 20
)

// Apply implements Tree: in as few transactions as will do. One that fails is
// taken apart, to know what failed.
func (r *Remote) Apply(ctx context.Context, ops []Op) []error {
	errs := make([]error, len(ops))
	for i := 0; i < len(ops); {
		n, bytes := 0, 0
		for i+n < len(ops) && n < maxOps/4 && (n == 0 || bytes+len(ops[i+n].Data) <= maxData) {
			bytes += len(ops[i+n].Data)
			n++
		}
		r.together(ctx, ops[i:i+n], errs[i:i+n])
		i += n
	}
	for i := range ops {
		if errs[i] == nil && ops[i].attributes() {
			errs[i] = r.xattrs(ctx, ops[i].Entry, ops[i].Entry.Path, ops[i].Drop)
		}
	}
	return errs
}

func (r *Remote) together(ctx context.Context, ops []Op, errs []error) {
	var all []api.BatchOp
	for i := range ops {
		all = append(all, r.batchOps(&ops[i])...)
	}
	err := r.batch(ctx, all)
	if err == nil {
		return
	}
	if len(ops) == 1 || ctx.Err() != nil {
		for i := range errs {
			errs[i] = fsapi.Wrap(fsapi.KindOf(err), err, r.at(ops[i].Entry.Path))
		}
		return
	}
	half := len(ops) / 2
	r.together(ctx, ops[:half], errs[:half])
	r.together(ctx, ops[half:], errs[half:])
}

func (r *Remote) batch(ctx context.Context, ops []api.BatchOp) error {
	_, err := client.Call[api.BatchResult](ctx, r.c, "POST", "/v1/batch", api.Batch{Volume: r.volume, Ops: ops})
	return err
}

// text puts a name where JSON can carry it.
func text(s string) (plain string, raw []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// op is a batch's operation on a path.
func (r *Remote) op(kind, p string) api.BatchOp {
	b := api.BatchOp{Op: kind}
	b.Path, b.RawPath = text(r.at(p))
	return b
}

// batchOps are the operations that carry an Op out.
func (r *Remote) batchOps(op *Op) (list []api.BatchOp) {
	e := op.Entry
	if op.Replace {
		list = append(list, r.op("remove", e.Path))
	}
	if op.Kind == OpLink {
		b := r.op("link", op.First)
		b.To, b.RawTo = text(r.at(e.Path))
		return append(list, b)
	}
	if op.Kind == OpMake {
		list = append(list, r.makeOp(e, op.Data))
		if e.Type == fsapi.TypeDirectory {
			return list
		}
	}
	return append(list, r.attrOp(e, e.Path))
}

func (r *Remote) makeOp(e *Entry, data []byte) api.BatchOp {
	mode := uint32(0o600)
	var b api.BatchOp
	switch e.Type {
	case fsapi.TypeDirectory:
		b, mode = r.op("mkdir", e.Path), 0o700
	case fsapi.TypeRegular:
		b = r.op("put", e.Path)
		b.Data = data
	case fsapi.TypeSymlink:
		b = r.op("symlink", e.Path)
		b.Target, b.RawTarget = text(e.Target)
		return b
	default:
		b = r.op("mknod", e.Path)
		b.Rdev = e.Rdev
		for name, t := range typeNames {
			if t == e.Type {
				b.Type = name
			}
		}
	}
	b.Mode = &mode
	return b
}

// attrOp sets owner, mode and times of what lies at p.
func (r *Remote) attrOp(e *Entry, p string) api.BatchOp {
	b := r.op("setattr", p)
	b.Uid, b.Gid, b.Atime, b.Mtime = &e.Uid, &e.Gid, &e.Atime, &e.Mtime
	if e.Type != fsapi.TypeSymlink {
		b.Mode = &e.Mode
	}
	return b
}

// xattrs sets extended attributes of what lies at p, and drops others.
func (r *Remote) xattrs(ctx context.Context, e *Entry, p string, drop []string) error {
	for _, name := range drop {
		err := r.send(ctx, "DELETE", "/v1/xattr", p, url.Values{"name": {name}}, nil)
		if err != nil && !errors.Is(err, fsapi.NoAttr) {
			return fsapi.Wrap(fsapi.KindOf(err), err, "remove "+name)
		}
	}
	for name, v := range e.Xattrs {
		if err := r.send(ctx, "PUT", "/v1/xattr", p, url.Values{"name": {name}}, strings.NewReader(string(v))); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "set "+name)
		}
	}
	return nil
}

// maxPatch bounds the body of one request, so that a lost connection does not
// cost a whole large file's worth of waiting, in bytes.
const maxPatch = 256 << 20

// Store implements Tree.
func (r *Remote) Store(ctx context.Context, e *Entry, drop []string, from Reader, tick func(int64)) error {
	tmp := *e
	tmp.Path = tmpFor(e.Path)
	if err := r.batch(ctx, []api.BatchOp{r.makeOp(&tmp, nil)}); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, r.at(e.Path))
	}
	err := from.Ranges(ctx, func(off, n int64) error {
		for ; n > 0; off, n = off+maxPatch, n-maxPatch {
			if err := r.patch(ctx, tmp.Path, from, off, min(n, maxPatch), tick); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = r.send(ctx, "PATCH", "/v1/files", tmp.Path, url.Values{"sync": {"true"}}, nil)
	}
	if err == nil {
		err = r.xattrs(ctx, e, tmp.Path, drop)
	}
	if err == nil {
		err = r.settle(ctx, e, tmp.Path)
	}
	if err != nil {
		return errors.Join(err, r.Remove(context.WithoutCancel(ctx), tmp.Path))
	}
	return nil
}

// settle gives what was written its size, attributes and name.
func (r *Remote) settle(ctx context.Context, e *Entry, tmp string) error {
	size := r.op("setattr", tmp)
	size.Size = &e.Size
	name := r.op("rename", tmp)
	name.To, name.RawTo = text(r.at(e.Path))
	err := r.batch(ctx, []api.BatchOp{size, r.attrOp(e, tmp), name})
	return fsapi.Wrap(kindOf(err), err, r.at(e.Path))
}

func kindOf(err error) fsapi.Kind {
	if err == nil {
		return fsapi.Other
	}
	return fsapi.KindOf(err)
}

func (r *Remote) patch(ctx context.Context, p string, from Reader, off, n int64, tick func(int64)) error {
	s, err := from.Section(ctx, off, n)
	if err != nil {
		return err
	}
	defer s.Close()
	return r.send(ctx, "PATCH", "/v1/files", p, url.Values{"offset": {strconv.FormatInt(off, 10)}}, io.TeeReader(s, &ticking{io.Discard, tick}))
}

// Remove implements Tree.
func (r *Remote) Remove(ctx context.Context, p string) error {
	return r.send(ctx, "DELETE", "/v1/files", p, url.Values{"recursive": {"true"}}, nil)
}

// Sync implements Tree: every answer of the server was durable.
func (r *Remote) Sync(context.Context) error { return nil }
