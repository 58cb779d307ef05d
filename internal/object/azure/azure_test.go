package azure_test

import (
	"fmt"
	"testing"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/azure"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/test/servers"
)

func opened(t *testing.T, o azure.Options) object.Store {
	t.Helper()
	s, err := azure.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	srv := servers.Azure(t)
	n := 0
	for name, prefix := range map[string]string{"container": "", "prefix": "some/prefix"} {
		t.Run(name, func(t *testing.T) {
			objecttest.Run(t, func(t *testing.T) object.Store {
				n++
				container := fmt.Sprintf("container-%d", n)
				srv.Container(t, container)
				o := provider.Options{PartSize: 1 << 20, Prefix: prefix}
				if prefix == "" {
					o.Hold = provider.NewMemory(provider.DefaultHold) // else all that is larger than a part goes in parts
				}
				return opened(t, azure.Options{Container: container, ConnectionString: srv.ConnectionString, Options: o})
			}, objecttest.Capabilities{Has: objecttest.All(), Keys: keys(prefix, 1200)})
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
