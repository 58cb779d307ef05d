package mem

import (
	"testing"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/kvtest"
)

func TestConformance(t *testing.T) {
	kvtest.Run(t, kvtest.Subject{Open: func(t *testing.T) kv.Engine {
		e, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}})
}

func BenchmarkMem(b *testing.B) {
	kvtest.Bench(b, func(b *testing.B) kv.Engine {
		e, err := Open(Options{})
		if err != nil {
			b.Fatal(err)
		}
		return e
	})
}
