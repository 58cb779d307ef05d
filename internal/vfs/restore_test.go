package vfs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// image is a tree as text: what restore and clone must bring back.
func (r *rig) image(root string) map[string]string {
	r.Helper()
	out := map[string]string{}
	a, err := r.fs.Resolve(r.ctx, fsapi.Root, root, false)
	r.ok(err)
	linked := map[fsapi.Ino]string{}
	r.imageOf(out, linked, a, "")
	return out
}

func (r *rig) imageOf(out map[string]string, linked map[fsapi.Ino]string, a fsapi.Attr, path string) {
	r.Helper()
	text := fmt.Sprintf("type %d mode %o owner %d:%d mtime %d size %d links %d", a.Type, a.Mode, a.Uid, a.Gid, a.Mtime.UnixNano(), a.Size, a.Nlink)
	names, err := r.fs.Listxattr(r.ctx, fsapi.Root, a.Ino)
	r.ok(err)
	slices.Sort(names)
	for _, name := range names {
		v, err := r.fs.Getxattr(r.ctx, fsapi.Root, a.Ino, name)
		r.ok(err)
		text += fmt.Sprintf(" %s=%q", name, v)
	}
	switch a.Type {
	case fsapi.TypeRegular:
		if first, ok := linked[a.Ino]; ok {
			text += " same as " + first
		}
		linked[a.Ino] = path
		f, err := r.fs.Open(r.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
		r.ok(err)
		p := make([]byte, a.Size)
		n, err := f.ReadAt(r.ctx, p, 0)
		r.ok(err)
		r.ok(f.Close())
		text += fmt.Sprintf(" holds %d %x", n, fnv(p))
	case fsapi.TypeSymlink:
		t, err := r.fs.Readlink(r.ctx, a.Ino)
		r.ok(err)
		text += " to " + t
	case fsapi.TypeDirectory:
		text = fmt.Sprintf("directory mode %o owner %d:%d mtime %d", a.Mode, a.Uid, a.Gid, a.Mtime.UnixNano())
		d, err := r.fs.OpenDir(r.ctx, fsapi.Root, a.Ino)
		r.ok(err)
		var es []fsapi.Dirent
		r.ok(d.Read(r.ctx, 0, true, func(e fsapi.Dirent) bool {
			if e.Name != "." && e.Name != ".." {
				es = append(es, e)
			}
			return true
		}))
		r.ok(d.Close())
		for _, e := range es {
			r.imageOf(out, linked, e.Attr, path+"/"+e.Name)
		}
	}
	out[path] = text
}

func fnv(p []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range p {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func (r *rig) path(p string) fsapi.Attr {
	r.Helper()
	a, err := r.fs.Resolve(r.ctx, fsapi.Root, p, false)
	r.ok(err)
	return a
}

func (r *rig) batch(ops ...vfs.Op) {
	r.Helper()
	_, err := r.fs.Batch(r.ctx, fsapi.Root, ops)
	r.ok(err)
}

func (r *rig) put(path string, data []byte) {
	r.Helper()
	dir, name, err := vfs.WalkParent(r.ctx, r.fs, fsapi.Root, path)
	r.ok(err)
	_, f, err := r.fs.Create(r.ctx, fsapi.Root, dir.Ino, name, vfs.NewNode{Mode: 0o644}, rw|vfs.OpenTrunc)
	r.ok(err)
	r.write(f, data, 0)
	r.ok(f.Close())
}

func (r *rig) mkdir(path string) { r.batch(vfs.Op{Kind: vfs.OpMkdir, Path: path}) }

func (r *rig) mv(from, to string) {
	r.Helper()
	r.batch(vfs.Op{Kind: vfs.OpRename, Path: from, To: to})
}

func (r *rig) rm(paths ...string) {
	r.Helper()
	for _, p := range paths {
		r.batch(vfs.Op{Kind: vfs.OpRemove, Path: p})
	}
}

func (r *rig) setxattr(path, name, value string) {
	r.Helper()
	r.ok(r.fs.Setxattr(r.ctx, fsapi.Root, r.path(path).Ino, name, []byte(value), 0))
}

func (r *rig) snapshot(name string) {
	r.Helper()
	_, err := r.fs.CreateSnapshot(r.ctx, fsapi.Root, vfs.Snapshot{Name: name})
	r.ok(err)
}

// check verifies metadata, every snapshot included.
func (r *rig) check() {
	r.Helper()
	r.ok(r.fs.Syncfs(r.ctx))
	report := func(p meta.Problem) { r.Errorf("%s: %s", p.Kind, p.Text) }
	r.ok(r.meta.Check(r.ctx, r.vol.ID, nil, report))
	list, err := r.fs.Snapshots(r.ctx)
	r.ok(err)
	for _, s := range list {
		if !s.Deleting {
			r.ok(r.meta.CheckSnapshot(r.ctx, r.vol.ID, s.ID, nil, report))
		}
	}
}

// furnish makes a tree with everything that a copy must keep.
func (r *rig) furnish() {
	r.Helper()
	r.mkdir("d")
	r.mkdir("d/sub")
	r.mkdir("d/sub/deep")
	r.mkdir("e")
	r.put("d/large", noise(1, 3<<20))
	r.put("d/small", []byte("tiny"))
	r.put("d/sub/f", noise(2, 100_000))
	r.put("d/sub/deep/g", noise(3, 5000))
	r.put("e/h", []byte("h"))
	r.batch(vfs.Op{Kind: vfs.OpLink, Path: "d/sub/f", To: "d/hard"}, vfs.Op{Kind: vfs.OpLink, Path: "d/sub/f", To: "e/hard"},
		vfs.Op{Kind: vfs.OpSymlink, Path: "d/link", Target: "small"},
		vfs.Op{Kind: vfs.OpSetattr, Path: "d/small", Set: vfs.SetAttr{Mode: ptr[uint32](0o4711)}})
	r.setxattr("d/small", "user.label", "then")
	r.setxattr("d/sub", vfs.PolicyXattr, "compression=none")
	_, err := r.fs.Setattr(r.ctx, fsapi.Root, r.path("d/large").Ino, vfs.SetAttr{Uid: ptr[uint32](5), Gid: ptr[uint32](6)})
	r.ok(err)
}

func ptr[T any](v T) *T { return &v }

func (r *rig) restore(q vfs.RestoreSnapshot) vfs.Restored {
	r.Helper()
	done, err := r.fs.RestoreSnapshot(r.ctx, fsapi.Root, q, nil)
	r.ok(err)
	return done
}

func (r *rig) same(what string, got, want map[string]string) {
	r.Helper()
	if d := cmp.Diff(want, got); d != "" {
		r.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func TestRestoreMakesTheTreeWhatItWas(t *testing.T) {
	for _, trash := range []bool{false, true} {
		t.Run(fmt.Sprintf("trash=%v", trash), func(t *testing.T) {
			r := newRig(t, rigOptions{policy: func(p *policy.Policy) {
				if trash {
					p.Trash = policy.Default().Trash
				}
			}})
			r.furnish()
			want := r.image("/")
			inos := map[string]fsapi.Ino{}
			for _, p := range []string{"d", "d/sub", "d/large", "d/hard", "e/h", "d/small"} {
				inos[p] = r.path(p).Ino
			}
			r.snapshot("s")

			r.put("d/large", noise(9, 1000))
			r.mv("d/small", "e/small")
			r.put("d/small", []byte("another"))
			r.setxattr("e/small", "user.label", "now")
			r.setxattr("e/small", "user.more", "now")
			r.mv("d/sub", "e/sub")
			r.mv("d", "e/sub/d")
			r.rm("e/hard")
			r.put("new", []byte("new"))
			r.mkdir("d")
			r.mkdir("d/sub")
			r.put("d/sub/x", []byte("x"))
			r.setxattr("e/sub", vfs.PolicyXattr, "compression=s2")
			changed := r.image("/")

			done := r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
			r.same("restored", r.image("/"), want)
			for p, ino := range inos {
				if now := r.path(p).Ino; now != ino {
					t.Errorf("%s was inode %d and is %d", p, ino, now)
				}
			}
			r.check()
			if again := r.restore(vfs.RestoreSnapshot{Snapshot: "s"}); again.Changed != 0 || again.Removed != 0 {
				t.Errorf("restored again, it changed %d and removed %d", again.Changed, again.Removed)
			}
			// The way back.
			r.restore(vfs.RestoreSnapshot{Snapshot: done.Before})
			r.same("undone", r.image("/"), changed)
			r.check()
		})
	}
}

// A directory that has come to where a file was may hold the file by now.
func TestRestoreOfWhatLiesBelowWhatIsInItsPlace(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.mkdir("d")
	r.put("d/f", noise(1, 50_000))
	r.mkdir("d/sub")
	r.put("d/sub/g", noise(2, 5000))
	want := r.image("/")
	f, g := r.path("d/f").Ino, r.path("d/sub/g").Ino
	r.snapshot("s")
	r.mv("d/f", "was")
	r.mkdir("d/f")
	r.mkdir("d/f/deep")
	r.mv("was", "d/f/deep/f")
	r.mv("d/sub/g", "d/f/g")
	r.rm("d/sub")
	r.put("d/sub", []byte("a file where a directory was"))
	r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
	r.same("restored", r.image("/"), want)
	if r.path("d/f").Ino != f || r.path("d/sub/g").Ino != g {
		t.Error("files that were there still were made anew")
	}
	r.check()
}

// A file that is written twice within one tick of the clock has the times that it
// had, and another content.
func TestRestoreWhileTheClockStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{})
		r.put("f", noise(1, 50_000))
		want := r.image("/")
		r.snapshot("s")
		r.put("f", noise(2, 50_000))
		r.ok(r.fs.Syncfs(r.ctx))
		r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
		r.same("restored", r.image("/"), want)
		r.check()
	})
}

// TestRestoreSizeOfHoles: files of holes only, which differ in nothing but their
// size, as their times were set, get it back.
func TestRestoreSizeOfHoles(t *testing.T) {
	r := newRig(t, rigOptions{})
	at := time.Unix(1_700_000_000, 0)
	sizes := func(sizes map[string]int64) {
		for name, size := range sizes {
			f, err := r.fs.Resolve(r.ctx, fsapi.Root, "/"+name, true)
			r.ok(err)
			_, err = r.fs.Setattr(r.ctx, fsapi.Root, f.Ino, vfs.SetAttr{Size: &size, Mtime: &at})
			r.ok(err)
		}
		r.ok(r.fs.Syncfs(r.ctx))
	}
	for _, name := range []string{"cut", "grown"} {
		r.put(name, nil)
	}
	sizes(map[string]int64{"cut": 100_000, "grown": 0})
	want := r.image("/")
	r.snapshot("s")
	sizes(map[string]int64{"cut": 0, "grown": 28_672})
	r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
	r.same("restored", r.image("/"), want)
	r.check()
}

func TestRestoreOfWhatIsGone(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.furnish()
	want := r.image("/d")
	r.snapshot("s")
	r.rm("d/large", "d/small", "d/link", "d/hard", "d/sub/f", "d/sub/deep/g", "d/sub/deep", "d/sub", "d")
	r.restore(vfs.RestoreSnapshot{Snapshot: "s", Path: "/d"})
	// The third name of one file is outside what is restored, and stays as it
	// is: those within are of a file of their own.
	for p, text := range want {
		want[p] = strings.ReplaceAll(text, "links 3", "links 2")
	}
	r.same("restored", r.image("/d"), want)
	r.check()
}

func TestRestoreOneFile(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.furnish()
	r.snapshot("s")
	was := r.image("/d/sub/deep/g")
	ino := r.path("d/sub/deep/g").Ino
	r.put("d/sub/deep/g", []byte("changed"))
	r.put("d/other", []byte("other"))
	r.restore(vfs.RestoreSnapshot{Snapshot: "s", Path: "d/sub/deep/g"})
	r.same("in place", r.image("/d/sub/deep/g"), was)
	if now := r.path("d/sub/deep/g").Ino; now != ino {
		t.Errorf("it was inode %d and is %d", ino, now)
	}
	r.path("d/other") // as it is
	r.rm("d/sub/deep/g", "d/sub/deep")
	r.restore(vfs.RestoreSnapshot{Snapshot: "s", Path: "d/sub/deep/g"})
	r.same("with the directory above it", r.image("/d/sub/deep/g"), was)
	r.restore(vfs.RestoreSnapshot{Snapshot: "s", Path: "d/sub/deep/g", To: "/copy"})
	r.same("a copy", r.image("/copy"), was)
	_, err := r.fs.RestoreSnapshot(r.ctx, fsapi.Root, vfs.RestoreSnapshot{Snapshot: "s", Path: "d/small", To: "/copy"}, nil)
	r.fails(fsapi.Exist, err)
	_, err = r.fs.RestoreSnapshot(r.ctx, fsapi.Root, vfs.RestoreSnapshot{Snapshot: "s", Path: "nothing"}, nil)
	r.fails(fsapi.NotExist, err)
	r.check()
}

// What is restored while it is open is seen by who has it open.
func TestRestoreBeneathOpenFiles(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.create("f")
	r.write(f, noise(1, 50_000), 0)
	r.snapshot("s")
	r.write(f, noise(2, 70_000), 10_000)
	r.restore(vfs.RestoreSnapshot{Snapshot: "s"})
	r.wants(f, noise(1, 50_000))
	r.write(f, []byte("more"), 50_000)
	r.wants(f, append(noise(1, 50_000), "more"...))
	r.ok(f.Close())
	r.check()
}

func TestCloneSharesAndIsApart(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.furnish()
	want := r.image("/d")
	used := func() int64 {
		var live int64
		r.ok(r.meta.Segments(r.ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool { live += u.Live; return true }))
		j, err := r.meta.JournalBytes(r.ctx)
		r.ok(err)
		return live + j
	}
	r.ok(r.fs.Syncfs(r.ctx))
	before := used()
	_, err := r.fs.Clone(r.ctx, fsapi.Root, "/d", "/e/clone", nil)
	r.ok(err)
	if now := used(); now != before {
		t.Errorf("a clone stored %d bytes", now-before)
	}
	// The third name of one file is outside: a clone has those within.
	for p, text := range want {
		want[p] = strings.ReplaceAll(text, "links 3", "links 2")
	}
	got := r.image("/e/clone")
	r.same("the clone", got, want)
	r.check()
	r.put("e/clone/large", noise(7, 4000))
	r.rm("e/clone/sub/deep/g")
	r.setxattr("e/clone/small", "user.label", "clone")
	if text := r.image("/d")["/small"]; !strings.Contains(text, `user.label="then"`) {
		t.Errorf("the original changed: %s", text)
	}
	_, err = r.fs.Clone(r.ctx, fsapi.Root, "/d", "/e/clone", nil)
	r.fails(fsapi.Exist, err)
	r.snapshot("s")
	r.rm("d/large")
	_, err = r.fs.Clone(r.ctx, fsapi.Root, vfs.VirtualName+"/snapshots/s/d", "/then", nil)
	r.ok(err)
	r.same("a clone of a snapshot", r.image("/then"), want)
	_, err = r.fs.Clone(r.ctx, fsapi.Root, vfs.VirtualName+"/stats", "/stats", nil)
	r.fails(fsapi.Invalid, err)
	list, err := r.fs.Snapshots(r.ctx)
	r.ok(err)
	for _, s := range list {
		if !s.Deleting && s.Name != "s" {
			t.Errorf("snapshot %s was left", s.Name)
		}
	}
	r.check()
}
