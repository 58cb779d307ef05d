package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// amazon is Amazon's own client for Go as it comes: nothing is set but where the
// bucket is.
type amazon struct {
	client         *s3.Client
	bucket, prefix string
}

// newAmazon takes the URL that Strake takes.
func newAmazon(ctx context.Context, where string) (*amazon, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(q.Get("region")))
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = q.Get("path-style") == "true"
		if endpoint := q.Get("endpoint"); endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	return &amazon{client: client, bucket: u.Host, prefix: strings.Trim(u.Path, "/") + "/"}, nil
}

func (a *amazon) write(ctx context.Context, key string, body []byte) error {
	key = a.prefix + key
	_, err := a.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &a.bucket, Key: &key, Body: bytes.NewReader(body)})
	return err
}

func (a *amazon) read(ctx context.Context, key string, buf []byte) error {
	key = a.prefix + key
	out, err := a.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &a.bucket, Key: &key})
	if err != nil {
		return err
	}
	_, err = io.ReadFull(out.Body, buf)
	return errors.Join(err, out.Body.Close())
}
