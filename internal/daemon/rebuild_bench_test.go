package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/test/servers"
)

// rebuildFiles is how many files BenchmarkRebuild loses.
const rebuildFiles = 200_000

// A bucket that is far away answers a request so much later, and has so many
// segments.
const (
	farAway     = 20 * time.Millisecond
	farSegments = 500
)

// BenchmarkRebuild loses the metadata of files of one small inline frame and one
// extended attribute each, in directories of 1000, and makes it anew from the
// drive, with the check at the end: a directory, or a bucket, on a disk or in
// another bucket. far is a bucket that takes a time to answer, and has much content
// besides, in small segments. Besides the whole it reports the part that reads the
// checkpoint into an engine, and the checkpoint's bytes.
func BenchmarkRebuild(b *testing.B) {
	b.Run("dir", func(b *testing.B) {
		benchRebuild(b, 0, func(root string, _ *config.Config) string { return filepath.Join(root, "nas") })
	})
	b.Run("bucket", func(b *testing.B) {
		at := newBucket(b, 0)
		benchRebuild(b, 0, func(string, *config.Config) string { return at("drive") })
	})
	b.Run("far", func(b *testing.B) {
		at := newBucket(b, farAway)
		benchRebuild(b, farSegments, func(string, *config.Config) string { return at("drive") })
	})
	b.Run("bucket-to-bucket", func(b *testing.B) {
		at := newBucket(b, 0)
		benchRebuild(b, 0, func(root string, cfg *config.Config) string {
			cfg.Engine.Kind, cfg.Engine.URL = "bucket", at("all")
			return at("drive")
		})
	})
}

// newBucket makes an empty bucket of a server that speaks S3 and answers that much
// later, and the URLs of prefixes in it.
func newBucket(b *testing.B, later time.Duration) (at func(prefix string) string) {
	s := servers.S3(b)
	s.Bucket(b, "bkt")
	b.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	b.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	endpoint := s.Endpoint
	if later > 0 {
		to, err := url.Parse(s.Endpoint)
		if err != nil {
			b.Fatal(err)
		}
		proxy := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, // which is signed
			Transport: &http.Transport{MaxIdleConnsPerHost: 100},
		}
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(later)
			proxy.ServeHTTP(w, r)
		}))
		b.Cleanup(front.Close)
		endpoint = front.URL
	}
	n := 0
	return func(prefix string) string {
		n++
		return fmt.Sprintf("s3://bkt/%s-%d?region=us-east-1&path-style=true&endpoint=%s", prefix, n, endpoint)
	}
}

// benchRebuild measures a rebuild of rebuildFiles and a number of segments of one
// file each. to changes where it is made, and says where the
// drive is.
func benchRebuild(b *testing.B, segments int, to func(root string, cfg *config.Config) (drive string)) {
	for range b.N {
		b.StopTimer()
		root := b.TempDir()
		cfg := config.Default()
		anew := cfg
		from := to(root, &anew)
		cfg.Data.Dir, anew.Data.Dir = filepath.Join(root, "data"), filepath.Join(root, "anew")
		cfg.Data.PasswordFile = filepath.Join(root, "password")
		anew.Data.PasswordFile = cfg.Data.PasswordFile
		if err := os.WriteFile(cfg.Data.PasswordFile, []byte("correct horse\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		cfg.Drives = []config.Drive{{Name: "nas", Path: from, Tier: "hot"}}
		cfg.Segment.Size = 1 << 20
		size := manyFiles(b, cfg, rebuildFiles, segments)
		b.StartTimer()
		start, restored, clean := time.Now(), time.Time{}, false
		err := Rebuild(b.Context(), anew, Rebuilding{From: []string{from}}, func(e api.FsckEvent) error {
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

// manyFiles makes a store with n files and a number of segments, and is the size of
// its checkpoint.
func manyFiles(b *testing.B, cfg config.Config, n, segments int) int64 {
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
	if err := manySegments(ctx, node, vol, segments); err != nil {
		b.Fatal(err)
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

// manySegments makes files that have a segment each, in a directory in the root.
func manySegments(ctx context.Context, n *Node, vol fsapi.VolumeID, count int) error {
	def := policy.Default()
	files := make([]*fsapi.Stored, count)
	inos := make([]fsapi.Ino, count)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range files {
		g.Go(func() (err error) {
			if inos[i], err = n.meta.NewIno(ctx, vol); err != nil {
				return err
			}
			batch := n.blob.NewBatch(ctx, vol, blob.Class{Copies: def.Copies, Compression: def.Compression, Chunking: def.Chunking})
			if _, err = batch.AddNew(ctx, inos[i], 0, binary.BigEndian.AppendUint64(make([]byte, 64<<10), uint64(i+1)), false); err != nil {
				return err
			}
			files[i], err = batch.Finish(ctx, blob.Segment)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, err := n.meta.Update(ctx, vol, kv.UpdateOptions{}, func(tx *meta.Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		if err != nil {
			return err
		}
		dir, err := tx.Create(root, "segments", meta.NewInode{Type: fsapi.TypeDirectory, Mode: 0o755})
		if err != nil {
			return err
		}
		for i, f := range files {
			if err := tx.Record(f); err != nil {
				return err
			}
			if err := oneOfMany(tx, dir, fmt.Sprintf("file-%04d.bin", i), inos[i], f.Extents[0].Extent); err != nil {
				return err
			}
		}
		return nil
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
