package history

import (
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/vfstest"
	"github.com/strakefs/strake/test/stack"
)

func TestConformance(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    stack.Options
	}{
		{"mem", stack.Options{Engine: stack.Mem}},
		{"pebble", stack.Options{
			Engine: stack.Pebble, Cipher: fsapi.CipherAES256GCM,
			Policy: policy.Policy{Chunking: policy.Chunking{Fixed: 4096}},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vfstest.Run(t, func(t *testing.T) vfs.FS {
				s := stack.Start(t, tc.o)
				t.Cleanup(func() {
					if !t.Failed() {
						s.CheckClean(t)
					}
				})
				return s.Local
			}, vfstest.Caps{})
		})
	}
}
