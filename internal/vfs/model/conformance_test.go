package model_test

import (
	"testing"

	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/model"
	"github.com/strakefs/strake/internal/vfs/trace"
	"github.com/strakefs/strake/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return model.New(model.Options{}) }, vfstest.Caps{})
}

func TestConformanceTraced(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS {
		return trace.Wrap(model.New(model.Options{}), trace.NewLog())
	}, vfstest.Caps{})
}
