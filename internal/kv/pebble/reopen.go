package pebble

import (
	"io"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a guard does for a directory that is opened again and again while it
// fails, and while a database before this one is read.

// Lock implements vfs.FS: the store holds the lock, for one database after the
// other.
func (g *guard) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// note remembers a file that opening made.
func (g *guard) note(name string) {
	if g.opened.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made = append(g.made, name)
}

// clean removes what a failed opening made, so that attempts on a full disk do
// not fill what is left of it. Where the opening came as far as to put its own
// manifest in place, its files count.
func (g *guard) clean() {
	g.freeze()
	g.mu.Lock()
	defer g.mu.Unlock()
	isMarker := func(name string) bool { return strings.HasPrefix(path.Base(name), markerPrefix) }
	if slices.ContainsFunc(g.made, isMarker) {
		return
	}
	for _, name := range g.made {
		_ = g.FS.Remove(name) // what is left, the next Open removes
	}
}

// hold puts off removing a table, if it must be, until letGo.
func (g *guard) hold(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.holding || !isTable(name) || g.err != nil {
		return false
	}
	g.held = append(g.held, name)
	return true
}

// letGo removes what was put off: no database before this one is read any more.
func (g *guard) letGo() {
	g.mu.Lock()
	held := g.held
	g.holding, g.held = false, nil
	g.mu.Unlock()
	for _, name := range held {
		_ = g.Remove(name) // what is left, the next Open removes
	}
}

// List implements vfs.FS. Pebble reads the directory again at the end of Open,
// where it does not bear an error: work in the background has begun.
func (g *guard) List(name string) ([]string, error) {
	names, err := g.FS.List(name)
	g.mu.Lock()
	before := g.listed
	if name == g.dir && err == nil {
		g.listed = names
	}
	g.mu.Unlock()
	if err == nil || g.opened.Load() || name != g.dir || before == nil {
		return names, err
	}
	g.fail(err)
	return before, nil
}

// createAside makes a table in memory where the guard was frozen while opening:
// Pebble would try for ever to write it.
func (g *guard) createAside(name string) (vfs.File, error) {
	if g.opened.Load() || !isTable(name) || g.failure() == nil {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.aside == nil {
		g.aside = vfs.NewMem()
	}
	return g.aside.Create(path.Base(name), vfs.WriteCategoryUnspecified)
}

// besides is where tables are that were made aside, or nil.
func (g *guard) besides(name string) vfs.FS {
	if !isTable(name) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.aside == nil {
		return nil
	}
	if _, err := g.aside.Stat(path.Base(name)); err != nil {
		return nil
	}
	return g.aside
}

// Open implements vfs.FS.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if m := g.besides(name); m != nil {
		return m.Open(path.Base(name), opts...)
	}
	return g.FS.Open(name, opts...)
}

// Stat implements vfs.FS.
func (g *guard) Stat(name string) (vfs.FileInfo, error) {
	if m := g.besides(name); m != nil {
		return m.Stat(path.Base(name))
	}
	return g.FS.Stat(name)
}
