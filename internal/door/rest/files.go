package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// raw makes an endpoint whose handler reads and writes HTTP itself. Resp is the
// type of its JSON answer, if it has one.
func raw[Resp any](method, path string, role Role, summary string, fn func(w http.ResponseWriter, r *http.Request) error) Endpoint {
	e := newEndpoint[api.Empty, Resp](method, path, role, summary)
	e.serve = fn
	return e
}

// endpoints is the table of what this door does itself.
func (d *Door) endpoints() []Endpoint {
	return []Endpoint{
		raw[api.Empty]("GET", "/v1/files/{path...}", RoleRead, "Read a file: Range, If-Match, If-None-Match, If-Modified-Since as RFC 9110 has them. HEAD likewise.", d.get),
		raw[api.Meta]("PUT", "/v1/files/{path...}", RoleWrite, "Write a file whole; it is replaced at once when all of the body has arrived and is durable. Missing directories are made. If-Match and If-None-Match: * are honoured. Query: mode (octal), volume.", d.put),
		raw[api.Meta]("PATCH", "/v1/files/{path...}", RoleWrite, "Write the body into an existing file. Query: offset (bytes, default 0), sync (true: durable before the answer, with all written to it before), volume.", d.patch),
		raw[api.Empty]("DELETE", "/v1/files/{path...}", RoleWrite, "Remove a file, symlink or empty directory (to the trash where the policy keeps one). Query: recursive, volume.", d.delete),
		raw[api.Meta]("GET", "/v1/meta/{path...}", RoleRead, "What stat(2) says, with extended attributes, and of a file the tiers it can be read from.", d.meta),
		raw[api.Ranges]("GET", "/v1/ranges/{path...}", RoleRead, "Where a file holds data, and where holes. Query: from (bytes), volume.", d.ranges),
		raw[api.Empty]("PUT", "/v1/xattr/{path...}", RoleWrite, "Set an extended attribute to the body; ACLs are in the kernel's binary form. A symlink at the end is not followed. Query: name, volume.", d.setXattr),
		raw[api.Empty]("DELETE", "/v1/xattr/{path...}", RoleWrite, "Remove an extended attribute. Query: name, volume.", d.removeXattr),
		raw[api.Listing]("GET", "/v1/ls/{path...}", RoleRead, "A page of a directory in order of name. Query: after, limit (default 1000, at most 10000), xattrs (true: with extended attributes), volume.", d.list),
		JSON("POST", "/v1/batch", RoleWrite, "Several operations in one transaction: all happen, in order, or none.", d.batch),
		raw[api.Event]("GET", "/v1/events", RoleRead, "The feed of changes as server-sent events; Last-Event-ID or the query's from resumes after that event. 404 says that it is no longer retained.", d.events),
		raw[api.Empty]("GET", "/v1/openapi.json", RoleNone, "This document.", d.openapi),
		raw[api.Empty]("GET", "/healthz", RoleNone, "200 while the process lives.", d.health),
		raw[api.Empty]("GET", "/readyz", RoleNone, "200 while every door answers.", d.ready),
		raw[api.Empty]("GET", "/metrics", RoleNone, "Metrics in Prometheus' text format.", func(w http.ResponseWriter, r *http.Request) error {
			d.o.Metrics.ServeHTTP(w, r)
			return nil
		}),
	}
}

// target is the volume and path that a request names.
type target struct {
	fs     vfs.FS
	volume string
	path   string
}

// target finds what a request names, refusing query parameters other than
// volume and those given.
func (d *Door) target(r *http.Request, params ...string) (target, error) {
	if err := allowed(r, params...); err != nil {
		return target{}, err
	}
	fs, name, err := d.o.Volumes.Volume(r.URL.Query().Get("volume"))
	return target{fs, name, r.PathValue("path")}, err
}

// allowed refuses query parameters that the handler does not know.
func allowed(r *http.Request, names ...string) error {
	for k := range r.URL.Query() {
		known := k == "volume"
		for _, n := range names {
			known = known || k == n
		}
		if !known {
			return fsapi.Errorf(fsapi.Invalid, "unknown query parameter %q: this takes volume %s", k, strings.Join(names, " "))
		}
	}
	return nil
}

// etag identifies one state of one inode.
func etag(a *fsapi.Attr) string { return fmt.Sprintf(`"%x-%x"`, uint64(a.Ino), a.Change) }

