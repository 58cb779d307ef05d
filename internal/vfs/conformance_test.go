package vfs_test

import (
	"testing"

	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return newRig(t, rigOptions{}).fs }, vfstest.Caps{})
}

func TestSnapshotConformance(t *testing.T) {
	vfstest.RunSnapshots(t, func(t *testing.T) vfstest.Snapshotter { return newRig(t, rigOptions{}).fs }, vfstest.Caps{})
}

func TestRetentionConformance(t *testing.T) {
	vfstest.RunRetention(t, func(t *testing.T) vfstest.Retainer { return newRig(t, rigOptions{}).fs }, vfstest.Caps{})
}
