package mem_test

import (
	"testing"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
)

func TestConformance(t *testing.T) {
	variants := map[string]struct {
		mem      mem.Options
		provider provider.Options
		has      object.Capabilities
	}{
		"keeps conditions":   {mem.Options{Page: 7, MinPart: 1 << 20}, provider.Options{PartSize: 1 << 20}, objecttest.All()},
		"below a prefix":     {mem.Options{}, provider.Options{PartSize: 1 << 20, Prefix: "a/b", Parallel: 1}, objecttest.All()},
		"ignores conditions": {mem.Options{IgnoreConditions: true, IgnoreInParts: true}, provider.Options{PartSize: 1 << 20}, object.Capabilities{Parts: true}},
		"ignores in parts":   {mem.Options{IgnoreInParts: true}, provider.Options{PartSize: 1 << 20}, object.Capabilities{IfAbsent: true, IfVersion: true}},
	}
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			var b *mem.Bucket
			objecttest.Run(t, func(t *testing.T) object.Store {
				b = mem.New(v.mem)
				s, err := b.Open(v.provider)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}, objecttest.Capabilities{Has: v.has, Unfinished: func(*testing.T) int { return b.Uploads() }, Billed: true})
		})
	}
}
