package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/door/fuse"
	"github.com/strakefs/strake/internal/fsapi"
)

// mount is one FUSE mount of this process.
type mount struct {
	dir    string
	volume string
	server *fuse.Server
}

// mounts is the table of mounts. Safe for concurrent use.
type mounts struct {
	s    *server
	mu   sync.Mutex
	open map[string]mount // by directory; guarded by mu
}

func newMounts(s *server) *mounts { return &mounts{s: s, open: map[string]mount{}} }

// mount mounts a volume ("" is the default one) at dir, made if missing.
func (m *mounts) mount(volume, dir string, allowOther bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "find mount directory "+dir)
	}
	fs, name, err := m.s.n.volumes.Volume(volume)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.open[dir]; ok {
		return fsapi.Errorf(fsapi.Busy, "%s is mounted already", dir)
	}
	if rel, err := filepath.Rel(m.s.n.at.dir, dir); err == nil && !strings.HasPrefix(rel, "..") {
		return fsapi.Errorf(fsapi.Invalid, "mount directory %s lies inside the data directory: choose another", dir)
	}
	c := &m.s.n.cfg.Fuse
	o := fuse.Options{
		FS: fs, Dir: dir, Door: "fuse:" + dir, AllowOther: allowOther, Writeback: c.Writeback,
		EntryTimeout: orNever(c.EntryTimeout), AttrTimeout: orNever(c.AttrTimeout), ReadAhead: int64(c.ReadAhead), Log: m.s.log,
	}
	if m.s.n.follow != nil {
		o.ReadOnly, o.NegativeTimeout = true, followTimeout
		o.EntryTimeout, o.AttrTimeout = min(o.EntryTimeout, followTimeout), min(o.AttrTimeout, followTimeout)
	}
	srv, err := fuse.Mount(o)
	if err != nil {
		return err
	}
	m.open[dir] = mount{dir, name, srv}
	return nil
}

func (m *mounts) umount(ctx context.Context, dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.open[dir]
	if !ok {
		return fsapi.Errorf(fsapi.NotExist, "this server has no mount at %s", dir)
	}
	if err := o.server.Unmount(ctx); err != nil {
		return err
	}
	delete(m.open, dir)
	return nil
}

func (m *mounts) closeAll(ctx context.Context) error {
	var errs []error
	for _, o := range m.list() {
		errs = append(errs, m.umount(ctx, o.dir))
	}
	return errors.Join(errs...)
}

func (m *mounts) list() []mount {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []mount
	for _, o := range m.open {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b mount) int { return strings.Compare(a.dir, b.dir) })
	return out
}

// check reports a mount that was taken down behind our back. It asks the
// kernel's table, not the mount itself, which might wait.
func (m *mounts) check() error {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil // not Linux: nothing to ask
	}
	for _, o := range m.list() {
		if !strings.Contains(string(table), " "+escapeMount(o.dir)+" ") {
			return fsapi.Errorf(fsapi.NoDevice, "%s is not mounted any more", o.dir)
		}
	}
	return nil
}

// escapeMount writes a path as /proc/self/mounts does (getmntent(3)).
func escapeMount(dir string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(dir)
}

func (m *mounts) refuseMounted(volume string) error {
	for _, o := range m.list() {
		if o.volume == volume {
			return fsapi.Errorf(fsapi.Busy, "volume %s is mounted at %s: strake umount it first", volume, o.dir)
		}
	}
	return nil
}

func (s *server) mountReq(_ context.Context, req api.MountReq) (api.Empty, error) {
	if !filepath.IsAbs(req.Dir) {
		return api.Empty{}, fsapi.Errorf(fsapi.Invalid, "dir %q is not an absolute path", req.Dir)
	}
	return api.Empty{}, s.mounts.mount(req.Volume, req.Dir, req.AllowOther)
}

func (s *server) umountReq(ctx context.Context, req api.MountReq) (api.Empty, error) {
	return api.Empty{}, s.mounts.umount(ctx, req.Dir)
}
