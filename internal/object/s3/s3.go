// Package s3 is object stores that speak Amazon's S3: Amazon's own and what is
// compatible with it.
//
// It owns: the requests, how their bodies are checked on the way, and what S3's errors
// mean. It must not know what is in the objects, nor how often a request is repeated.
// It starts no goroutine.
package s3

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object/provider"
)

// Options say which bucket, and how to reach it.
type Options struct {
	Bucket string
	// Endpoint is the URL of a compatible service; empty: Amazon's.
	Endpoint string
	// Region; empty: the one of the environment or of the shared
	// configuration, or us-east-1.
	Region string
	// PathStyle puts the bucket into the path and not into the host's name, as
	// most compatible services want it.
	PathStyle bool
	// SignedPayload: without TLS bodies are signed (SHA-256) even where the service
	// compares checksums: for networks that others can write to. With TLS they never
	// are.
	SignedPayload bool
	// Class is the storage class of new objects, "STANDARD_IA"; empty: the
	// bucket's own.
	Class string
	// Profile of the shared configuration; empty: $AWS_PROFILE, or default.
	Profile string
	// AccessKey, SecretKey and SessionToken; empty: the standard chain, which
	// is the environment, the shared configuration and credentials files, web
	// identity, and the roles of containers and machines.
	AccessKey, SecretKey, SessionToken string

	provider.Options
}

// lookup bounds how long credentials and region are looked for.
const lookup = 20 * time.Second

// Open opens a bucket, which must be there. It makes no request to the bucket.
// fsapi.Unauthorized: no credentials were found.
func Open(ctx context.Context, o Options) (*provider.Store, error) {
	b, err := newBucket(ctx, o)
	if err != nil {
		return nil, err
	}
	return provider.New(b, o.Options)
}

// bucket is a provider.API.
type bucket struct {
	client *s3.Client
	name   string
	traits provider.Traits
	checks checks
}

var _ provider.API = (*bucket)(nil)

func newBucket(ctx context.Context, o Options) (*bucket, error) {
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/?#") {
		return nil, fsapi.Errorf(fsapi.Invalid, "s3: %q is not the name of a bucket", o.Bucket)
	}
	if err := checkEndpoint(o.Endpoint); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	cfg, err := load(ctx, o)
	if err != nil {
		return nil, err
	}
	return &bucket{client: s3.NewFromConfig(cfg, o.client), name: o.Bucket, traits: provider.Traits{
		Kind: "s3", URL: "s3://" + o.Bucket, Query: o.query(), Class: o.Class,
		DeleteBatch: 1000, MinPart: 5 << 20, MaxParts: 10_000, Whole: provider.Whole,
	}, checks: checks{signed: o.SignedPayload}}, nil
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fsapi.Errorf(fsapi.Invalid, "s3: the endpoint must be http://HOST or https://HOST, without name, password and parameters")
	}
	return nil
}

// load finds region and credentials.
func load(ctx context.Context, o Options) (aws.Config, error) {
	var from []func(*config.LoadOptions) error
	if o.Region != "" {
		from = append(from, config.WithRegion(o.Region))
	}
	if o.Profile != "" {
		from = append(from, config.WithSharedConfigProfile(o.Profile))
	}
	if o.AccessKey != "" {
		from = append(from, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, from...)
	if err != nil {
		return cfg, fsapi.Errorf(fsapi.Invalid, "s3: shared configuration: %w", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, fsapi.Errorf(fsapi.Unauthorized, "s3: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return cfg, nil
}

func (o Options) client(c *s3.Options) {
	c.Retryer = aws.NopRetryer{} // provider.Store makes the attempts
	c.UsePathStyle = o.PathStyle
	if o.Endpoint != "" {
		c.BaseEndpoint = &o.Endpoint
	}
	// Checksums go in headers, see checks: not every compatible service takes
	// them in trailers. Those of ranges are not sent.
	c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// query is the settings as a URL has them, credentials left out.
func (o Options) query() string {
	v := url.Values{}
	for name, value := range map[string]string{"endpoint": o.Endpoint, "region": o.Region, "class": o.Class, "profile": o.Profile} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if o.PathStyle {
		v.Set("path-style", "true")
	}
	if o.SignedPayload {
		v.Set("signed-payload", "true")
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// Traits implements provider.API.
func (b *bucket) Traits() provider.Traits { return b.traits }

// Close implements provider.API.
func (b *bucket) Close() error { return nil }
