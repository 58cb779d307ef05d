// Package url opens the object store that a URL names:
//
//	s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true&signed-payload=true&class=STANDARD_IA&profile=NAME
//	gs://BUCKET/PREFIX?class=NEARLINE&credentials=FILE&endpoint=URL
//	az://CONTAINER/PREFIX?account=NAME&class=Cool&endpoint=URL
//	file:///DIRECTORY
//
// Each takes part-size=BYTES and parallel=N too. A URL holds no secrets.
//
// It owns: the form of the URLs. It must not know what the stores are for. It
// starts no goroutine.
package url

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/azure"
	"github.com/strakefs/strake/internal/object/dir"
	"github.com/strakefs/strake/internal/object/gcs"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/s3"
)

// Secrets are credentials that are given and not looked for where the
// provider's own tools look. All are optional.
type Secrets struct {
	AccessKey, SecretKey, SessionToken string // of S3
	ConnectionString, AccountKey       string // of Azure
}

// Scheme opens the stores of one scheme.
type Scheme struct {
	// Parameters are the names that the URL may have, besides those that all
	// schemes take.
	Parameters []string
	Open       func(ctx context.Context, l Location) (object.Store, error)
}

// Location is a URL taken apart.
type Location struct {
	Bucket     string // the host of the URL
	Path       string // what follows it, with its leading slash
	Parameters map[string]string
	Secrets    Secrets
	Provider   provider.Options // without Prefix
}

// prefix is the path as provider.Options has it.
func (l Location) prefix() provider.Options {
	o := l.Provider
	o.Prefix = strings.Trim(l.Path, "/")
	return o
}

// Registry is the schemes there are.
type Registry map[string]Scheme

// All are the schemes of this release.
func All() Registry {
	return Registry{
		"s3":   {[]string{"endpoint", "region", "path-style", "signed-payload", "class", "profile"}, openS3},
		"gs":   {[]string{"endpoint", "class", "credentials"}, openGCS},
		"az":   {[]string{"endpoint", "account", "class"}, openAzure},
		"file": {nil, openDir},
	}
}

// Open opens the store that a URL names. o holds for what the URL says nothing
// of; its Prefix is not used. fsapi.Invalid for a URL of another form, which the
// error does not repeat, for it may hold a secret.
func (r Registry) Open(ctx context.Context, raw string, secrets Secrets, o provider.Options) (object.Store, error) {
	s, l, err := r.parse(raw)
	if err != nil {
		return nil, err
	}
	l.Secrets, l.Provider = secrets, o
	if err := l.shared(); err != nil {
		return nil, err
	}
	return s.Open(ctx, l)
}

// Check says what is wrong with a URL, without opening anything.
func (r Registry) Check(raw string) error {
	_, l, err := r.parse(raw)
	if err == nil {
		err = l.shared()
	}
	return err
}

func (r Registry) parse(raw string) (Scheme, Location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Scheme{}, Location{}, fsapi.Errorf(fsapi.Invalid, "the URL of an object store is malformed")
	}
	s, ok := r[u.Scheme]
	switch {
	case !ok:
		return s, Location{}, fsapi.Errorf(fsapi.Invalid, "scheme %q: want one of %s", u.Scheme, strings.Join(slices.Sorted(maps.Keys(r)), ", "))
	case u.User != nil:
		return s, Location{}, fsapi.Errorf(fsapi.Invalid, "%s URL: credentials do not belong into it", u.Scheme)
	case u.Fragment != "" || u.Opaque != "":
		return s, Location{}, fsapi.Errorf(fsapi.Invalid, "%s URL: want %s://BUCKET/PREFIX?NAME=VALUE", u.Scheme, u.Scheme)
	case (u.Host == "") != (u.Scheme == "file"):
		return s, Location{}, fsapi.Errorf(fsapi.Invalid, "%s URL: want s3://BUCKET, gs://BUCKET, az://CONTAINER or file:///DIRECTORY", u.Scheme)
	}
	l := Location{Bucket: u.Host, Path: u.Path, Parameters: map[string]string{}}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s, l, fsapi.Errorf(fsapi.Invalid, "%s URL: its parameters are malformed", u.Scheme)
	}
	known := append([]string{"part-size", "parallel"}, s.Parameters...)
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return s, l, fsapi.Errorf(fsapi.Invalid, "%s URL: parameter %q is not known: there are %s", u.Scheme, name, strings.Join(known, ", "))
		}
		if len(query[name]) != 1 || query[name][0] == "" {
			return s, l, fsapi.Errorf(fsapi.Invalid, "%s URL: parameter %q wants one value", u.Scheme, name)
		}
		l.Parameters[name] = query[name][0]
	}
	return s, l, nil
}

// Bounds of the parameters that all schemes take.
const (
	minPartSize, maxPartSize = 1 << 20, 5 << 30 // bytes; S3 takes no larger parts
	maxParallel              = 256
)

// shared reads the parameters that all schemes take.
func (l *Location) shared() error {
	if text, ok := l.Parameters["part-size"]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < minPartSize || n > maxPartSize {
			return fsapi.Errorf(fsapi.Invalid, "part-size %q: want %d to %d bytes", text, minPartSize, int64(maxPartSize))
		}
		l.Provider.PartSize = n
	}
	if text, ok := l.Parameters["parallel"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxParallel {
			return fsapi.Errorf(fsapi.Invalid, "parallel %q: want 1 to %d", text, maxParallel)
		}
		l.Provider.Parallel = n
	}
	if err := l.checkBool("path-style"); err != nil {
		return err
	}
	return l.checkBool("signed-payload")
}

func (l *Location) checkBool(name string) error {
	switch text := l.Parameters[name]; text {
	case "", "true", "false":
		return nil
	default:
		return fsapi.Errorf(fsapi.Invalid, "%s %q: want true or false", name, text)
	}
}

func openS3(ctx context.Context, l Location) (object.Store, error) {
	p := l.Parameters
	return opened(s3.Open(ctx, s3.Options{
		Bucket: l.Bucket, Endpoint: p["endpoint"], Region: p["region"], PathStyle: p["path-style"] == "true", SignedPayload: p["signed-payload"] == "true", Class: p["class"], Profile: p["profile"],
		AccessKey: l.Secrets.AccessKey, SecretKey: l.Secrets.SecretKey, SessionToken: l.Secrets.SessionToken, Options: l.prefix(),
	}))
}

func openGCS(ctx context.Context, l Location) (object.Store, error) {
	p := l.Parameters
	return opened(gcs.Open(ctx, gcs.Options{
		Bucket: l.Bucket, Endpoint: p["endpoint"], Class: p["class"], CredentialsFile: p["credentials"], Options: l.prefix(),
	}))
}

func openAzure(_ context.Context, l Location) (object.Store, error) {
	p := l.Parameters
	return opened(azure.Open(azure.Options{
		Container: l.Bucket, Account: p["account"], Endpoint: p["endpoint"], Class: p["class"],
		ConnectionString: l.Secrets.ConnectionString, AccountKey: l.Secrets.AccountKey, Options: l.prefix(),
	}))
}

func openDir(_ context.Context, l Location) (object.Store, error) {
	o := l.Provider
	o.Prefix = ""
	return opened(dir.Open(dir.Options{Path: l.Path, Options: o}))
}

// opened keeps a nil *provider.Store from becoming a Store that is not nil.
func opened(s *provider.Store, err error) (object.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