func parseETag(s string) (ino fsapi.Ino, change uint64, ok bool) {
	a, b, found := strings.Cut(strings.Trim(s, `"`), "-")
	i, err1 := strconv.ParseUint(a, 16, 64)
	c, err2 := strconv.ParseUint(b, 16, 64)
	return fsapi.Ino(i), c, found && err1 == nil && err2 == nil
}

// get serves GET and HEAD; http.ServeContent does ranges and conditions.
func (d *Door) get(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	a, err := vfs.Walk(ctx, t.fs, cred, t.path, true)
	if err != nil {
		return err
	}
	if a.Type == fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.IsDir, "%s is a directory: list it at /v1/ls/%s", t.path, t.path)
	}
	if a.Type != fsapi.TypeRegular {
		return fsapi.Errorf(fsapi.NotSupported, "%s is not a regular file", t.path)
	}
	f, err := t.fs.Open(ctx, cred, a.Ino, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is read
	if a, err = f.Attr(ctx); err != nil {
		return err
	}
	w.Header().Set("ETag", etag(&a))
	if w.Header().Get("Content-Type") == "" && !strings.Contains(lastName(t.path), ".") {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	c := &content{ctx: ctx, f: f, size: a.Size}
	http.ServeContent(w, r, lastName(t.path), a.Mtime, c)
	if c.err != nil {
		return &cutError{c.err}
	}
	return nil
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// content is a file as http.ServeContent wants it: a reader that can seek.
type content struct {
	ctx  context.Context
	f    vfs.File
	off  int64
	size int64
	err  error
}

func (c *content) Read(p []byte) (int, error) {
	if c.off >= c.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.size-c.off)]
	n, err := c.f.ReadAt(c.ctx, p, c.off)
	c.off += int64(n)
	if err == nil && n < len(p) {
		err = fsapi.Errorf(fsapi.Stale, "the file became shorter while it was read")
	}
	if err != nil {
		c.err = err
	}
	return n, err
}

// WriteTo sends in pieces large enough that a piece is a few chunks.
func (c *content) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, min(1<<20, max(c.size-c.off, 1)))
	return io.CopyBuffer(w, struct{ io.Reader }{c}, buf)
}

func (c *content) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += c.off
	case io.SeekEnd:
		off += c.size
	}
	if off < 0 {
		return 0, fsapi.Errorf(fsapi.Invalid, "seek to %d", off)
	}
	c.off = off
	return off, nil
}

// put replaces a file. A small body goes with its name in one transaction; a
// large one is written beside the name and renamed over it when durable.
func (d *Door) put(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r, "mode")
	if err != nil {
		return err
	}
	p := &upload{target: t, ctx: r.Context(), r: r}
	if err := p.prepare(); err != nil {
		return err
	}
	a, err := p.store()
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(&a))
	status := http.StatusOK
	if !p.replaces {
		status = http.StatusCreated
	}
	return writeJSON(w, status, metaOf(lastName(t.path), &a))
}

// upload is one PUT.
type upload struct {
	target
	ctx      context.Context
	r        *http.Request
	dir      fsapi.Attr
	name     string
	mode     uint32
	old      fsapi.Attr
	replaces bool
}

// smallPut is the size up to which a PUT is one transaction, in bytes.
const smallPut = 256 << 10

// prepare finds or makes the directory and checks the request's conditions.
func (p *upload) prepare() error {
	p.mode = 0o644
	if m := p.r.URL.Query().Get("mode"); m != "" {
		v, err := strconv.ParseUint(m, 8, 32)
		if err != nil || v > 0o7777 {
			return fsapi.Errorf(fsapi.Invalid, "mode=%s is not an octal mode", m)
		}
		p.mode = uint32(v)
	}
	if err := p.makeParents(); err != nil {
		return err
	}
	old, err := p.fs.Lookup(p.ctx, cred, p.dir.Ino, p.name)
	switch {
	case errors.Is(err, fsapi.NotExist):
	case err != nil:
		return err
	case old.Type == fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.IsDir, "%s is a directory", p.path)
	default:
		p.old, p.replaces = old, true
		if p.r.URL.Query().Get("mode") == "" && old.Type == fsapi.TypeRegular {
			p.mode = old.Mode
		}
	}
	return p.conditions()
}

