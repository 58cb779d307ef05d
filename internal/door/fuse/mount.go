package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Options of Mount. FS and Dir are needed; zero values elsewhere take the
// defaults named.
type Options struct {
	FS  vfs.FS
	Dir string // where to mount; made if missing
	// Name is shown as the mount's source by df(1): "strake".
	Name string
	// Door names this mount in Change.Door and in the owners of locks: "fuse".
	// Two mounts of one volume need different names.
	Door string

	AllowOther bool // other users than the one who mounts may use it
	ReadOnly   bool
	Suid, Dev  bool // honour setuid bits and device nodes (mount(8))

	// Writeback lets the kernel hold written pages back (FUSE_WRITEBACK_CACHE).
	// Small writes are faster; other doors see them late, and times and sizes
	// are the kernel's.
	Writeback bool

	// How long the kernel trusts names, attributes and the absence of names
	// when nothing invalidates them: 5 minutes. Negative is not at all.
	EntryTimeout, AttrTimeout, NegativeTimeout time.Duration

	MaxWrite      int // bytes in a request: 1 MiB, the kernel's limit
	MaxBackground int // asynchronous requests under way: 64
	// ReadAhead is how many bytes the kernel reads ahead of a sequential
	// reader: 8 MiB. Only root may set it above 128 KiB; otherwise it stays.
	ReadAhead int64

	Log   *slog.Logger // slog.Default
	Trace bool         // log every request at debug level
}

func (o *Options) setDefaults() error {
	if o.FS == nil || o.Dir == "" {
		return fsapi.Errorf(fsapi.Invalid, "a mount needs a file system and a directory")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "mount point")
	}
	o.Dir = dir
	if o.Name == "" {
		o.Name = "strake"
	}
	if o.Door == "" {
		o.Door = "fuse"
	}
	for _, t := range []*time.Duration{&o.EntryTimeout, &o.AttrTimeout, &o.NegativeTimeout} {
		switch {
		case *t == 0:
			*t = 5 * time.Minute
		case *t < 0:
			*t = 0
		}
	}
	if o.MaxWrite == 0 {
		o.MaxWrite = 1 << 20
	}
	if o.MaxBackground == 0 {
		o.MaxBackground = 64
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = 8 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return nil
}

// maxInflight bounds the bytes of requests being read or served.
const maxInflight = 256 << 20

// mountOptions is o in go-fuse's words.
func (o *Options) mountOptions() *fuse.MountOptions {
	m := &fuse.MountOptions{
		AllowOther:               o.AllowOther,
		Options:                  []string{"default_permissions"},
		FsName:                   o.Name,
		Name:                     "strake",
		MaxWrite:                 o.MaxWrite,
		MaxReadAhead:             o.MaxWrite,
		MaxBackground:            o.MaxBackground,
		MaxInflightRequestBytes:  maxInflight,
		EnableLocks:              true,
		EnableAcl:                true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true, // what is read was decrypted in memory
		Debug:                    o.Trace,
		Logger:                   slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ExtraCapabilities: fuse.CAP_DONT_MASK | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_READDIRPLUS_AUTO |
			fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_ASYNC_DIO |
			fuse.CAP_DIRECT_IO_ALLOW_MMAP,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT,
	}
	m.PanicHandler = func(v any) fuse.Status {
		o.Log.Error("a request panicked: this is a defect", "panic", v, "stack", stack())
		return fuse.EIO
	}
	if o.Writeback {
		m.ExtraCapabilities |= fuse.CAP_WRITEBACK_CACHE
	}
	if o.ReadOnly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

// Server is a mounted volume. Safe for concurrent use.
type Server struct {
	r      *raw
	link   link
	conn   string // the connection's name in fusectl; "" where not known
	unlook func() // ends the watch
	served chan struct{}

	unmount sync.Mutex // one at a time
	gone    bool       // guarded by unmount
	giveUp  sync.Once
}

// Mount mounts o.FS on o.Dir and serves it until Unmount, or until somebody
// else unmounts it. What a dead server left mounted there is unmounted first.
// fsapi.Busy where another Strake is mounted there already.
func Mount(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if err := prepare(o.Dir); err != nil {
		return nil, err
	}
	r := &raw{o: o, fs: o.FS, log: o.Log, creds: creds{door: o.Door}, gaveUp: make(chan struct{})}
	s := &Server{r: r, served: make(chan struct{})}
	r.inval = newInvalidator(&s.link, o.Door)
	if err := s.mount(); err != nil {
		return nil, err
	}
	s.unlook = o.FS.Watch(r.inval.changed)
	go r.inval.run()
	go func() {
		defer close(s.served)
		s.link.fuse.Serve()
	}()
	if err := s.warm(); err != nil {
		return nil, errors.Join(err, s.Unmount(context.Background()))
	}
	return s, nil
}

// mount makes the mount and shakes hands with the kernel.
func (s *Server) mount() error {
	o, m := &s.r.o, s.r.o.mountOptions()
	at := o.Dir
	if os.Geteuid() == 0 {
		dev, err := openDevice(o, m)
		if err != nil {
			return err
		}
		s.link.dev = dev
		at = fmt.Sprintf("/dev/fd/%d", dev.give())
	}
	srv, err := fuse.NewServer(s.r, at, m)
	if err != nil {
		if s.link.dev != nil {
			s.link.dev.close()
			_ = unix.Unmount(o.Dir, unix.MNT_DETACH)
		}
		return fsapi.Wrap(fsapi.IO, err, "mounting on "+o.Dir)
	}
	s.link.fuse = srv
	return nil
}

// warm does, once requests are served, what needs the mount.
func (s *Server) warm() error {
	if err := stopPolling(s.r.o.Dir); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "first request to "+s.r.o.Dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.r.o.Dir, &st); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "first request to "+s.r.o.Dir)
	}
	s.conn = strconv.FormatUint(uint64(unix.Minor(st.Dev)), 10)
	if err := setReadAhead(st.Dev, s.r.o.ReadAhead); err != nil {
		s.r.log.Debug("read-ahead stays at the kernel's default", "dir", s.r.o.Dir, "err", err)
	}
	return nil
}

