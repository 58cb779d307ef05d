package bucket

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/s3"
	"github.com/strakefs/strake/internal/object/url"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/test/servers"
)

// TestConformanceS3 is the suite over a server that speaks S3.
func TestConformanceS3(t *testing.T) {
	srv := servers.S3(t)
	srv.Bucket(t, "metadata")
	n := 0
	conformance(t, func() (object.Store, error) {
		n++
		return s3.Open(t.Context(), s3.Options{
			Bucket: "metadata", Endpoint: srv.Endpoint, Region: "us-east-1", PathStyle: true,
			AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Options: provider.Options{Prefix: fmt.Sprintf("n%d", n)},
		})
	})
}

func TestConformanceDir(t *testing.T) {
	conformance(t, func() (object.Store, error) {
		return url.All().Open(t.Context(), "file://"+t.TempDir(), url.Secrets{}, provider.Options{})
	})
}

// conformance runs the suite over stores that open makes, each empty. What becomes
// of an engine opened again and again is seen over memory, where it is quick.
func conformance(t *testing.T, open func() (object.Store, error)) {
	kvtest.Run(t, kvtest.Subject{Open: func(t *testing.T) kv.Engine {
		s, err := open()
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return (&place{o: small(s, osfs.NewMem(osfs.MemOptions{}))}).Open(t)
	}})
}
