// Package gcs is Google Cloud Storage, through its JSON API on net/http: the
// official client would more than double the size of the binary, for gRPC that
// is not used here.
//
// It owns: the requests, and what the errors mean. It must not know what is in
// the objects, nor how often a request is repeated. It starts no goroutine.
package gcs

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

const (
	// scope lets one read and write objects (Cloud Storage OAuth 2.0 scopes).
	scope = "https://www.googleapis.com/auth/devstorage.read_write"
	// publicHost answers the JSON API.
	publicHost = "https://storage.googleapis.com"
	// emulatorEnv names a host that answers in its place, without credentials.
	emulatorEnv = "STORAGE_EMULATOR_HOST"
)

// Options say which bucket, and how to reach it.
type Options struct {
	Bucket string
	// Endpoint is the URL of a server that wants no credentials, for tests;
	// empty: that of $STORAGE_EMULATOR_HOST, or Google's.
	Endpoint string
	// Class is the storage class of new objects, "NEARLINE"; empty: the
	// bucket's own.
	Class string
	// CredentialsFile is the JSON file of a service account or of workload
	// identity federation; empty: Application Default Credentials.
	CredentialsFile string

	provider.Options
}

// Open opens a bucket, which must be there. It makes no request to the bucket.
// fsapi.Unauthorized: no credentials were found.
func Open(ctx context.Context, o Options) (*provider.Store, error) {
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/?#") {
		return nil, fsapi.Errorf(fsapi.Invalid, "gcs: %q is not the name of a bucket", o.Bucket)
	}
	b := &bucket{name: o.Bucket, class: o.Class, query: o.query()}
	if o.Endpoint == "" {
		o.Endpoint = os.Getenv(emulatorEnv)
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 32
	b.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if o.Endpoint != "" {
		if !strings.Contains(o.Endpoint, "://") {
			o.Endpoint = "http://" + o.Endpoint
		}
		b.host, b.client.Transport = strings.TrimSuffix(o.Endpoint, "/"), base
		return provider.New(b, o.Options)
	}
	source, err := o.credentials(ctx)
	if err != nil {
		return nil, err
	}
	b.host, b.client.Transport = publicHost, &oauth2.Transport{Source: source, Base: base}
	return provider.New(b, o.Options)
}

// credentials finds credentials. They renew themselves after ctx has ended.
func (o Options) credentials(ctx context.Context) (oauth2.TokenSource, error) {
	ctx = context.WithoutCancel(ctx)
	if o.CredentialsFile == "" {
		found, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, fsapi.Errorf(fsapi.Unauthorized, "gcs: no credentials: set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account: %w", err)
		}
		return found.TokenSource, nil
	}
	text, err := os.ReadFile(o.CredentialsFile)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "gcs: credentials: %w", err)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "gcs: %s is no JSON", o.CredentialsFile)
	}
	// Whoever configures the drive chose the file: any type will do.
	found, err := google.CredentialsFromJSONWithType(ctx, text, kind.Type, scope)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "gcs: credentials in %s: %w", o.CredentialsFile, err)
	}
	return found.TokenSource, nil
}

// query is the settings as a URL has them. The file's name is no secret.
func (o Options) query() string {
	v := url.Values{}
	for name, value := range map[string]string{"endpoint": o.Endpoint, "class": o.Class, "credentials": o.CredentialsFile} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// bucket is a provider.API.
type bucket struct {
	client *http.Client
	host   string // URL without a slash at its end
	name   string
	class  string
	query  string
}

var _ provider.API = (*bucket)(nil)

// chunk is what the parts of a resumable upload are multiples of, in bytes.
const chunk = 256 << 10

// Traits implements provider.API.
func (b *bucket) Traits() provider.Traits {
	return provider.Traits{
		Kind: "gcs", URL: "gs://" + b.name, Query: b.query, Class: b.class,
		DeleteBatch: 1, MinPart: chunk, PartAlign: chunk, MaxParts: 1 << 20, Serial: true, FreeParts: true,
	}
}

// Close implements provider.API.
func (b *bucket) Close() error {
	b.client.CloseIdleConnections()
	return nil
}
