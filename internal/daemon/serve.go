package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/discovery"
	"github.com/strakefs/strake/internal/door/rest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/telemetry"
)

// shutdownGrace bounds how long a stop waits for running requests.
const shutdownGrace = 10 * time.Second

// stopNews is how often a stop that takes long says what it waits for.
const stopNews = 10 * time.Second

// server is a node with its doors.
type server struct {
	n      *Node
	open   atomic.Pointer[Node] // n, once it is open
	log    *slog.Logger
	mounts *mounts
	door   *rest.Door
	rests  []*rest.Server
	listen string // address of the REST door on the network, "" where it is off
	scheme string // http or https, of listen
	ready  atomic.Bool

	withdraw context.CancelFunc // ends the announcement; nil where there is none
}

// Version is the module's version with the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, rev := info.Main.Version, ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			rev = " " + s.Value[:12]
		}
	}
	return version + rev
}

// Serve runs the server until ctx ends, which is a clean stop: it waits until all is
// stored, however long. Where hurry is closed first it gives up, and its error says
// what is lost; the process must end then, as nothing has been closed. It prints to
// out what a person needs, ending with one line that starts with "ready".
func Serve(ctx context.Context, hurry <-chan struct{}, cfg config.Config, out io.Writer) error {
	log, err := telemetry.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	boundMemory(int64(cfg.Memory.Limit))
	s := &server{log: log}
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, cfg, out) }()
	select {
	case err := <-done:
		return err
	case <-hurry:
		return s.givenUp()
	}
}

// run is Serve without the hurry.
func (s *server) run(ctx context.Context, cfg config.Config, out io.Writer) (err error) {
	mode := openOrCreate
	if cfg.Engine.ReadOnly {
		mode = openFollowing
	}
	if s.n, err = openNode(ctx, cfg, s.log, mode); err != nil {
		return err
	}
	s.open.Store(s.n)
	s.mounts = newMounts(s)
	if err := s.start(ctx, out); err != nil {
		return errors.Join(err, s.shutdown())
	}
	<-ctx.Done()
	s.log.Info("stopping")
	done := make(chan struct{})
	go s.tell(done)
	defer close(done)
	return s.shutdown()
}

// tell says what a stop waits for, now and then until done.
func (s *server) tell(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-s.n.clock.After(stopNews):
		}
		bytes, batches, err := s.n.unstored()
		s.log.Warn("still storing what was written; a second signal ends the server at once, and loses it", "bytes", bytes, "batches", batches, "err", err)
	}
}

// givenUp is the error of a server that stops before all is stored.
func (s *server) givenUp() error {
	n := s.open.Load()
	if n == nil {
		return fsapi.Errorf(fsapi.IO, "ended before it had started: nothing is lost")
	}
	bytes, batches, err := n.unstored()
	if bytes == 0 && batches == 0 {
		return fsapi.Errorf(fsapi.IO, "ended before it was through: all that was written is stored, and the next start looks after the rest")
	}
	lost := fsapi.Errorf(fsapi.IO, "ended before all was stored: lost are writes in %d bytes of memory and %d batches of metadata changes, of which no fsync had said that they are durable", bytes, batches)
	if err != nil {
		lost = fsapi.Errorf(fsapi.IO, "%w (%w)", lost, err)
	}
	return lost
}

// unstored is what the end of this process would lose now: dirty data, in bytes of
// memory that it takes, and batches of metadata changes. err is why, as far as is known.
func (n *Node) unstored() (bytes int64, batches uint64, err error) {
	bytes = n.budget.Used()
	if n.state != nil && n.follow == nil { // else the batches are the operating system's, which outlives it
		batches = uint64(n.engine.LastSeq() - n.engine.DurableSeq())
		err = n.state.engine.Status().Err
	}
	return bytes, batches, err
}

// start starts the loops, then the doors, then says that all is ready.
func (s *server) start(ctx context.Context, out io.Writer) error {
	if err := s.n.startBackground(ctx); err != nil {
		return err
	}
	s.n.registerMetrics()
	secret, err := s.firstToken(ctx)
	if err != nil {
		return err
	}
	if err := s.openRest(); err != nil {
		return err
	}
	if dir := s.n.cfg.Fuse.Mount; dir != "" {
		if err := s.mounts.mount(s.n.cfg.Fuse.Volume, dir, s.n.cfg.Fuse.AllowOther); err != nil {
			return err
		}
	}
	s.ready.Store(true)
	s.discoverable(ctx)
	return s.announce(out, secret)
}

// firstToken makes the administrator's token at the first start. It is printed
// once and kept in a file that only the owner can read.
func (s *server) firstToken(ctx context.Context) (string, error) {
	if !s.n.tokens.empty() || s.n.follow != nil {
		return "", nil
	}
	t, err := s.n.tokens.create(ctx, "first", "admin", s.n.clock.Now())
	if err != nil {
		return "", err
	}
	if err := osfs.ReplaceFile(s.n.fs, s.n.at.token(), []byte(t.Secret+"\n"), 0o600); err != nil {
		return "", fsapi.Wrap(fsapi.IO, err, "write the first token")
	}
	return t.Secret, s.n.meta.Sync(ctx)
}

