package vfs_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

func withTrash(p *policy.Policy) { p.Trash = time.Hour }

func (r *rig) names(dir fsapi.Ino, c *fsapi.Cred) []string {
	r.Helper()
	d, err := r.fs.OpenDir(r.ctx, c, dir)
	r.ok(err)
	defer d.Close()
	var names []string
	r.ok(d.Read(r.ctx, 2, false, func(e fsapi.Dirent) bool { names = append(names, e.Name); return true }))
	return names
}

func TestTrashKeepsListsAndRestores(t *testing.T) {
	r := newRig(t, rigOptions{policy: withTrash, options: idle})
	dir, err := r.fs.Mknod(r.ctx, fsapi.Root, fsapi.RootIno, "dir", vfs.NewNode{Type: fsapi.TypeDirectory, Mode: 0o755})
	r.ok(err)
	_, f, err := r.fs.Create(r.ctx, fsapi.Root, dir.Ino, "file", vfs.NewNode{Mode: 0o644}, rw)
	r.ok(err)
	data := noise(1, 100_000)
	r.write(f, data, 0)
	r.ok(f.Close()) // not stored yet
	r.ok(r.fs.Unlink(r.ctx, fsapi.Root, dir.Ino, "file"))
	r.ok(r.fs.Rmdir(r.ctx, fsapi.Root, fsapi.RootIno, "dir"))

	es, more, err := r.fs.Trash(r.ctx, 0)
	r.ok(err)
	if more || len(es) != 2 || es[0].Path != "/dir/file" && es[0].Path != "dir/file" || es[0].Attr.Size != int64(len(data)) {
		t.Fatalf("trash holds %+v", es)
	}
	// It can be read but not written through .strake/trash.
	st, err := r.fs.Lookup(r.ctx, fsapi.Root, fsapi.RootIno, vfs.VirtualName)
	r.ok(err)
	trash, err := r.fs.Lookup(r.ctx, fsapi.Root, st.Ino, "trash")
	r.ok(err)
	names := r.names(trash.Ino, fsapi.Root)
	if len(names) != 2 || !strings.HasSuffix(names[0], "-file") {
		t.Fatalf("names %q", names)
	}
	if got := r.names(trash.Ino, &fsapi.Cred{Uid: 5}); len(got) != 0 {
		t.Fatalf("another user sees %q", got)
	}
	a, err := r.fs.Lookup(r.ctx, fsapi.Root, trash.Ino, names[0])
	r.ok(err)
	g, err := r.fs.Open(r.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
	r.ok(err)
	r.wants(g, data)
	r.ok(g.Close())
	_, err = r.fs.Open(r.ctx, fsapi.Root, a.Ino, rw)
	r.fails(fsapi.ReadOnly, err)
	size := int64(0)
	_, err = r.fs.Setattr(r.ctx, fsapi.Root, a.Ino, vfs.SetAttr{Size: &size})
	r.fails(fsapi.ReadOnly, err)

	to, err := r.fs.RestoreTrash(r.ctx, fsapi.Root, a.Ino, "")
	r.ok(err)
	at, err := r.fs.Resolve(r.ctx, fsapi.Root, to, true)
	r.ok(err)
	if at.Ino != a.Ino || at.Nlink != 1 {
		t.Fatalf("restored %+v", at)
	}
	_, err = r.fs.RestoreTrash(r.ctx, fsapi.Root, a.Ino, "")
	if err == nil {
		t.Fatal("restored twice")
	}
	h, err := r.fs.Open(r.ctx, fsapi.Root, a.Ino, rw)
	r.ok(err)
	r.wants(h, data)
	r.ok(h.Close())
}

func TestTrashEmptiesWhatIsNotOpen(t *testing.T) {
	r := newRig(t, rigOptions{policy: withTrash, options: idle})
	f := r.create("open")
	r.write(f, []byte("data"), 0)
	r.ok(r.create("shut").Close())
	r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, "open"))
	r.ok(r.fs.Unlink(r.ctx, fsapi.Root, fsapi.RootIno, "shut"))
	n, err := r.fs.EmptyTrash(r.ctx, 0, time.Time{})
	r.ok(err)
	if n != 1 {
		t.Fatalf("%d entries were dropped, want the one that is not open", n)
	}
	r.wants(f, []byte("data"))
	r.write(f, []byte("more"), 4)
	r.ok(f.Sync(r.ctx, false))
	ino := f.Ino()
	r.ok(f.Close())
	n, err = r.fs.EmptyTrash(r.ctx, 0, time.Time{})
	r.ok(err)
	if n != 1 {
		t.Fatalf("%d entries were dropped, want 1", n)
	}
	_, err = r.fs.Getattr(r.ctx, ino)
	r.fails(fsapi.Stale, err)
}

func TestVirtualFiles(t *testing.T) {
	pr, pw := io.Pipe()
	r := newRig(t, rigOptions{options: func(o *vfs.Options) {
		o.Virtual = []vfs.VirtualFile{{Name: "accesslog", Mode: 0o400, Stream: func(context.Context) (io.ReadCloser, error) { return pr, nil }}}
	}})
	if got := r.names(fsapi.RootIno, fsapi.Root); len(got) != 0 {
		t.Fatalf("the root lists %q", got)
	}
	st, err := r.fs.Lookup(r.ctx, fsapi.Root, fsapi.RootIno, vfs.VirtualName)
	r.ok(err)
	if st.Ino < fsapi.VirtualIno || st.Type != fsapi.TypeDirectory {
		t.Fatalf("%+v", st)
	}
	a, err := r.fs.Resolve(r.ctx, fsapi.Root, ".strake/stats", true)
	r.ok(err)
	f, err := r.fs.Open(r.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
	r.ok(err)
	if text := r.read(f, 0, 4096); !bytes.Contains(text, []byte("open_handles")) {
		t.Fatalf("stats say %q", text)
	}
	r.ok(f.Close())
	_, err = r.fs.Open(r.ctx, fsapi.Root, a.Ino, rw)
	r.fails(fsapi.NotPermitted, err)
	_, err = r.fs.Mknod(r.ctx, fsapi.Root, st.Ino, "x", vfs.NewNode{Type: fsapi.TypeRegular})
	r.fails(fsapi.NotPermitted, err)
	r.fails(fsapi.Exist, r.fs.Rename(r.ctx, fsapi.Root, fsapi.RootIno, "x", fsapi.RootIno, vfs.VirtualName, 0))

	log, err := r.fs.Resolve(r.ctx, fsapi.Root, ".strake/accesslog", true)
	r.ok(err)
	_, err = r.fs.Open(r.ctx, &fsapi.Cred{Uid: 7}, log.Ino, vfs.OpenRead)
	r.fails(fsapi.Access, err)
	f, err = r.fs.Open(r.ctx, fsapi.Root, log.Ino, vfs.OpenRead)
	r.ok(err)
	go func() { _, _ = pw.Write([]byte("line\n")) }()
	if got := r.read(f, 999, 100); string(got) != "line\n" {
		t.Fatalf("the stream gave %q", got)
	}
	r.ok(f.Close())
}
