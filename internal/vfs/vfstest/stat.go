package vfstest

import (
	"github.com/strakefs/strake/internal/fsapi"
)

func statTests() []test {
	return []test{
		{"statfs/adds up", statfsSum},
		{"statfs/counts inodes", statfsInodes},
	}
}

func (e *env) statfs() fsapi.StatFS {
	e.Helper()
	s, err := e.fs.Statfs(e.ctx, root)
	e.ok(err)
	if s.Used+s.Free != s.Total || s.Avail > s.Free || s.Used < 0 || s.Avail < 0 || s.Inodes < 1 || s.InodesFree < 0 {
		e.Fatalf("does not add up: %+v", s)
	}
	return s
}

func statfsSum(e *env) {
	before := e.statfs()
	f := e.file(root, "f", 0o644)
	e.put(f, pattern(1<<20, 1))
	e.ok(e.fs.Syncfs(e.ctx))
	after := e.statfs()
	if after.Used <= before.Used {
		e.Fatalf("used stays at %d after writing a MiB", after.Used)
	}
}

func statfsInodes(e *env) {
	before := e.statfs()
	e.fill(e.dir(root, "d", 0o755), "f", 10)
	e.equal("inodes", e.statfs().Inodes-before.Inodes, int64(11))
	e.unlink(e.lookup(root, "d"), "f0003")
	e.equal("inodes", e.statfs().Inodes-before.Inodes, int64(10))
}