func (p *upload) makeParents() error {
	i := strings.LastIndexByte(strings.TrimRight(p.path, "/"), '/')
	if i > 0 {
		if _, err := vfs.Walk(p.ctx, p.fs, cred, p.path[:i], true); errors.Is(err, fsapi.NotExist) {
			if _, err := p.fs.Batch(p.ctx, cred, []vfs.Op{{Kind: vfs.OpMkdir, Path: p.path[:i], Parents: true}}); err != nil {
				return err
			}
		}
	}
	var err error
	p.dir, p.name, err = vfs.WalkParent(p.ctx, p.fs, cred, p.path)
	return err
}

// conditions checks If-Match and If-None-Match before any byte is taken; the
// transaction checks them again.
func (p *upload) conditions() error {
	if m := p.r.Header.Get("If-None-Match"); m != "" {
		if m != "*" {
			return fsapi.Errorf(fsapi.NotSupported, "If-None-Match on PUT takes only *")
		}
		if p.replaces {
			return fsapi.Errorf(fsapi.Precondition, "%s exists already", p.path)
		}
	}
	if m := p.r.Header.Get("If-Match"); m != "" {
		if !p.replaces || (m != "*" && m != etag(&p.old)) {
			return fsapi.Errorf(fsapi.Precondition, "%s is not in the state that If-Match names", p.path)
		}
	}
	return nil
}

// guard is the operation that checks If-Match inside the transaction; none
// where the request has no such condition.
func (p *upload) guard() []vfs.Op {
	m := p.r.Header.Get("If-Match")
	if m == "" {
		return nil
	}
	op := vfs.Op{Kind: vfs.OpSetattr, Path: p.path}
	if m != "*" {
		op.IfIno, op.IfChange, _ = parseETag(m)
	}
	return []vfs.Op{op}
}

// absent reports whether the request wants to make the file, not replace it.
func (p *upload) absent() bool { return p.r.Header.Get("If-None-Match") != "" }

func (p *upload) store() (fsapi.Attr, error) {
	if n := p.r.ContentLength; n >= 0 && n <= smallPut {
		return p.small(n)
	}
	return p.large()
}

func (p *upload) small(n int64) (fsapi.Attr, error) {
	data := make([]byte, n)
	if _, err := io.ReadFull(p.r.Body, data); err != nil {
		return fsapi.Attr{}, fsapi.Wrap(fsapi.Invalid, err, "the body ended early")
	}
	return p.commit(vfs.Op{Kind: vfs.OpPut, Path: p.path, Data: data, Mode: p.mode, IfAbsent: p.absent()})
}

// commit runs the last operation with its guard, and makes it durable.
func (p *upload) commit(op vfs.Op) (fsapi.Attr, error) {
	attrs, err := p.fs.Batch(p.ctx, cred, append(p.guard(), op))
	if err != nil {
		return fsapi.Attr{}, err
	}
	return attrs[len(attrs)-1], p.syncDir()
}

func (p *upload) syncDir() error {
	dir, err := p.fs.OpenDir(p.ctx, cred, p.dir.Ino)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync(p.ctx)
}

func (p *upload) large() (fsapi.Attr, error) {
	tmp := ".strake-put-" + rand.Text()
	tmpPath := p.path[:len(p.path)-len(p.name)] + tmp
	_, f, err := p.fs.Create(p.ctx, cred, p.dir.Ino, tmp, vfs.NewNode{Type: fsapi.TypeRegular, Mode: p.mode}, vfs.OpenWrite|vfs.OpenExcl)
	if err != nil {
		return fsapi.Attr{}, err
	}
	a, err := p.fill(f, tmpPath)
	if err != nil {
		// The client's context may be over; the temporary name must still go.
		ctx := context.WithoutCancel(p.ctx)
		return a, errors.Join(err, p.fs.Unlink(ctx, &fsapi.Cred{Door: door}, p.dir.Ino, tmp))
	}
	return a, nil
}