// openRest listens on the socket in the data directory and on the network.
func (s *server) openRest() error {
	s.door = rest.New(rest.Options{
		Volumes: s.n.volumes, Tokens: s.n.tokens, Feed: feed{s.n}, Endpoints: s.endpoints(),
		Tiers:   s.n.volumeTiers,
		Metrics: s.n.metrics.Handler(), Ready: s.isReady, Log: s.log, Version: Version(),
	})
	l, err := s.listenSocket()
	if err != nil {
		return err
	}
	s.rests = append(s.rests, s.door.Serve(l, true, nil))
	addr := s.n.cfg.Rest.Listen
	if addr == "off" || addr == "" {
		return nil
	}
	secure, err := s.tls()
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return fsapi.Errorf(fsapi.Busy, "listen on rest.listen=%s: %w (give another address with --listen, or --listen off)", addr, err)
	}
	s.listen, s.scheme = tcp.Addr().String(), "http"
	switch {
	case secure != nil:
		s.scheme = "https"
	case discovery.Beyond(s.listen):
		s.log.Warn("the REST door listens beyond this machine without TLS: whoever is on the way can read tokens and data (rest.tls_cert)", "listen", s.listen)
	}
	s.rests = append(s.rests, s.door.Serve(tcp, false, secure))
	return nil
}

// listenSocket takes the place of a socket that a killed server left: the lock
// of the data directory says that nobody answers there.
func (s *server) listenSocket() (net.Listener, error) {
	sock := s.n.at.socket()
	if err := os.MkdirAll(filepath.Dir(sock), 0o700); err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "make the directory of the socket")
	}
	if err := os.Remove(sock); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fsapi.Wrap(fsapi.IO, err, "remove the old socket")
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.IO, "listen on %s: %w (a socket's path has at most 107 bytes: choose a shorter data directory)", sock, err)
	}
	return l, nil
}

func (s *server) isReady() error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	if err := s.n.fenced(); err != nil {
		return fsapi.Errorf(fsapi.Fenced, "this server writes no more: %w", err)
	}
	return s.mounts.check()
}

// announce prints where everything is. Its last line starts with "ready".
func (s *server) announce(out io.Writer, secret string) error {
	p := &printer{out: out}
	p.line("data    %s", s.n.at.dir)
	if s.n.follow != nil {
		p.line("bucket  %s is followed, read-only; the data directory is a cache", s.n.cfg.Engine.URL)
	} else if s.n.state != nil {
		p.line("bucket  %s holds everything; the data directory is a cache", s.n.cfg.Engine.URL)
	}
	if _, err := os.Stat(s.n.at.password()); err == nil {
		p.line("password in %s: keep a copy elsewhere, nothing can be read without it", s.n.at.password())
	}
	if secret != "" {
		p.line("token   %s (shown once; also in %s)", secret, s.n.at.token())
	}
	for _, m := range s.mounts.list() {
		p.line("mount   %s (volume %s)", m.dir, m.volume)
	}
	if s.listen != "" {
		p.line("rest    %s://%s/v1 (described at /v1/openapi.json, metrics at /metrics)", s.scheme, s.listen)
	}
	p.line("socket  %s (for strake on this machine)", s.n.at.socket())
	p.line("stop    Ctrl-C here, or kill -TERM %d", os.Getpid())
	p.line("ready   strake %s", Version())
	return p.err
}

// printer remembers the first error of printing.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// shutdown stops the doors, then the node, in the order that loses nothing.
func (s *server) shutdown() error {
	s.ready.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if s.withdraw != nil {
		s.withdraw()
	}
	var errs []error
	errs = append(errs, s.mounts.closeAll(ctx))
	for _, r := range s.rests {
		errs = append(errs, r.Shutdown(ctx))
	}
	// Writing back may take longer than the grace for requests: what was
	// written is not given up for it.
	errs = append(errs, s.n.Close(context.Background()))
	if err := os.Remove(s.n.at.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Init makes a store without serving it.
func Init(ctx context.Context, cfg config.Config, out io.Writer) error {
	log, err := telemetry.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	if made, err := (layout{cfg.Data.Dir}).exists(osfs.OS{}); !cfg.Engine.Bucket() && (err != nil || made) {
		if err == nil {
			err = fsapi.Errorf(fsapi.Exist, "%s is a Strake data directory already", cfg.Data.Dir)
		}
		return err
	}
	n, err := openNode(ctx, cfg, log, openOrCreate)
	if err != nil {
		return err
	}
	if n.ships, err = n.newShipper(); err != nil {
		return errors.Join(err, n.Close(ctx))
	}
	return n.Close(ctx)
}
