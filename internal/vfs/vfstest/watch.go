package vfstest

import (
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

func watchTests() []test {
	return []test{
		{"watch/every kind of change", watchKinds},
		{"watch/names the door", watchDoor},
		{"watch/content ranges", watchContent},
		{"watch/failures are silent", watchFailures},
		{"watch/batches", watchBatch},
		{"watch/stop", watchStop},
	}
}

// watcher keeps what Watch delivers.
type watcher struct {
	*env
	mu   sync.Mutex
	got  []fsapi.Change // guarded by mu
	wake chan struct{}
}

func (e *env) watch() *watcher {
	w := &watcher{env: e, wake: make(chan struct{}, 1)}
	stop := e.fs.Watch(func(c fsapi.Change) {
		w.mu.Lock()
		w.got = append(w.got, c)
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
	e.Cleanup(stop)
	return w
}

// sees waits for a change that has all that want has, and forgets what came
// before it. Off and Len count where want's Kind is ChangeContent.
func (w *watcher) sees(want fsapi.Change) {
	w.Helper()
	timeout := time.After(patience)
	for {
		if w.take(want) {
			return
		}
		select {
		case <-w.wake:
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.Fatalf("change %+v does not come; there are %+v", want, w.got)
		}
	}
}

func (w *watcher) take(want fsapi.Change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.got {
		if matches(c, want) {
			w.got = w.got[i+1:]
			return true
		}
	}
	return false
}

func matches(c, want fsapi.Change) bool {
	if want.Kind == fsapi.ChangeContent {
		end, wantEnd := c.Off+c.Len, want.Off+want.Len
		covers := c.Off <= want.Off && (c.Len < 0 || want.Len >= 0 && end >= wantEnd)
		return c.Kind == want.Kind && c.Ino == want.Ino && covers
	}
	return c.Kind == want.Kind && c.Ino == want.Ino && c.Dir == want.Dir && c.Name == want.Name &&
		c.FromDir == want.FromDir && c.From == want.From && (want.Type == 0 || c.Type == want.Type)
}

func watchKinds(e *env) {
	w := e.watch()
	d := e.dir(root, "d", 0o755)
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: d, Dir: root, Name: "d", Type: fsapi.TypeDirectory})
	f := e.file(d, "f", 0o644)
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: f, Dir: d, Name: "f", Type: fsapi.TypeRegular})
	e.put(f, []byte("x"))
	w.sees(fsapi.Change{Kind: fsapi.ChangeContent, Ino: f, Off: 0, Len: 1})
	e.ok(e.chmod(fsapi.Root, f, 0o600))
	w.sees(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: f})
	e.setxattr(f, "user.a", "v")
	w.sees(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: f})
	e.link(f, root, "g")
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: f, Dir: root, Name: "g"})
	e.ok(e.rename(d, "f", root, "h", 0))
	w.sees(fsapi.Change{Kind: fsapi.ChangeRename, Ino: f, Dir: root, Name: "h", FromDir: d, From: "f"})
	e.unlink(root, "h")
	w.sees(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: f, Dir: root, Name: "h"})
	e.ok(e.fs.Rmdir(e.ctx, fsapi.Root, root, "d"))
	w.sees(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: d, Dir: root, Name: "d", Type: fsapi.TypeDirectory})
	a, b := e.file(root, "a", 0o644), e.file(root, "b", 0o644)
	e.ok(e.rename(root, "a", root, "b", vfs.RenameExchange))
	w.sees(fsapi.Change{Kind: fsapi.ChangeRename, Ino: a, Dir: root, Name: "b", FromDir: root, From: "a"})
	w.sees(fsapi.Change{Kind: fsapi.ChangeRename, Ino: b, Dir: root, Name: "a", FromDir: root, From: "b"})
	e.ok(e.rename(root, "a", root, "b", 0))
	w.sees(fsapi.Change{Kind: fsapi.ChangeRename, Ino: b, Dir: root, Name: "b", FromDir: root, From: "a"})
}