// stopPolling makes the kernel learn that there is no POLL. Were the first poll
// of a file here this process's own, its scheduler could wait for an answer
// that it is to give itself. The name is go-fuse's.
func stopPolling(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err
}

// setReadAhead raises what the kernel reads ahead on this mount
// (Documentation/ABI/testing/sysfs-class-bdi).
func setReadAhead(dev uint64, n int64) error {
	f := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev))
	return os.WriteFile(f, fmt.Appendf(nil, "%d", n>>10), 0)
}

// Dir is where the volume is mounted, as an absolute path.
func (s *Server) Dir() string { return s.r.o.Dir }

// Wait returns when the mount has ended.
func (s *Server) Wait() { <-s.served }

// Done is closed when the mount has ended.
func (s *Server) Done() <-chan struct{} { return s.served }

// Settle returns when the kernel knows of everything other doors did before the
// call.
func (s *Server) Settle(ctx context.Context) error { return s.r.inval.settle(ctx) }

// cutOff is how long the kernel may take to end a connection that was aborted.
const cutOff = 10 * time.Second

// Unmount ends the mount and returns when no request is being served any more.
// While files are open there it tries until ctx ends, then detaches the mount
// and cuts its users off: they see ENOTCONN. It may be called again. fsapi.Busy
// where even that did not end the connection.
func (s *Server) Unmount(ctx context.Context) error {
	s.unmount.Lock()
	defer s.unmount.Unlock()
	if s.gone {
		return nil
	}
	if !s.detach(ctx) {
		if err := s.abort(); err != nil {
			return err
		}
	}
	s.unlook()
	close(s.r.inval.stop)
	<-s.r.inval.done
	if s.link.dev != nil {
		s.link.dev.close()
	}
	s.gone = true
	return nil
}

// detach unmounts once nobody uses the mount, and reports whether that came to
// pass before ctx ended.
func (s *Server) detach(ctx context.Context) bool {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		var retry <-chan time.Time
		if err := unmountOnce(s.r.o.Dir, s.link.fuse); err != nil {
			retry = time.After(wait)
		} // else another mount namespace may still hold it: wait only
		select {
		case <-s.served:
			return true
		case <-retry:
		case <-ctx.Done():
			return false
		}
	}
}

// abort ends the connection whoever uses it (Documentation/filesystems/fuse.rst,
// "Aborting a filesystem connection"), and every patient call.
func (s *Server) abort() error {
	dir := s.r.o.Dir
	s.r.log.Warn("files are still open: cutting their users off", "dir", dir)
	s.giveUp.Do(func() { close(s.r.gaveUp) })
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.MNT_FORCE)
	if err != nil && os.Geteuid() != 0 {
		err = fusermountLazy(dir)
	}
	if s.conn != "" {
		// A detached mount is out of reach of umount2(2), as is that of another mount
		// namespace.
		err = errors.Join(err, abortConnection(s.conn))
	}
	select {
	case <-s.served:
		return nil
	case <-time.After(cutOff):
		return fsapi.Wrap(fsapi.Busy, errors.Join(errors.New("the connection did not end: a process or another mount namespace holds it"), err), "unmounting "+dir)
	}
}

// abortConnection ends a connection by fusectl, which is mounted for it where nobody
// has done so.
func abortConnection(name string) error {
	file := func(at string) string { return filepath.Join(at, name, "abort") }
	err := os.WriteFile(file("/sys/fs/fuse/connections"), []byte("1"), 0)
	if err == nil || !errors.Is(err, unix.ENOENT) || os.Geteuid() != 0 {
		return err
	}
	at, err := os.MkdirTemp("", "strake-fusectl")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(at) }()
	if err := unix.Mount("none", at, "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }()
	err = os.WriteFile(file(at), []byte("1"), 0)
	if errors.Is(err, unix.ENOENT) { // it has ended
		return nil
	}
	return err
}

// unmountOnce unmounts dir if nobody uses it.
func unmountOnce(dir string, f *fuse.Server) error {
	if os.Geteuid() != 0 {
		return f.Unmount()
	}
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) { // not mounted any more
		return nil
	}
	return err
}

// prepare makes dir ready to be mounted on.
func prepare(dir string) error {
	if dead(dir) {
		if err := detachStale(dir); err != nil {
			return fsapi.Wrap(fsapi.Busy, err, "unmounting what a dead server left on "+dir)
		}
		return prepare(dir) // there may be one more below it
	}
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fsapi.Wrap(fsapi.IO, os.MkdirAll(dir, 0o755), "making the mount point")
	case err != nil:
		return fsapi.Wrap(fsapi.IO, err, "mount point "+dir)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fsapi.Errorf(fsapi.NotDir, "mount point %s is not a directory", dir)
	case mounted(dir):
		return fsapi.Errorf(fsapi.Busy, "a Strake volume is mounted on %s already: unmount it, or choose another directory", dir)
	}
	return nil
}

// dead reports whether a FUSE mount whose server is gone is on dir. The kernel
// answers stat from its cache all the same, but not statfs.
func dead(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// detachStale takes a dead mount out of the tree.
func detachStale(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return fusermountLazy(dir)
}

// mounted reports whether a live Strake mount is on dir (proc(5), mountinfo).
func mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	found := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 4 && unescape(f[4]) == dir {
			found = strings.Contains(line, " - fuse.strake ")
		}
	}
	return found
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
