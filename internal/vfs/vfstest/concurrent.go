package vfstest

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func concurrentTests() []test {
	return []test{
		{"concurrent/one exclusive creation wins", concurrentExclusive},
		{"concurrent/one rename wins", concurrentRename},
		{"concurrent/appends do not mix", concurrentAppend},
		{"concurrent/links count", concurrentLinks},
		{"concurrent/writers of one file", concurrentWriters},
		{"concurrent/directories stay a tree", concurrentTree},
		{"concurrent/everything at once", concurrentHammer},
	}
}

const workers = 8

// together runs do in several goroutines at once and waits for them.
func (e *env) together(do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range workers {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// winners runs do in several goroutines and wants all but one to fail with a
// kind.
func (e *env) winners(lose fsapi.Kind, do func(i int) error) {
	e.Helper()
	errs := make([]error, workers)
	e.together(func(i int) { errs[i] = do(i) })
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if fsapi.KindOf(err) != lose {
			e.Errorf("lost with %v (%v), want %q", err, fsapi.KindOf(err), lose)
		}
	}
	e.equal("winners", won, 1)
}

func concurrentExclusive(e *env) {
	for round := range 20 {
		name := fmt.Sprint("f", round)
		e.winners(fsapi.Exist, func(int) error {
			_, f, err := e.fs.Create(e.ctx, fsapi.Root, root, name, vfs.NewNode{Mode: 0o644}, rw|vfs.OpenExcl)
			if err == nil {
				err = f.Close()
			}
			return err
		})
		e.winners(fsapi.NotExist, func(int) error { return e.fs.Unlink(e.ctx, fsapi.Root, root, name) })
	}
}

func concurrentRename(e *env) {
	for round := range 20 {
		f := e.file(root, "f", 0o644)
		e.winners(fsapi.NotExist, func(i int) error { return e.rename(root, "f", root, fmt.Sprint("to", i), 0) })
		names := e.names(root)
		e.equal("names", len(names), 1)
		e.equal("number", e.lookup(root, names[0]), f)
		e.unlink(root, names[0])
		e.equal("round", round, round)
	}
}

func concurrentAppend(e *env) {
	const rounds = 50
	f := e.file(root, "f", 0o644)
	e.together(func(i int) {
		h, err := e.fs.Open(e.ctx, fsapi.Root, f, vfs.OpenWrite|vfs.OpenAppend)
		if err != nil {
			e.Error(err)
			return
		}
		for range rounds {
			if _, err := h.WriteAt(e.ctx, bytes.Repeat([]byte{byte('a' + i)}, 100), 0); err != nil {
				e.Error(err)
			}
			if i == 0 {
				_ = h.Sync(e.ctx, false)
			}
		}
		_ = h.Close()
	})
	data := e.get(f)
	e.equal("size", len(data), workers*rounds*100)
	count := map[byte]int{}
	for ; len(data) > 0; data = data[100:] {
		if !bytes.Equal(data[:100], bytes.Repeat(data[:1], 100)) {
			e.Fatalf("appends are mixed: %q", data[:100])
		}
		count[data[0]]++
	}
	for i := range workers {
		e.equal("appends", count[byte('a'+i)], rounds)
	}
}

func concurrentLinks(e *env) {
	f := e.file(root, "f", 0o644)
	e.together(func(i int) {
		for round := range 20 {
			name := fmt.Sprintf("l%d-%d", i, round)
			if _, err := e.fs.Link(e.ctx, fsapi.Root, f, root, name); err != nil {
				e.Error(err)
			}
			if round%2 == 0 {
				if err := e.fs.Unlink(e.ctx, fsapi.Root, root, name); err != nil {
					e.Error(err)
				}
			}
		}
	})
	e.equal("links", e.attr(f).Nlink, uint32(1+workers*10))
	e.equal("names", len(e.names(root)), 1+workers*10)
}

// concurrentWriters: each owns every eighth block of 5000 bytes.
func concurrentWriters(e *env) {
	const block, blocks = 5000, 160
	f := e.file(root, "f", 0o644)
	e.together(func(i int) {
		h, err := e.fs.Open(e.ctx, fsapi.Root, f, rw)
		if err != nil {
			e.Error(err)
			return
		}
		for b := i; b < blocks; b += workers {
			want := pattern(block, byte(b))
			if _, err := h.WriteAt(e.ctx, want, int64(b*block)); err != nil {
				e.Error(err)
			}
			if b%5 == 0 {
				if err := h.Sync(e.ctx, true); err != nil {
					e.Error(err)
				}
			}
			got := make([]byte, block)
			if n, err := h.ReadAt(e.ctx, got, int64(b*block)); err != nil || !bytes.Equal(got[:n], want) {
				e.Errorf("block %d reads back differently, %v", b, err)
			}
		}
		_ = h.Close()
	})
	var want []byte
	for b := range blocks {
		want = append(want, pattern(block, byte(b))...)
	}
	e.holds(f, want)
	e.ok(e.fs.Syncfs(e.ctx))
	e.holds(f, want)
}

// concurrentTree moves directories into each other: none may end up below
// itself, which would take it out of the tree.
func concurrentTree(e *env) {
	dirs := []fsapi.Ino{root}
	for i := range workers {
		dirs = append(dirs, e.dir(root, fmt.Sprint("d", i), 0o755))
	}
	e.together(func(i int) {
		for round := range 30 {
			mine := dirs[i+1]
			from, name, err := e.fs.Parent(e.ctx, mine)
			if err != nil {
				e.Error(err)
				return
			}
			to := dirs[(i*7+round*3)%len(dirs)]
			err = e.rename(from, name, to, name, 0)
			if k := fsapi.KindOf(orOther(err)); err != nil && k != fsapi.Invalid && k != fsapi.NotEmpty && k != fsapi.NotExist {
				e.Errorf("rename: %v (%v)", err, k)
			}
		}
	})
	count := 0
	e.visit(root, func(fsapi.Dirent) { count++ })
	e.equal("directories in the tree", count, workers)
	for _, d := range dirs[1:] {
		if _, err := vfs.PathOf(e.ctx, e.fs, d); err != nil {
			e.Error(err)
		}
	}
}

// orOther is err, or an error of no kind for nil.
func orOther(err error) error {
	if err == nil {
		return fsapi.Other
	}
	return err
}

// visit calls fn for everything below a directory.
func (e *env) visit(d fsapi.Ino, fn func(fsapi.Dirent)) {
	e.Helper()
	for _, en := range e.entries(d, false) {
		if en.Name == "." || en.Name == ".." {
			continue
		}
		fn(en)
		if en.Type == fsapi.TypeDirectory {
			e.visit(en.Ino, fn)
		}
	}
}

// concurrentHammer has all kinds of calls meet on a few names; afterwards link
// counts, names and numbers must agree.
func concurrentHammer(e *env) {
	d := e.dir(root, "d", 0o755)
	e.together(func(i int) {
		for round := range 60 {
			e.hammer(d, uint32(i*1000+round))
		}
	})
	links := map[fsapi.Ino]uint32{}
	for _, en := range e.entries(d, true) {
		if en.Name != "." && en.Name != ".." {
			links[en.Ino]++
			e.equal("number of "+en.Name, e.lookup(d, en.Name), en.Ino)
		}
	}
	for ino, n := range links {
		e.equal(fmt.Sprint("links of ", ino), e.attr(ino).Nlink, n)
	}
	e.equal("links of the directory", e.attr(d).Nlink, uint32(2))
}

// hammer does one thing to one of few names; failing is fine.
func (e *env) hammer(d fsapi.Ino, x uint32) {
	x = x*2654435761 + 1
	a, b := fmt.Sprint("n", x>>8%5), fmt.Sprint("n", x>>16%5)
	switch x >> 24 % 6 {
	case 0:
		if _, f, err := e.fs.Create(e.ctx, fsapi.Root, d, a, vfs.NewNode{Mode: 0o644}, rw); err == nil {
			_, _ = f.WriteAt(e.ctx, pattern(1000, byte(x)), int64(x%5000))
			_ = f.Close()
		}
	case 1:
		_ = e.fs.Unlink(e.ctx, fsapi.Root, d, a)
	case 2:
		_ = e.rename(d, a, d, b, vfs.RenameFlags(x%3))
	case 3:
		if at, err := e.fs.Lookup(e.ctx, fsapi.Root, d, a); err == nil {
			_, _ = e.fs.Link(e.ctx, fsapi.Root, at.Ino, d, b)
		}
	case 4:
		if at, err := e.fs.Lookup(e.ctx, fsapi.Root, d, a); err == nil {
			_ = e.truncate(fsapi.Root, at.Ino, int64(x%3000))
		}
	case 5:
		_ = e.fs.Syncfs(e.ctx)
	}
}