func (p *upload) fill(f vfs.File, tmpPath string) (a fsapi.Attr, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := p.copyBody(f, 0); err != nil {
		return fsapi.Attr{}, err
	}
	if err := f.Sync(p.ctx, false); err != nil {
		return fsapi.Attr{}, err
	}
	if p.replaces && p.old.Type == fsapi.TypeRegular {
		if err := p.inherit(f.Ino()); err != nil {
			return fsapi.Attr{}, err
		}
	}
	if p.absent() {
		return p.claim(lastName(tmpPath))
	}
	return p.commit(vfs.Op{Kind: vfs.OpRename, Path: tmpPath, To: p.path})
}

// claim gives the file its name if nobody else has it.
func (p *upload) claim(tmp string) (fsapi.Attr, error) {
	err := p.fs.Rename(p.ctx, cred, p.dir.Ino, tmp, p.dir.Ino, p.name, vfs.RenameNoReplace)
	if errors.Is(err, fsapi.Exist) {
		err = fsapi.Errorf(fsapi.Precondition, "%s exists already", p.path)
	}
	if err != nil {
		return fsapi.Attr{}, err
	}
	if err := p.syncDir(); err != nil {
		return fsapi.Attr{}, err
	}
	return p.fs.Lookup(p.ctx, cred, p.dir.Ino, p.name)
}

// copyBody writes the request's body from an offset on.
func (p *upload) copyBody(f vfs.File, start int64) error {
	buf := make([]byte, 1<<20)
	off := start
	for {
		n, err := io.ReadFull(p.r.Body, buf)
		if n > 0 {
			if _, werr := f.WriteAt(p.ctx, buf[:n], off); werr != nil {
				return werr
			}
			off += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && (p.r.ContentLength < 0 || off-start == p.r.ContentLength):
			return nil
		case err != nil:
			return fsapi.Wrap(fsapi.Invalid, err, "the body ended early")
		}
	}
}

// inherit gives the new file the owner and extended attributes of the one it
// replaces.
func (p *upload) inherit(ino fsapi.Ino) error {
	set := vfs.SetAttr{Uid: &p.old.Uid, Gid: &p.old.Gid}
	if p.mode&0o222 != 0 { // else it has that mode already, and to set it may begin retention too soon
		set.Mode = &p.mode
	}
	if _, err := p.fs.Setattr(p.ctx, cred, ino, set); err != nil {
		return err
	}
	names, err := p.fs.Listxattr(p.ctx, cred, p.old.Ino)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == vfs.RetentionXattr { // of the old file alone
			continue
		}
		v, err := p.fs.Getxattr(p.ctx, cred, p.old.Ino, n)
		if err != nil {
			return err
		}
		if err := p.fs.Setxattr(p.ctx, cred, ino, n, v, 0); err != nil {
			return err
		}
	}
	return nil
}

func (d *Door) delete(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r, "recursive")
	if err != nil {
		return err
	}
	ctx := r.Context()
	dir, name, err := vfs.WalkParent(ctx, t.fs, cred, t.path)
	if err != nil {
		return err
	}
	a, err := t.fs.Lookup(ctx, cred, dir.Ino, name)
	if err != nil {
		return err
	}
	if m := r.Header.Get("If-Match"); m != "" && m != "*" && m != etag(&a) {
		return fsapi.Errorf(fsapi.Precondition, "%s is not in the state that If-Match names", t.path)
	}
	recursive, _ := strconv.ParseBool(r.URL.Query().Get("recursive"))
	if err := remove(ctx, t.fs, dir.Ino, name, &a, recursive); err != nil {
		return err
	}
	dh, err := t.fs.OpenDir(ctx, cred, dir.Ino)
	if err != nil {
		return err
	}
	defer dh.Close()
	if err := dh.Sync(ctx); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// remove takes a name away, with recursive everything below it first.
func remove(ctx context.Context, fs vfs.FS, dir fsapi.Ino, name string, a *fsapi.Attr, recursive bool) error {
	if a.Type != fsapi.TypeDirectory {
		return fs.Unlink(ctx, cred, dir, name)
	}
	if recursive {
		if err := removeBelow(ctx, fs, a.Ino); err != nil {
			return err
		}
	}
	return fs.Rmdir(ctx, cred, dir, name)
}

func removeBelow(ctx context.Context, fs vfs.FS, dir fsapi.Ino) error {
	const page = 256
	for {
		entries, err := page1(ctx, fs, dir, page)
		if err != nil || len(entries) == 0 {
			return err
		}
		for i := range entries {
			if err := remove(ctx, fs, dir, entries[i].Name, &entries[i].Attr, true); err != nil {
				return err
			}
		}
	}
}

