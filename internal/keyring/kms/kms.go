package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/osfs"
)

// Providers of Options.
const (
	Transit = "transit"
	AWS     = "aws"
)

// Options of New. Name, Provider and Key must be set, and Address for Transit,
// Region for AWS.
type Options struct {
	Name     string // in the configuration
	Provider string // Transit or AWS
	Address  string // URL; AWS: the endpoint, that of the region where empty
	Key      string // Transit: name of the key; AWS: id, ARN or alias/NAME
	CAFile   string // PEM certificates to trust besides the system's

	Mount     string // Transit: where the engine is mounted; "transit"
	Namespace string // Transit: of Vault Enterprise and OpenBao
	// Credentials of Transit: the token in TokenFile, or an AppRole, or the
	// environment's VAULT_TOKEN or BAO_TOKEN.
	TokenFile    string
	RoleID       string
	SecretIDFile string

	Region string // AWS
	// Credentials of AWS: Profile of CredentialsFile, or the environment's
	// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
	CredentialsFile string
	Profile         string // "default"

	Timeout   time.Duration       // of one request; 10 seconds
	FS        osfs.FS             // the machine's
	Clock     clock.Clock         // clock.Real
	LookupEnv func(string) string // os.Getenv
}

func (o *Options) defaults() {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.FS == nil {
		o.FS = osfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.Getenv
	}
	if o.Mount == "" {
		o.Mount = "transit"
	}
	if o.Profile == "" {
		o.Profile = "default"
	}
}

// New makes a wrapper. It asks nothing yet. fsapi.Invalid names what is missing
// or wrong in the options.
func New(o Options) (keyring.Wrapper, error) {
	o.defaults()
	if o.Name == "" || o.Key == "" {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %q: name and key must be set", o.Name)
	}
	s, err := newService(&o)
	if err != nil {
		return nil, err
	}
	switch o.Provider {
	case Transit:
		return newTransit(o, s)
	case AWS:
		return newAWS(o, s)
	}
	return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: provider is %q: want %s or %s", o.Name, o.Provider, Transit, AWS)
}

// service sends requests to one address.
type service struct {
	name string
	http *http.Client
}

// newService makes the HTTP client. Secrets travel in requests, so only a
// loopback address may do without TLS.
func newService(o *Options) (*service, error) {
	if o.Provider == AWS && o.Address == "" {
		if o.Region == "" {
			return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: region must be set", o.Name)
		}
		o.Address = "https://kms." + o.Region + ".amazonaws.com"
	}
	u, err := url.Parse(o.Address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: address is %q: want https://HOST:PORT", o.Name, o.Address)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: address %s is not https: keys would cross the network in the clear", o.Name, o.Address)
	}
	o.Address = strings.TrimSuffix(o.Address, "/")
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: o.Timeout, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	if o.CAFile != "" {
		if tr.TLSClientConfig, err = trust(o.FS, o.CAFile); err != nil {
			return nil, fsapi.Wrap(fsapi.KindOf(err), err, "kms "+o.Name)
		}
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &service{o.Name, &http.Client{Transport: tr, Timeout: o.Timeout, CheckRedirect: refuse}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func trust(fsys osfs.FS, file string) (*tls.Config, error) {
	b, err := readSmall(fsys, file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fsapi.Errorf(fsapi.Invalid, "%s holds no PEM certificate", file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// maxSmall bounds files of credentials and answers of services, in bytes.
const maxSmall = 1 << 20

// readSmall reads a file of credentials.
func readSmall(fsys osfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		kind := fsapi.IO
		if errors.Is(err, os.ErrNotExist) {
			kind = fsapi.NotExist
		}
		return nil, fsapi.Wrap(kind, err, "read "+path)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall))
	return b, fsapi.Wrap(fsapi.IO, err, "read "+path)
}

// answer is a response, read whole.
type answer struct {
	status int
	body   []byte
}

// post sends a JSON body. The error is of the transport only: fsapi.IO, or
// TimedOut, both of which asking again may mend.
func (s *service) post(ctx context.Context, address string, body any, prepare func(*http.Request, []byte) error) (answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return answer{}, fsapi.Wrap(fsapi.Other, err, "encode a request")
	}
	defer clear(b)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(b))
	if err != nil {
		return answer{}, fsapi.Wrap(fsapi.Invalid, err, "kms "+s.name)
	}
	if err := prepare(req, b); err != nil {
		return answer{}, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, s.silent(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxSmall)); err != nil {
		return answer{}, s.silent(err)
	}
	return a, nil
}

// silent is the error of a service that did not answer.
func (s *service) silent(err error) error {
	kind := fsapi.IO
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		kind = fsapi.TimedOut
	}
	return fsapi.Wrap(kind, err, "kms "+s.name+" does not answer")
}

// decode reads a successful answer.
func (s *service) decode(a answer, v any) error {
	defer clear(a.body)
	if err := json.Unmarshal(a.body, v); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "kms "+s.name+" answered what is no JSON of its kind: is the address right?")
	}
	return nil
}
