package s3_test

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/s3"
	"github.com/strakefs/strake/test/servers"
)

func options(srv *servers.S3Server, bucket string) s3.Options {
	return s3.Options{
		Bucket: bucket, Endpoint: srv.Endpoint, Region: "us-east-1", PathStyle: true,
		AccessKey: srv.AccessKey, SecretKey: srv.SecretKey,
		Options: provider.Options{PartSize: 5 << 20},
	}
}

func opened(t *testing.T, o s3.Options) object.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	srv := servers.S3(t)
	n := 0
	for name, prefix := range map[string]string{"bucket": "", "prefix": "some/prefix"} {
		t.Run(name, func(t *testing.T) {
			var bucket string
			objecttest.Run(t, func(t *testing.T) object.Store {
				n++
				bucket = fmt.Sprintf("bucket-%d", n)
				srv.Bucket(t, bucket)
				o := options(srv, bucket)
				if o.Prefix = prefix; prefix == "" {
					o.Hold = provider.NewMemory(provider.DefaultHold) // else all that is larger than a part goes in parts
				}
				return opened(t, o)
			}, objecttest.Capabilities{
				Has: objecttest.All(), Keys: keys(prefix, 2100), Unfinished: func(t *testing.T) int { return srv.Uploads(t, bucket) }, Billed: true, Whole: prefix == "",
			})
		})
	}
}

// keys is the number of keys to list: pages are one matter, the prefix another.
func keys(prefix string, n int) int {
	if prefix != "" {
		return 20
	}
	return n
}
