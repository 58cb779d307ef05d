// Package azure is Azure Blob Storage: block blobs in a container.
//
// It owns: the requests, and what the errors mean. It must not know what is in
// the objects, nor how often a request is repeated. It starts no goroutine.
package azure

import (
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

// The environment that Azure's own tools read.
const (
	connectionEnv = "AZURE_STORAGE_CONNECTION_STRING"
	accountEnv    = "AZURE_STORAGE_ACCOUNT"
	keyEnv        = "AZURE_STORAGE_KEY"
)

// Options say which container, and how to reach it. Credentials are the first
// there are of: ConnectionString, AccountKey, $AZURE_STORAGE_CONNECTION_STRING,
// $AZURE_STORAGE_KEY, and the default chain, which is the environment, workload
// identity, managed identity and the command line tools' login.
type Options struct {
	Container string
	// Account is the name of the storage account; empty: that of the connection
	// string or of $AZURE_STORAGE_ACCOUNT.
	Account string
	// Endpoint is the URL of the account's blob service; empty:
	// https://ACCOUNT.blob.core.windows.net.
	Endpoint string
	// Class is the access tier of new blobs, "Cool"; empty: the account's own.
	Class string
	// ConnectionString and AccountKey are secrets.
	ConnectionString, AccountKey string

	provider.Options
}

// Open opens a container, which must be there. It makes no request to it.
// fsapi.Unauthorized: no credentials were found.
func Open(o Options) (*provider.Store, error) {
	if o.Container == "" || strings.ContainsAny(o.Container, "/?#") {
		return nil, fsapi.Errorf(fsapi.Invalid, "azure: %q is not the name of a container", o.Container)
	}
	query := o.query()
	o.environment()
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	b := &bucket{client: client, traits: provider.Traits{
		Kind: "azure", URL: "az://" + o.Container, Query: query, Class: o.Class,
		DeleteBatch: 256, MaxParts: 50_000, MinPart: 1, Whole: provider.Whole,
	}}
	return provider.New(b, o.Options)
}

// environment fills in what the environment says.
func (o *Options) environment() {
	if o.Account == "" {
		o.Account = os.Getenv(accountEnv)
	}
	if o.ConnectionString == "" && o.AccountKey == "" {
		o.ConnectionString = os.Getenv(connectionEnv)
		o.AccountKey = os.Getenv(keyEnv)
	}
}

// client makes the client that the credentials call for.
func (o *Options) client() (*container.Client, error) {
	opts := &container.ClientOptions{}
	opts.Retry = policy.RetryOptions{MaxRetries: -1} // provider.Store makes the attempts
	if o.ConnectionString != "" {
		c, err := container.NewClientFromConnectionString(o.ConnectionString, o.Container, opts)
		return c, invalid(err, "the connection string")
	}
	at, err := o.url()
	if err != nil {
		return nil, err
	}
	if o.AccountKey != "" {
		key, err := container.NewSharedKeyCredential(o.Account, o.AccountKey)
		if err != nil {
			return nil, fsapi.Errorf(fsapi.Unauthorized, "azure: the account's key is not valid base64")
		}
		c, err := container.NewClientWithSharedKeyCredential(at, key, opts)
		return c, invalid(err, "the endpoint")
	}
	token, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Unauthorized, "azure: no credentials: set %s or log in: %w", connectionEnv, err)
	}
	c, err := container.NewClient(at, token, opts)
	return c, invalid(err, "the endpoint")
}

// invalid tells which setting the client does not take. The error's own text
// may hold a secret.
func invalid(err error, what string) error {
	if err == nil {
		return nil
	}
	return fsapi.Errorf(fsapi.Invalid, "azure: %s is not valid", what)
}

// url is the container's.
func (o *Options) url() (string, error) {
	if o.Endpoint == "" && o.Account == "" {
		return "", fsapi.Errorf(fsapi.Invalid, "azure: no account: add ?account=NAME, or set %s", accountEnv)
	}
	at := o.Endpoint
	if at == "" {
		at = "https://" + o.Account + ".blob.core.windows.net"
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return "", fsapi.Errorf(fsapi.Invalid, "azure: the endpoint must be https://HOST, without name, password and parameters")
	}
	return u.JoinPath(o.Container).String(), nil
}

// query is the settings as a URL has them, credentials left out.
func (o *Options) query() string {
	v := url.Values{}
	for name, value := range map[string]string{"account": o.Account, "endpoint": o.Endpoint, "class": o.Class} {
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
	client *container.Client
	traits provider.Traits
}

var _ provider.API = (*bucket)(nil)

// Traits implements provider.API.
func (b *bucket) Traits() provider.Traits { return b.traits }

// Close implements provider.API.
func (b *bucket) Close() error { return nil }
