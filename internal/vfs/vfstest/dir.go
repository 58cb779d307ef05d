package vfstest

import (
	"fmt"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func dirTests() []test {
	return []test{
		{"readdir/dots first, types and numbers", dirEntries},
		{"readdir/attributes", dirAttributes},
		{"readdir/resumed after every entry", dirResume},
		{"readdir/while names come and go", dirConcurrent},
		{"readdir/after the name of the cookie went", dirCookieGone},
		{"readdir/after the name of another handle's cookie went", dirCookieLost},
		{"readdir/large directory", dirLarge},
		{"readdir/permission and handles", dirHandles},
		{"fsync/of a directory", dirSync},
	}
}

func dirEntries(e *env) {
	d := e.dir(root, "d", 0o755)
	want := map[string]fsapi.FileType{".": fsapi.TypeDirectory, "..": fsapi.TypeDirectory}
	inos := map[string]fsapi.Ino{".": d, "..": root}
	for typ := fsapi.TypeRegular; typ <= fsapi.TypeSocket; typ++ {
		name := fmt.Sprint("n", typ)
		target := ""
		if typ == fsapi.TypeSymlink {
			target = "x"
		}
		inos[name] = e.mk(fsapi.Root, d, name, vfs.NewNode{Type: typ, Mode: 0o644, Target: target}).Ino
		want[name] = typ
	}
	list := e.entries(d, false)
	e.equal("first names", []string{list[0].Name, list[1].Name}, []string{".", ".."})
	cookies := map[uint64]bool{}
	for i, en := range list {
		e.equal("type of "+en.Name, en.Type, want[en.Name])
		e.equal("number of "+en.Name, en.Ino, inos[en.Name])
		if cookies[en.Cookie] || en.Cookie == 0 || i > 1 && en.Cookie <= 2 {
			e.Fatalf("%q has cookie %d", en.Name, en.Cookie)
		}
		cookies[en.Cookie] = true
	}
	e.equal("entries", len(list), len(want))
}

func dirAttributes(e *env) {
	d := e.dir(root, "d", 0o755)
	f := e.file(d, "f", 0o640)
	e.put(f, []byte("12345"))
	e.link(f, root, "g")
	e.symlink(d, "l", "target")
	e.dir(d, "sub", 0o700)
	for _, en := range e.entries(d, true) {
		e.equal("attributes of "+en.Name, still(en.Attr), still(e.attr(en.Ino)))
	}
}

// fill makes n files and returns their sorted names.
func (e *env) fill(d fsapi.Ino, prefix string, n int) []string {
	e.Helper()
	var names []string
	for i := range n {
		name := fmt.Sprintf("%s%04d", prefix, i)
		e.file(d, name, 0o644)
		names = append(names, name)
	}
	return names
}

func dirResume(e *env) {
	d := e.dir(root, "d", 0o755)
	e.fill(d, "f", 20)
	all := e.entries(d, false)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	defer h.Close()
	for i, from := range all {
		var rest []fsapi.Dirent
		e.ok(h.Read(e.ctx, from.Cookie, false, func(en fsapi.Dirent) bool { rest = append(rest, en); return true }))
		e.equal("entries after "+from.Name, rest, append([]fsapi.Dirent(nil), all[i+1:]...))
	}
}

// page reads up to n entries after cookie.
func (e *env) page(h vfs.Dir, cookie uint64, n int) []fsapi.Dirent {
	e.Helper()
	var list []fsapi.Dirent
	e.ok(h.Read(e.ctx, cookie, false, func(en fsapi.Dirent) bool {
		list = append(list, en)
		return len(list) < n
	}))
	return list
}

func dirConcurrent(e *env) {
	d := e.dir(root, "d", 0o755)
	stay := e.fill(d, "stay", 100)
	go1 := e.fill(d, "go", 100)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	defer h.Close()
	seen := map[string]int{}
	cookie := uint64(0)
	for round := 0; ; round++ {
		list := e.page(h, cookie, 7)
		if len(list) == 0 {
			break
		}
		for _, en := range list {
			seen[en.Name]++
			cookie = en.Cookie
		}
		for range 3 {
			if len(go1) > 0 {
				e.unlink(d, go1[0])
				go1 = go1[1:]
			}
		}
		if round < 100 {
			e.file(d, fmt.Sprint("new", round), 0o644)
		}
	}
	for _, name := range append(stay, ".", "..") {
		e.equal("times "+name+" was seen", seen[name], 1)
	}
	for name, n := range seen {
		if n > 1 {
			e.Errorf("%q was seen %d times", name, n)
		}
	}
}

func dirCookieGone(e *env) {
	d := e.dir(root, "d", 0o755)
	e.fill(d, "f", 10)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	defer h.Close()
	all := e.page(h, 0, 100)
	for i := 5; i < len(all); i++ {
		e.unlink(d, all[i].Name)
		e.equal("entries after one that went", e.page(h, all[i].Cookie, 100), append([]fsapi.Dirent(nil), all[i+1:]...))
	}
}

func dirCookieLost(e *env) {
	d := e.dir(root, "d", 0o755)
	e.fill(d, "f", 10)
	all := e.entries(d, false)
	e.unlink(d, all[5].Name)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	defer h.Close()
	e.equal("entries after one that went", e.page(h, all[5].Cookie, 100), all[6:])
}

func dirLarge(e *env) {
	d := e.dir(root, "d", 0o755)
	want := e.fill(d, "f", 3000)
	e.equal("names", e.names(d), want)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	defer h.Close()
	var got []string
	cookie := uint64(0)
	for list := e.page(h, 0, 97); len(list) > 0; list = e.page(h, cookie, 97) {
		for _, en := range list {
			got = append(got, en.Name)
		}
		cookie = list[len(list)-1].Cookie
	}
	got = got[2:]
	slices.Sort(got)
	e.equal("names by pages", got, want)
	for _, name := range want {
		e.unlink(d, name)
	}
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, root, "d"))
}

func dirHandles(e *env) {
	d := e.dir(root, "d", 0o311)
	_, err := e.fs.OpenDir(e.ctx, alice(), d)
	e.fails(fsapi.Access, err)
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, d)
	e.ok(err)
	e.file(d, "f", 0o644)
	e.equal("entries made after opening", len(e.page(h, 0, 10)), 3)
	e.ok(h.Close())
	err = h.Read(e.ctx, 0, false, func(fsapi.Dirent) bool { return true })
	e.fails(fsapi.BadHandle, err)
}

func dirSync(e *env) {
	h, err := e.fs.OpenDir(e.ctx, fsapi.Root, root)
	e.ok(err)
	e.file(root, "f", 0o644)
	e.ok(h.Sync(e.ctx))
	e.ok(h.Close())
}