func watchDoor(e *env) {
	w := e.watch()
	c := &fsapi.Cred{Door: "mine"}
	f := e.fileOf(c, root, "f", 0o644)
	h := e.openAs(c, f, rw)
	e.write(h, []byte("x"), 0)
	e.ok(e.chmod(c, f, 0o600))
	w.sees(fsapi.Change{Kind: fsapi.ChangeAttr, Ino: f})
	e.ok(e.fs.Unlink(e.ctx, c, root, "f"))
	w2 := e.watch()
	g := e.fileOf(&fsapi.Cred{Door: "mine"}, root, "g", 0o644)
	w2.mu.Lock()
	got := append([]fsapi.Change(nil), w2.got...)
	w2.mu.Unlock()
	w2.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: g, Dir: root, Name: "g"})
	for _, ch := range got {
		if ch.Door != "mine" {
			e.Fatalf("change %+v names another door", ch)
		}
		if ch.Volume == 0 {
			e.Fatalf("change %+v names no volume", ch)
		}
	}
}

func watchContent(e *env) {
	f, g := e.file(root, "f", 0o644), e.file(root, "g", 0o644)
	w := e.watch()
	h := e.open(f, rw)
	content := func(off, n int64) {
		e.Helper()
		w.sees(fsapi.Change{Kind: fsapi.ChangeContent, Ino: f, Off: off, Len: n})
	}
	e.write(h, pattern(100, 1), 50)
	content(50, 100)
	e.ok(h.Truncate(e.ctx, 20))
	content(20, -1)
	e.ok(h.Allocate(e.ctx, vfs.AllocPunch|vfs.AllocKeepSize, 5, 10))
	content(5, 10)
	src := e.open(g, rw)
	e.write(src, pattern(10, 1), 0)
	e.copyRange(src, 0, h, 200, 10, 10)
	content(200, 10)
	e.write(h, pattern(8192, 2), 0)
	content(0, 8192)
	e.ok(h.Allocate(e.ctx, vfs.AllocCollapse, 0, 4096))
	content(0, -1)
	e.ok(e.open(f, rw|vfs.OpenTrunc).Close())
	content(0, -1)
}

func watchFailures(e *env) {
	e.file(root, "f", 0o644)
	w := e.watch()
	e.fails(fsapi.NotExist, e.fs.Unlink(e.ctx, fsapi.Root, root, "nothing"))
	e.fails(fsapi.NotDir, e.fs.Rmdir(e.ctx, fsapi.Root, root, "f"))
	e.batchFails(fsapi.NotExist, put("g", "x"), vfs.Op{Kind: vfs.OpRemove, Path: "nothing"})
	last := e.file(root, "last", 0o644)
	w.mu.Lock()
	n := len(w.got)
	w.mu.Unlock()
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: last, Dir: root, Name: "last"})
	if n > 1 {
		e.Fatalf("%d changes for what failed", n-1)
	}
}

func watchBatch(e *env) {
	w := e.watch()
	attrs := e.batch(put("f", "x"), vfs.Op{Kind: vfs.OpRename, Path: "f", To: "g"}, vfs.Op{Kind: vfs.OpMkdir, Path: "d"})
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: attrs[0].Ino, Dir: root, Name: "f"})
	w.sees(fsapi.Change{Kind: fsapi.ChangeRename, Ino: attrs[0].Ino, Dir: root, Name: "g", FromDir: root, From: "f"})
	w.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: attrs[2].Ino, Dir: root, Name: "d"})
}

func watchStop(e *env) {
	var mu sync.Mutex
	n := 0
	stop := e.fs.Watch(func(fsapi.Change) { mu.Lock(); n++; mu.Unlock() })
	other := e.watch()
	stop()
	f := e.file(root, "f", 0o644)
	other.sees(fsapi.Change{Kind: fsapi.ChangeCreate, Ino: f, Dir: root, Name: "f"})
	mu.Lock()
	defer mu.Unlock()
	e.equal("changes after stop", n, 0)
	stop()
}
