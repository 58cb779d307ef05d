package gcs_test

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/gcs"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/test/servers"
)

func opened(t *testing.T, o gcs.Options) object.Store {
	t.Helper()
	s, err := gcs.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	srv := servers.GCS(t)
	n := 0
	for name, prefix := range map[string]string{"bucket": "", "prefix": "some/prefix"} {
		t.Run(name, func(t *testing.T) {
			objecttest.Run(t, func(t *testing.T) object.Store {
				n++
				bucket := fmt.Sprintf("bucket-%d", n)
				srv.Bucket(t, bucket)
				return opened(t, gcs.Options{Bucket: bucket, Endpoint: srv.Endpoint, Options: provider.Options{PartSize: 1<<20 + 1, Prefix: prefix}})
			}, objecttest.Capabilities{Has: objecttest.All(), Keys: keys(prefix, 2100)})
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
