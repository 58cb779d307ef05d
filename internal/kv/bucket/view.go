package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/osfs"
)

// generation is the tables of one manifest with the journal applied to them, open
// until nobody reads them.
type generation struct {
	tables   *pebble.Tables
	tier     *tier
	manifest ref
	dir      string
	fs       osfs.FS
	refs     int // guarded by views.mu
}

// views is kv.Store for a follower: of its generations the newest is read and
// written; earlier ones close with their last reader.
type views struct {
	mu  sync.Mutex
	cur *generation // guarded by mu
	err error       // of closing earlier ones; guarded by mu
}

var _ kv.Store = (*views)(nil)

func (v *views) current() *generation {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cur
}

// acquire keeps the newest generation open until release.
func (v *views) acquire() *generation {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cur.refs++
	return v.cur
}

func (v *views) release(g *generation) {
	v.mu.Lock()
	g.refs--
	last := g.refs == 0
	v.mu.Unlock()
	if !last {
		return
	}
	err := g.close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = errors.Join(v.err, err)
}

// replace makes g the newest generation. It holds one reference for that.
func (v *views) replace(g *generation) {
	g.refs = 1
	v.mu.Lock()
	old := v.cur
	v.cur = g
	v.mu.Unlock()
	if old != nil {
		v.release(old)
	}
}

func (g *generation) close() error {
	err := errors.Join(g.tables.Close(), g.tier.close(), g.fs.RemoveAll(g.dir))
	return fsapi.Wrap(fsapi.IO, err, "kv: close "+g.dir)
}

// Apply implements kv.Store.
func (v *views) Apply(c kv.Commit) error { return v.current().tables.Apply(c) }

// Admit implements kv.Store.
func (v *views) Admit(ctx context.Context) error { return v.current().tables.Admit(ctx) }

// Sync implements kv.Store.
func (v *views) Sync() error { return nil }

// Stats implements kv.Store.
func (v *views) Stats() kv.Stats {
	g := v.acquire()
	defer v.release(g)
	return g.tables.Stats()
}

// NewReader implements kv.Store.
func (v *views) NewReader() (kv.StoreReader, error) {
	g := v.acquire()
	r, err := g.tables.NewReader()
	if err != nil {
		v.release(g)
		return nil, err
	}
	return &viewReader{StoreReader: r, v: v, g: g}, nil
}

// Close implements kv.Store.
func (v *views) Close() error {
	v.release(v.current())
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// viewReader lets go of its generation.
type viewReader struct {
	kv.StoreReader
	v *views
	g *generation
}

// Close implements kv.StoreReader.
func (r *viewReader) Close() error {
	err := r.StoreReader.Close()
	r.v.release(r.g)
	return err
}

// generationDir is a directory for the n-th generation of a follower.
func generationDir(dir string, n int) string { return fmt.Sprintf("%s/view-%d", dir, n) }