// page1 is the first entries of a directory, without "." and "..".
func page1(ctx context.Context, fs vfs.FS, dir fsapi.Ino, limit int) ([]fsapi.Dirent, error) {
	dh, err := fs.OpenDir(ctx, cred, dir)
	if err != nil {
		return nil, err
	}
	defer dh.Close()
	var out []fsapi.Dirent
	err = dh.Read(ctx, 0, true, func(e fsapi.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			out = append(out, e)
		}
		return len(out) < limit
	})
	return out, err
}

func (d *Door) health(w http.ResponseWriter, _ *http.Request) error {
	_, err := io.WriteString(w, "ok\n")
	return err
}

func (d *Door) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := d.o.Ready(); err != nil {
		// An answer as good as the other: who asks, asks every few seconds, and the
		// log would say it as often.
		return writeJSON(w, http.StatusServiceUnavailable, api.Error{
			Kind: fsapi.Closed.Error(), Code: int(fsapi.Closed), Message: "not ready: " + err.Error(),
		})
	}
	_, err := io.WriteString(w, "ready\n")
	return err
}

var typeNames = map[fsapi.FileType]string{
	fsapi.TypeRegular: "file", fsapi.TypeDirectory: "directory", fsapi.TypeSymlink: "symlink",
	fsapi.TypeCharDev: "chardev", fsapi.TypeBlockDev: "blockdev", fsapi.TypeFIFO: "fifo", fsapi.TypeSocket: "socket",
}

// typeNamed is the special file type of a name, or 0.
func typeNamed(name string) fsapi.FileType {
	for t, n := range typeNames {
		if n == name && t != fsapi.TypeRegular && t != fsapi.TypeDirectory && t != fsapi.TypeSymlink {
			return t
		}
	}
	return 0
}

// rawText is the bytes of a text that JSON cannot say, else nil.
func rawText(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

func metaOf(name string, a *fsapi.Attr) api.Meta {
	return api.Meta{
		RawName: rawText(name),
		Name:    name, Ino: uint64(a.Ino), Type: typeNames[a.Type], Mode: a.Mode, Uid: a.Uid, Gid: a.Gid, Nlink: a.Nlink,
		Size: a.Size, Used: a.Used, Rdev: a.Rdev, Atime: a.Atime, Mtime: a.Mtime, Ctime: a.Ctime, Btime: a.Btime, ETag: etag(a),
	}
}

// meta does not follow a symlink at the end, as lstat(2).
func (d *Door) meta(w http.ResponseWriter, r *http.Request) error {
	t, err := d.target(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	a, err := vfs.Walk(ctx, t.fs, cred, t.path, false)
	if err != nil {
		return err
	}
	m := metaOf(lastName(strings.TrimRight(t.path, "/")), &a)
	if m.Path, err = vfs.PathOf(ctx, t.fs, a.Ino); err != nil && !errors.Is(err, fsapi.NotExist) {
		return err
	}
	if a.Type == fsapi.TypeSymlink {
		if m.Target, err = t.fs.Readlink(ctx, a.Ino); err != nil {
			return err
		}
		m.RawTarget = rawText(m.Target)
	}
	if m.Xattrs, err = xattrs(ctx, t.fs, a.Ino); err != nil {
		return err
	}
	if a.Type == fsapi.TypeRegular && d.o.Tiers != nil {
		tiers, err := d.o.Tiers(ctx, t.volume, a.Ino)
		if err != nil {
			return err
		}
		m.Tiers = &tiers
	}
	w.Header().Set("ETag", m.ETag)
	w.Header().Set("Last-Modified", a.Mtime.UTC().Format(http.TimeFormat))
	return writeJSON(w, http.StatusOK, m)
}

func xattrs(ctx context.Context, fs vfs.FS, ino fsapi.Ino) (map[string][]byte, error) {
	names, err := fs.Listxattr(ctx, cred, ino)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	out := map[string][]byte{}
	for _, n := range names {
		v, err := fs.Getxattr(ctx, cred, ino, n)
		if errors.Is(err, fsapi.NoAttr) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		out[n] = v
	}
	return out, nil
}

// emptyType marks endpoints whose answer is not JSON.
var emptyType = reflect.TypeFor[api.Empty]()
