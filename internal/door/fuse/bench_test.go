package fuse

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/vfs/model"
)

// door is the request handlers over a model, without a kernel, and an open file
// of 1 MiB.
func door(b *testing.B) (r *raw, node, fh uint64) {
	b.Helper()
	o := Options{FS: model.New(model.Options{}), Dir: "/nowhere", Log: quiet()}
	if err := o.setDefaults(); err != nil {
		b.Fatal(err)
	}
	r = &raw{o: o, fs: o.FS, log: o.Log, creds: creds{door: o.Door}, gaveUp: make(chan struct{})}
	r.inval = newInvalidator(nil, o.Door)
	in := &fuse.CreateIn{Flags: 2}
	in.NodeId = 1
	var out fuse.CreateOut
	if st := r.Create(nil, in, "file", &out); !st.Ok() {
		b.Fatal(st)
	}
	w := &fuse.WriteIn{Fh: out.Fh}
	if _, st := r.Write(nil, w, make([]byte, 1<<20)); !st.Ok() {
		b.Fatal(st)
	}
	return r, out.NodeId, out.Fh
}

// The benchmarks are of the door's own cost for one request; the model's is in
// it, and small.

func BenchmarkLookup(b *testing.B) {
	r, _, _ := door(b)
	h := &fuse.InHeader{NodeId: 1}
	b.ReportAllocs()
	for b.Loop() {
		var out fuse.EntryOut
		if st := r.Lookup(nil, h, "file", &out); !st.Ok() {
			b.Fatal(st)
		}
	}
}

func BenchmarkGetAttr(b *testing.B) {
	r, node, _ := door(b)
	in := &fuse.GetAttrIn{}
	in.NodeId = node
	b.ReportAllocs()
	for b.Loop() {
		var out fuse.AttrOut
		if st := r.GetAttr(nil, in, &out); !st.Ok() {
			b.Fatal(st)
		}
	}
}

func BenchmarkOpenRelease(b *testing.B) {
	r, node, _ := door(b)
	in := &fuse.OpenIn{}
	in.NodeId = node
	b.ReportAllocs()
	for b.Loop() {
		var out fuse.OpenOut
		if st := r.Open(nil, in, &out); !st.Ok() {
			b.Fatal(st)
		}
		r.Release(nil, &fuse.ReleaseIn{Fh: out.Fh})
	}
}

func BenchmarkRead4K(b *testing.B) {
	r, node, fh := door(b)
	in := &fuse.ReadIn{Fh: fh, Size: 4096}
	in.NodeId = node
	buf := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		in.Offset = (in.Offset + 40960) & (1<<20 - 1) &^ 4095
		res, st := r.Read(nil, in, buf)
		if !st.Ok() || res.Size() != 4096 {
			b.Fatal(st)
		}
		res.Done()
	}
}

func BenchmarkWrite4K(b *testing.B) {
	r, node, fh := door(b)
	in := &fuse.WriteIn{Fh: fh, Size: 4096}
	in.NodeId = node
	data := [][]byte{make([]byte, 4096)}
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		if n, st := r.Writev(nil, in, data); !st.Ok() || n != 4096 {
			b.Fatal(st)
		}
	}
}
