package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// rebuildFiles is how many files BenchmarkRebuild loses.
const rebuildFiles = 200_000

// BenchmarkRebuild loses the metadata of files of one small inline frame and one
// extended attribute each, in directories of 1000, and makes it anew from the
// drive, with the check at the end. Besides the whole it reports the part that
// reads the checkpoint into an engine, and the checkpoint's bytes.
func BenchmarkRebuild(b *testing.B) {
	for range b.N {
		b.StopTimer()
		root := b.TempDir()
		cfg := config.Default()
		cfg.Data.Dir = filepath.Join(root, "data")
		cfg.Drives = []config.Drive{{Name: "nas", Path: filepath.Join(root, "nas"), Tier: "hot"}}
		size := manyFiles(b, cfg, rebuildFiles)
		if err := os.RemoveAll(filepath.Join(cfg.Data.Dir, "meta")); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start, restored, clean := time.Now(), time.Time{}, false
		err := Rebuild(b.Context(), cfg, Rebuilding{From: []string{cfg.Drives[0].Path}}, func(e api.FsckEvent) error {
			if e.Problem != "" {
				b.Errorf("problem: %s", e.Problem)
			}
			if restored.IsZero() && e.Phase != "" && e.Phase != "restore metadata" {
				restored = time.Now()
			}
			clean = clean || e.End && e.Clean
			return nil
		})
		if err != nil || !clean {
			b.Fatalf("clean %v: %v", clean, err)
		}
		b.ReportMetric(restored.Sub(start).Seconds(), "restore-s")
		b.ReportMetric(time.Since(start).Seconds()*1e6/rebuildFiles, "s/Mfile")
		b.ReportMetric(float64(size)/rebuildFiles, "B/file")
	}
}

// manyFiles makes a store with n files and is the size of its checkpoint.
func manyFiles(b *testing.B, cfg config.Config, n int) int64 {
	ctx := b.Context()
	node, err := openNode(ctx, cfg, slog.New(slog.DiscardHandler), openOrCreate)
	if err != nil {
		b.Fatal(err)
	}
	if node.ships, err = node.newShipper(); err != nil {
		b.Fatal(err)
	}
	vol := node.volumes.all()[0].id
	for dir := range n / 1000 {
		if err := manyIn(ctx, node, vol, fmt.Sprintf("dir-%05d", dir)); err != nil {
			b.Fatal(err)
		}
	}
	if err := node.Close(ctx); err != nil {
		b.Fatal(err)
	}
	return node.ships.Status().Size
}

// manyIn makes a directory of 1000 files in the root.
func manyIn(ctx context.Context, n *Node, vol fsapi.VolumeID, name string) error {
	def := policy.Default()
	batch := n.blob.NewBatch(ctx, vol, blob.Class{Copies: def.Copies, Compression: def.Compression, Chunking: def.Chunking})
	inos := make([]fsapi.Ino, 1000)
	for i := range inos {
		var err error
		if inos[i], err = n.meta.NewIno(ctx, vol); err != nil {
			return err
		}
		if err := batch.AddInline(ctx, inos[i], fmt.Appendf(nil, "what %s has as its file %d", name, i)); err != nil {
			return err
		}
	}
	stored, err := batch.Finish(ctx, blob.Auto)
	if err != nil {
		return err
	}
	_, err = n.meta.Update(ctx, vol, kv.UpdateOptions{}, func(tx *meta.Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		if err != nil {
			return err
		}
		dir, err := tx.Create(root, name, meta.NewInode{Type: fsapi.TypeDirectory, Mode: 0o755})
		if err != nil {
			return err
		}
		for i, ino := range inos {
			if err := oneOfMany(tx, dir, fmt.Sprintf("file-%04d.txt", i), ino, stored.Extents[i].Extent); err != nil {
				return err
			}
		}
		return tx.Record(stored)
	})
	return err
}

func oneOfMany(tx *meta.Tx, dir *meta.Inode, name string, ino fsapi.Ino, e fsapi.Extent) error {
	in, err := tx.Create(dir, name, meta.NewInode{Type: fsapi.TypeRegular, Mode: 0o644, Ino: ino})
	if err != nil {
		return err
	}
	if err := tx.SetXattr(in, "user.origin", []byte("a value of some length, as they are")); err != nil {
		return err
	}
	in.Size = e.Len
	if err := tx.SetExtents(in, 0, e.Len, []fsapi.Extent{e}); err != nil {
		return err
	}
	return tx.SetInode(in)
}
