package vfs_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// rig is a volume over an engine and a drive in memory.
type rig struct {
	testing.TB
	ctx    context.Context
	engine kv.Engine
	drive  *blobtest.Drive
	meta   *meta.Store
	blob   *blob.Store
	vol    meta.Volume
	fs     *vfs.Local
	clock  clock.Clock
}

type rigOptions struct {
	policy  func(*policy.Policy)
	options func(*vfs.Options)
	engine  kv.Engine
	keys    blob.Keys   // nil: blobtest's
	clock   clock.Clock // of metadata and the volume; nil: the machine's
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	r := &rig{TB: t, ctx: t.Context(), drive: blobtest.NewDrive(1), engine: o.engine}
	var err error
	if r.engine == nil {
		r.engine, err = mem.Open(mem.Options{})
		r.ok(err)
	}
	r.meta, err = meta.Open(r.ctx, r.engine, meta.Options{Clock: o.clock})
	r.ok(err)
	if o.keys == nil {
		o.keys = blobtest.Keys{Cipher: fsapi.CipherAES256GCM}
	}
	r.blob, err = blob.New(blob.Options{
		Index: r.meta, Keys: o.keys, Drives: blob.NewDriveSet(r.drive),
	})
	r.ok(err)
	p := policy.Default()
	p.Trash = policy.TrashOff
	if o.policy != nil {
		o.policy(&p)
	}
	r.vol, err = r.meta.CreateVolume(r.ctx, meta.Volume{Name: "v", Encrypted: true, Policy: p})
	r.ok(err)
	r.clock = o.clock
	r.open(o.options)
	t.Cleanup(func() {
		if err := r.fs.Close(context.Background()); err != nil && !t.Failed() {
			t.Logf("close: %v", err)
		}
		r.ok(r.blob.Close())
		r.ok(r.engine.Close())
	})
	return r
}

// open opens the volume, again after Close.
func (r *rig) open(change func(*vfs.Options)) {
	r.Helper()
	o := vfs.Options{Meta: r.meta, Blob: vfs.FromStore(r.blob), Volume: r.vol.ID, Clock: r.clock}
	if change != nil {
		change(&o)
	}
	var err error
	r.fs, err = vfs.New(o)
	r.ok(err)
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%v (%v)", err, fsapi.KindOf(err))
	}
}

func (r *rig) fails(want fsapi.Kind, err error) {
	r.Helper()
	if err == nil || fsapi.KindOf(err) != want {
		r.Fatalf("got %v, want %q", err, want)
	}
}

const rw = vfs.OpenRead | vfs.OpenWrite

func (r *rig) create(name string) vfs.File {
	r.Helper()
	_, f, err := r.fs.Create(r.ctx, fsapi.Root, fsapi.RootIno, name, vfs.NewNode{Mode: 0o644}, rw)
	r.ok(err)
	return f
}

func (r *rig) write(f vfs.File, p []byte, off int64) {
	r.Helper()
	n, err := f.WriteAt(r.ctx, p, off)
	r.ok(err)
	if n != len(p) {
		r.Fatalf("wrote %d of %d bytes", n, len(p))
	}
}

func (r *rig) read(f vfs.File, off int64, n int) []byte {
	r.Helper()
	p := make([]byte, n)
	got, err := f.ReadAt(r.ctx, p, off)
	r.ok(err)
	return p[:got]
}

// wants compares a file's whole content.
func (r *rig) wants(f vfs.File, want []byte) {
	r.Helper()
	got := r.read(f, 0, len(want)+1)
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	r.Fatalf("content differs at %d: %d bytes, want %d", i, len(got), len(want))
}

// noise is bytes that do not compress.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	x := seed*0x9E3779B97F4A7C15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 32)
	}
	return p
}

const patience = 20 * time.Second
