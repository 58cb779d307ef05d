package rest

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// door is this door's name in changes.
const door = "rest"

// Volumes finds a volume's FS; "" is the default volume. fsapi.NotExist.
type Volumes interface {
	Volume(name string) (fs vfs.FS, resolved string, err error)
}

// Tokens tells what a bearer token may do; RoleNone for an unknown one. It
// must take the same time for every wrong token.
type Tokens interface {
	Role(ctx context.Context, token string) (Role, error)
}

// Feed follows committed changes. fn gets each batch's changes in order; the
// call ends with ctx, with fn's error, or with fsapi.NotExist where from is no
// longer retained.
type Feed interface {
	Last() uint64
	Follow(ctx context.Context, from uint64, fn func(seq uint64, changes []fsapi.Change) error) error
	// VolumeName names a volume for events.
	VolumeName(id fsapi.VolumeID) string
}

// Options of New.
type Options struct {
	Volumes   Volumes
	Tokens    Tokens
	Feed      Feed
	Endpoints []Endpoint // administration
	// Tiers is the bitmask of tiers on which all bytes of a file can be read: bit
	// 0 hot, 1 warm, 2 cold.
	Tiers   func(ctx context.Context, volume string, ino fsapi.Ino) (uint8, error)
	Metrics http.Handler // GET /metrics
	Ready   func() error // GET /readyz: nil when every door answers
	Log     *slog.Logger
	Version string
}

// Door is the HTTP door. It has two handlers: one for the network, which asks
// for tokens, and one for the socket in the data directory, whose file mode is
// the authority.
type Door struct {
	o     Options
	table []Endpoint
}

// New makes the door. It fails if two endpoints claim one pattern.
func New(o Options) *Door {
	d := &Door{o: o}
	d.table = append(d.endpoints(), o.Endpoints...)
	return d
}

// Handler serves requests; with trusted, every request is an administrator's.
func (d *Door) Handler(trusted bool) http.Handler {
	mux := http.NewServeMux()
	for _, e := range d.table {
		mux.Handle(e.Method+" "+e.Path, d.guard(e, trusted))
	}
	if trusted {
		profiles(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		d.fail(w, r, fsapi.Errorf(fsapi.NotExist, "there is nothing at %s %s; see /v1/openapi.json", r.Method, r.URL.Path))
	})
	return mux
}

// profiles serves the Go runtime's profiles (net/http/pprof): to those whom the
// socket lets in only, as they show what is in memory.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
}

// guard checks the token, runs the endpoint and writes its error.
func (d *Door) guard(e Endpoint, trusted bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.Role > RoleNone && !trusted {
			if err := d.authorize(r, e.Role); err != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="strake"`)
				d.fail(w, r, err)
				return
			}
		}
		if err := e.serve(w, r); err != nil {
			d.fail(w, r, err)
		}
	})
}

func (d *Door) authorize(r *http.Request, need Role) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return fsapi.Errorf(fsapi.Unauthorized, "this needs a token: send Authorization: Bearer TOKEN (strake token create makes one)")
	}
	role, err := d.o.Tokens.Role(r.Context(), token)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeLessOrEq(int(need), int(role)) != 1 {
		return fsapi.Errorf(fsapi.Unauthorized, "this token may not do this")
	}
	return nil
}

// fail answers an error. After the header has gone out the connection is cut,
// so that the client cannot take a part for the whole.
func (d *Door) fail(w http.ResponseWriter, r *http.Request, err error) {
	var cut *cutError
	if errors.As(err, &cut) {
		d.o.Log.Warn("rest: response cut short", "path", r.URL.Path, "err", cut.err)
		panic(http.ErrAbortHandler)
	}
	kind := fsapi.KindOf(err)
	status := Status(kind)
	if status >= 500 && kind != fsapi.NotSupported {
		d.o.Log.Warn("rest: request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	_ = writeJSON(w, status, api.Error{Kind: kind.Error(), Code: int(kind), Message: err.Error()})
}

// cutError is an error after part of the response has been sent.
type cutError struct{ err error }

func (c *cutError) Error() string { return c.err.Error() }

// Status is the HTTP status (RFC 9110) of an error kind.
func Status(k fsapi.Kind) int {
	switch k {
	case fsapi.NotExist, fsapi.NoAttr, fsapi.Stale:
		return http.StatusNotFound
	case fsapi.Exist, fsapi.NotEmpty, fsapi.NotDir, fsapi.IsDir, fsapi.Busy, fsapi.CrossDevice, fsapi.TooManyLinks, fsapi.Conflict, fsapi.WouldBlock, fsapi.Deadlock, fsapi.Loop:
		return http.StatusConflict
	case fsapi.Access, fsapi.NotPermitted, fsapi.ReadOnly, fsapi.Immutable:
		return http.StatusForbidden
	case fsapi.Unauthorized:
		return http.StatusUnauthorized
	case fsapi.NoSpace, fsapi.Quota:
		return http.StatusInsufficientStorage
	case fsapi.Invalid, fsapi.NameTooLong, fsapi.BadHandle, fsapi.NoDevice:
		return http.StatusBadRequest
	case fsapi.FileTooBig, fsapi.TooBig:
		return http.StatusRequestEntityTooLarge
	case fsapi.Range:
		return http.StatusRequestedRangeNotSatisfiable
	case fsapi.Precondition:
		return http.StatusPreconditionFailed
	case fsapi.NotSupported:
		return http.StatusNotImplemented
	case fsapi.TimedOut:
		return http.StatusGatewayTimeout
	case fsapi.Closed, fsapi.Fenced:
		return http.StatusServiceUnavailable
	case fsapi.Interrupted:
		return 499 // the client went away
	case fsapi.Other, fsapi.Corrupt, fsapi.IO, fsapi.Lost:
	}
	return http.StatusInternalServerError
}

// Server runs the door on listeners and ends with Shutdown.
type Server struct {
	http *http.Server
	done chan error
}

// Serve answers on l until Shutdown: over TLS where secure, which it owns from then
// on, is not nil. It owns one goroutine and the connections' ones.
func (d *Door) Serve(l net.Listener, trusted bool, secure *tls.Config) *Server {
	s := &Server{done: make(chan error, 1), http: &http.Server{
		TLSConfig:         secure,
		Handler:           d.Handler(trusted),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(d.o.Log.Handler(), slog.LevelWarn),
	}}
	ctx, cancel := context.WithCancel(context.Background())
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	s.http.RegisterOnShutdown(cancel)
	go func() {
		if secure != nil {
			s.done <- s.http.ServeTLS(l, "", "")
		} else {
			s.done <- s.http.Serve(l)
		}
	}()
	return s
}

// Shutdown stops listening, lets running requests end within ctx and returns
// when nothing is left.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // cuts what would not end; Serve's result follows
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		return fsapi.Wrap(fsapi.IO, err, "serve HTTP")
	}
	return nil
}

var cred = &fsapi.Cred{Door: door}
