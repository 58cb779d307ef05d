package daemon

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// certificateEvery is how often, at most, the files of a certificate are looked at.
const certificateEvery = time.Second

// certificate is one in files that are read again when they change. Where the new
// ones are no certificate with its key, as while one was replaced and the other was
// not yet, the old one stays. Safe for concurrent use.
type certificate struct {
	cert, key string // paths
	clock     clock.Clock
	log       *slog.Logger

	mu     sync.Mutex
	now    *tls.Certificate // guarded by mu
	stamps [2]fileStamp     // of the files that now was read from; guarded by mu
	said   string           // why the files that are there are of no use; guarded by mu
	looked time.Time        // guarded by mu
}

// fileStamp tells a file from the one that takes its place.
type fileStamp struct {
	size int64
	time time.Time
}

func newCertificate(cert, key string, c clock.Clock, log *slog.Logger) (*certificate, error) {
	t := &certificate{cert: cert, key: key, clock: c, log: log}
	stamps, err := t.stat()
	if err == nil {
		t.now, err = t.load()
	}
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "rest.tls_cert and rest.tls_key: %w", err)
	}
	t.stamps, t.looked = stamps, c.Now()
	return t, nil
}

func (t *certificate) load() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.cert, t.key)
	return &c, err
}

func (t *certificate) stat() (stamps [2]fileStamp, err error) {
	for i, path := range []string{t.cert, t.key} {
		var info fs.FileInfo
		if info, err = os.Stat(path); err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info.Size(), info.ModTime()}
	}
	return stamps, nil
}

// get is tls.Config.GetCertificate.
func (t *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	if age := now.Sub(t.looked); age >= 0 && age < certificateEvery {
		return t.now, nil
	}
	t.looked = now
	stamps, err := t.stat()
	if err == nil && stamps == t.stamps {
		return t.now, nil
	}
	var fresh *tls.Certificate
	if err == nil {
		fresh, err = t.load()
	}
	switch {
	case err == nil:
		t.now, t.stamps, t.said = fresh, stamps, ""
		t.log.Info("the certificate of the REST door was read anew", "file", t.cert)
	case err.Error() != t.said:
		t.said = err.Error()
		t.log.Error("the changed certificate of the REST door cannot be used; the one before stays", "err", err)
	}
	return t.now, nil
}

// tls is the configuration of the REST door; nil: plain HTTP.
func (s *server) tls() (*tls.Config, error) {
	c := &s.n.cfg.Rest
	if c.TLSCert == "" {
		return nil, nil //nolint:nilnil // nil is plain HTTP
	}
	cert, err := newCertificate(c.TLSCert, c.TLSKey, s.n.clock, s.log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}, nil
}
