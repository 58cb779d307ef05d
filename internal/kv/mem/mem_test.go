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
