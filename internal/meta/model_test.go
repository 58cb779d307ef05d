package meta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/policy"
)

// The model is what the records stand for, kept in the plainest way.
type model struct {
	nodes map[fsapi.Ino]*modelNode
}

func (m *model) clone() model {
	c := model{nodes: map[fsapi.Ino]*modelNode{}}
	for ino, n := range m.nodes {
		k := *n
		k.names, k.xattrs = maps.Clone(n.names), maps.Clone(n.xattrs)
		c.nodes[ino] = &k
	}
	return c
}

type modelNode struct {
	typ     fsapi.FileType
	names   map[string]fsapi.Ino // a directory's
	links   int
	up      fsapi.Ino // a directory's parent
	orphan  bool
	trashed bool
	cells   [modelCells]cell
	xattrs  map[string]string
}

// modelCells is the size of files in the model, in bytes.
const modelCells = 48

// cell is one byte of a file: a byte of a chunk, preallocated, or a hole.
type cell struct {
	chunk byte // 0 for none
	off   uint32
	kind  fsapi.ExtentKind
}

const modelChunkLen = 64

func (n *modelNode) used() (sum int64) {
	for _, c := range n.cells {
		if c.kind != 0 {
			sum++
		}
	}
	return sum
}

// machine runs the same operations on a store and on the model.
type machine struct {
	t *rapid.T
	f *fixture
	m model

	snaps map[fsapi.SnapshotID]model // as the model was then
}

func (x *machine) pick(label string, ok func(ino fsapi.Ino, n *modelNode) bool) (fsapi.Ino, *modelNode) {
	var list []fsapi.Ino
	for _, ino := range slices.Sorted(maps.Keys(x.m.nodes)) {
		if ok(ino, x.m.nodes[ino]) {
			list = append(list, ino)
		}
	}
	if len(list) == 0 {
		x.t.Skip("no " + label)
	}
	ino := rapid.SampledFrom(list).Draw(x.t, label)
	return ino, x.m.nodes[ino]
}

func liveDir(_ fsapi.Ino, n *modelNode) bool {
	return n.typ == fsapi.TypeDirectory && !n.orphan && !n.trashed
}

func (x *machine) name() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d", "e\x80", "long name with spaces"}).Draw(x.t, "name")
}

func (x *machine) keep() Keep {
	return rapid.SampledFrom([]Keep{KeepNone, KeepOrphan, KeepTrash}).Draw(x.t, "keep")
}

// agree compares the outcome of an operation with what the model says.
func (x *machine) agree(err error, want fsapi.Kind) bool {
	x.t.Helper()
	switch {
	case want == 0 && err != nil:
		x.t.Fatalf("unexpected: %v", err)
	case want != 0 && (err == nil || fsapi.KindOf(err) != want):
		x.t.Fatalf("got %v, want %v", err, want)
	}
	return err == nil
}

func (x *machine) create() {
	dir, d := x.pick("dir", liveDir)
	name := x.name()
	typ := rapid.SampledFrom([]fsapi.FileType{fsapi.TypeRegular, fsapi.TypeRegular, fsapi.TypeDirectory, fsapi.TypeSymlink, fsapi.TypeSocket}).Draw(x.t, "type")
	want := fsapi.Kind(0)
	if _, ok := d.names[name]; ok {
		want = fsapi.Exist
	}
	var ino fsapi.Ino
	err := x.f.try(func(tx *Tx) error {
		p, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Create(p, name, NewInode{Type: typ, Mode: 0o640, Uid: 5, Target: "where"})
		if err == nil {
			ino = in.Ino
		}
		return err
	})
	if x.agree(err, want) {
		n := &modelNode{typ: typ, links: 1, up: dir, xattrs: map[string]string{}}
		if typ == fsapi.TypeDirectory {
			n.names, n.links = map[string]fsapi.Ino{}, 2
			d.links++
		}
		d.names[name] = ino
		x.m.nodes[ino] = n
	}
}

func (x *machine) link() {
	dir, d := x.pick("dir", liveDir)
	ino, n := x.pick("file", func(_ fsapi.Ino, n *modelNode) bool {
		return n.typ != fsapi.TypeDirectory || n.orphan || n.trashed
	})
	name := x.name()
	want := fsapi.Kind(0)
	if _, ok := d.names[name]; ok {
		want = fsapi.Exist
	}
	err := x.f.try(func(tx *Tx) error {
		p, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.Link(p, name, in)
	})
	if !x.agree(err, want) {
		return
	}
	d.names[name] = ino
	n.links++
	n.orphan, n.trashed = false, false
	if n.typ == fsapi.TypeDirectory {
		n.links, n.up = 2, dir
		d.links++
	}
}

// lose takes a name from a node of the model.
func (x *machine) lose(ino, dir fsapi.Ino, keep Keep) {
	n := x.m.nodes[ino]
	n.links--
	if n.typ == fsapi.TypeDirectory {
		x.m.nodes[dir].links--
		n.links = 0
	}
	if n.links > 0 {
		return
	}
	switch keep {
	case KeepNone:
		delete(x.m.nodes, ino)
	case KeepOrphan:
		n.orphan = true
	case KeepTrash:
		n.trashed = true
	}
}

func (x *machine) remove() {
	dir, d := x.pick("dir", func(ino fsapi.Ino, n *modelNode) bool { return liveDir(ino, n) && len(n.names) > 0 })
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(d.names))).Draw(x.t, "name")
	ino, keep := d.names[name], x.keep()
	want := fsapi.Kind(0)
	if len(x.m.nodes[ino].names) > 0 {
		want = fsapi.NotEmpty
	}
	if x.agree(x.f.remove(dir, name, keep), want) {
		delete(d.names, name)
		x.lose(ino, dir, keep)
	}
}

// below reports whether ino is dir or a directory somewhere in it.
func (x *machine) below(ino, dir fsapi.Ino) bool {
	for ; ino != 0; ino = x.m.nodes[ino].up {
		if ino == dir {
			return true
		}
	}
	return false
}

func (x *machine) rename() {
	named := func(ino fsapi.Ino, n *modelNode) bool { return liveDir(ino, n) && len(n.names) > 0 }
	from, fd := x.pick("from", named)
	to, td := x.pick("to", liveDir)
	fn := rapid.SampledFrom(slices.Sorted(maps.Keys(fd.names))).Draw(x.t, "fromName")
	tn, exchange, keep := x.name(), rapid.Bool().Draw(x.t, "exchange"), x.keep()
	ino := fd.names[fn]
	in := x.m.nodes[ino]
	victim, exists := td.names[tn]
	vn := x.m.nodes[victim]
	switch { // what vfs checks
	case in.typ == fsapi.TypeDirectory && x.below(to, ino),
		exchange && !exists,
		exchange && vn.typ == fsapi.TypeDirectory && x.below(from, victim),
		!exchange && exists && (in.typ == fsapi.TypeDirectory) != (vn.typ == fsapi.TypeDirectory),
		!exchange && exists && victim != ino && len(vn.names) > 0:
		x.t.Skip("not allowed")
	}
	err := x.f.try(func(tx *Tx) error {
		f, err := tx.Inode(from)
		if err != nil {
			return err
		}
		t, err := tx.Inode(to)
		if err != nil {
			return err
		}
		i, err := tx.Lookup(from, fn)
		if err != nil {
			return err
		}
		var v *Inode
		if exists {
			if v, err = tx.Lookup(to, tn); err != nil {
				return err
			}
		}
		return tx.Rename(f, fn, i, t, tn, v, exchange, keep)
	})
	if err != nil && errors.Is(err, fsapi.CrossDevice) && from != to &&
		(in.typ == fsapi.TypeDirectory || exchange && vn.typ == fsapi.TypeDirectory) && x.quotas() {
		return
	}
	if !x.agree(err, 0) || exists && ino == victim {
		return
	}
	move := func(n *modelNode, from, to *modelNode, dir fsapi.Ino) {
		if n.typ == fsapi.TypeDirectory {
			from.links--
			to.links++
			n.up = dir
		}
	}
	if exchange {
		fd.names[fn] = victim
		move(vn, td, fd, from)
	} else {
		delete(fd.names, fn)
		if exists {
			x.lose(victim, to, keep)
		}
	}
	td.names[tn] = ino
	move(in, fd, td, to)
}

func (x *machine) quotas() bool {
	n := uint64(0)
	x.f.view(func(tx *Tx) error {
		err := tx.readVolume()
		n = tx.volume.quotas
		return err
	})
	return n > 0
}

func file(_ fsapi.Ino, n *modelNode) bool { return n.typ == fsapi.TypeRegular }

func (x *machine) extents() {
	ino, n := x.pick("file", file)
	off := rapid.Int64Range(0, modelCells-1).Draw(x.t, "off")
	end := rapid.Int64Range(off, modelCells).Draw(x.t, "end")
	var ext []fsapi.Extent
	var st fsapi.Stored
	cells := n.cells
	for at := off; at < end; {
		l := rapid.Int64Range(1, end-at).Draw(x.t, "len")
		kind := fsapi.ExtentKind(rapid.IntRange(0, 3).Draw(x.t, "kind"))
		e := fsapi.Extent{Off: at, Len: l, Kind: kind}
		seed := byte(rapid.IntRange(1, 6).Draw(x.t, "chunk"))
		switch kind {
		case fsapi.ExtentData:
			e.Chunk = fsapi.ChunkID{seed * 40, 1}
			e.ChunkOff = uint32(rapid.Int64Range(0, modelChunkLen-l).Draw(x.t, "chunkOff"))
			journal := rapid.Bool().Draw(x.t, "journal")
			x.stored(&st, e.Chunk, seed, journal)
		case fsapi.ExtentInline:
			e.Chunk, e.ChunkLen, e.Inline = fsapi.ChunkID{seed}, modelChunkLen, []byte{seed, 2, 3}
		}
		for i := range l {
			switch kind {
			case 0:
				cells[at+i] = cell{}
			case fsapi.ExtentUnwritten:
				cells[at+i] = cell{kind: kind}
			default:
				cells[at+i] = cell{chunk: seed, off: e.ChunkOff + uint32(i), kind: kind}
			}
		}
		if kind != 0 {
			ext = append(ext, e)
		}
		at += l
	}
	x.agree(x.f.try(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		if err := tx.Record(&st); err != nil {
			return err
		}
		in.Size = modelCells // of which the model knows nothing: content may be anywhere
		return tx.SetExtents(in, off, end, ext)
	}), 0)
	n.cells = cells
}

// stored adds a chunk to what blob would have stored.
func (x *machine) stored(st *fsapi.Stored, id fsapi.ChunkID, seed byte, journal bool) {
	for _, c := range st.Chunks {
		if c.ID == id {
			return
		}
	}
	loc := fsapi.Location{Segment: segID(seed), Offset: 8, Length: 100}
	if journal {
		loc = fsapi.Location{Segment: fsapi.SegmentID{1, seed, 15: 1}, Offset: uint32(seed), Length: 5}
		st.Journal = append(st.Journal, fsapi.JournalFrame{Loc: loc, Data: []byte("frame")})
	} else {
		st.Segments = append(st.Segments, testSegment(x.f.vol, seed))
	}
	st.Chunks = append(st.Chunks, fsapi.Chunk{ID: id, Len: modelChunkLen, Loc: loc})
}

func (x *machine) truncate() {
	ino, n := x.pick("file", file)
	size := rapid.Int64Range(0, modelCells).Draw(x.t, "size")
	step := rapid.IntRange(1, 3).Draw(x.t, "step")
	at := int64(-1)
	for at != size {
		x.f.do(func(tx *Tx) error {
			in, err := tx.Inode(ino)
			if err != nil {
				return err
			}
			before := at
			at, err = tx.TruncateExtents(in, size, step)
			if err == nil && (at < size || before >= 0 && at >= before) {
				x.t.Fatalf("truncation went from %d to %d", before, at)
			}
			list, err2 := tx.Extents(ino, at, fsapi.MaxFileSize, 10)
			if len(list) > 0 || err2 != nil {
				x.t.Fatalf("after truncation down to %d: %v, %v", at, list, err2)
			}
			return err
		})
	}
	clear(n.cells[size:])
}

func (x *machine) shift() {
	ino, n := x.pick("file", file)
	off := rapid.Int64Range(0, modelCells).Draw(x.t, "off")
	delta := rapid.Int64Range(-off, 6).Draw(x.t, "delta")
	var cells [modelCells]cell
	want := fsapi.Kind(0)
	for i, c := range n.cells {
		to := int64(i)
		if to >= off {
			to += delta
		} else if delta < 0 && to >= off+delta && c.kind != 0 {
			want = fsapi.Invalid
		}
		if c.kind == 0 {
			continue
		}
		if to >= modelCells {
			x.t.Skip("beyond the model")
		}
		cells[to] = c
	}
	if x.agree(x.f.try(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		in.Size = modelCells
		return tx.ShiftExtents(in, off, delta)
	}), want) {
		n.cells = cells
	}
}

func (x *machine) xattr() {
	ino, n := x.pick("inode", func(fsapi.Ino, *modelNode) bool { return true })
	name := rapid.SampledFrom([]string{"user.a", "user.b", xattrACL, xattrDefACL}).Draw(x.t, "xattr")
	set := rapid.Bool().Draw(x.t, "set")
	want := fsapi.Kind(0)
	if _, ok := n.xattrs[name]; !ok && !set {
		want = fsapi.NoAttr
	}
	if !x.agree(x.f.try(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		if set {
			return tx.SetXattr(in, name, []byte("v"))
		}
		return tx.RemoveXattr(in, name)
	}), want) {
		return
	}
	if set {
		n.xattrs[name] = "v"
	} else {
		delete(n.xattrs, name)
	}
}

func (x *machine) quota() {
	dir, _ := x.pick("dir", func(ino fsapi.Ino, n *modelNode) bool { return liveDir(ino, n) && ino != fsapi.RootIno })
	q := rapid.SampledFrom([]Quota{{}, {Bytes: 1 << 40}, {Inodes: 1 << 40}}).Draw(x.t, "quota")
	x.f.do(func(tx *Tx) error {
		in, err := tx.Inode(dir)
		if err != nil {
			return err
		}
		return tx.SetQuota(in, q)
	})
}

func (x *machine) policy() {
	ino, _ := x.pick("inode", func(fsapi.Ino, *modelNode) bool { return true })
	p := rapid.SampledFrom([]policy.Policy{{}, {Ack: policy.AckAsync}, {Compression: "s2", Trash: -1}}).Draw(x.t, "policy")
	x.f.do(func(tx *Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		return tx.SetPolicy(in, p)
	})
}

func (x *machine) drop() {
	ino, n := x.pick("dead", func(_ fsapi.Ino, n *modelNode) bool { return n.orphan || n.trashed })
	toOrphan := n.trashed && rapid.Bool().Draw(x.t, "toOrphan")
	x.f.do(func(tx *Tx) error {
		switch {
		case toOrphan:
			return tx.TrashOrphan(ino)
		case n.trashed:
			return tx.TrashDrop(ino)
		}
		return tx.DropOrphan(ino)
	})
	if toOrphan {
		n.orphan, n.trashed = true, false
		return
	}
	delete(x.m.nodes, ino)
}

func (x *machine) upkeep() {
	ctx := context.Background()
	if _, err := x.f.s.ReclaimSnapshots(ctx, x.f.vol, rapid.IntRange(1, 5).Draw(x.t, "unkeep")); err != nil {
		x.t.Fatal(err)
	}
	x.f.do(func(tx *Tx) error {
		_, err := tx.Reclaim(rapid.IntRange(1, 5).Draw(x.t, "max"))
		return err
	})
	if _, _, err := x.f.s.SweepChunks(ctx, rapid.IntRange(1, 3).Draw(x.t, "sweep")); err != nil {
		x.t.Fatal(err)
	}
}

// pack moves what is in the journal into a segment.
func (x *machine) pack() {
	ctx := context.Background()
	frames, err := x.f.s.JournalFrames(ctx, x.f.vol, 2, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	var moves []fsapi.Moved
	seg := testSegment(x.f.vol, 200)
	for _, j := range frames {
		to := fsapi.Location{Segment: seg.ID, Offset: 4, Length: 9}
		moves = append(moves, fsapi.Moved{Chunk: j.Chunk, From: j.Loc, To: to})
	}
	n, err := x.f.s.Relocate(ctx, x.f.vol, []fsapi.Segment{seg}, moves)
	if err != nil || n != len(moves) {
		x.t.Fatalf("moved %d of %d: %v", n, len(moves), err)
	}
}

func (x *machine) snapshot() {
	name := fmt.Sprint("s", len(x.snaps), rapid.Uint32().Draw(x.t, "snapshot"))
	s, err := x.f.s.CreateSnapshot(context.Background(), x.f.vol, Snapshot{Name: name})
	if err != nil && fsapi.KindOf(err) == fsapi.Exist {
		return
	}
	if err != nil {
		x.t.Fatal(err)
	}
	x.snaps[s.ID] = x.m.clone()
}

func (x *machine) unsnapshot() {
	if len(x.snaps) == 0 {
		x.t.Skip("no snapshot")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(x.snaps))).Draw(x.t, "snapshot")
	if err := x.f.s.DeleteSnapshot(context.Background(), x.f.vol, id); err != nil {
		x.t.Fatal(err)
	}
	delete(x.snaps, id)
}

// compare reads everything back, from the present and from each snapshot, and
// compares it with the model.
func (x *machine) compare() {
	x.compareAt(0, x.m)
	for _, id := range slices.Sorted(maps.Keys(x.snaps)) {
		x.compareAt(id, x.snaps[id])
	}
}

func (x *machine) viewAt(id fsapi.SnapshotID, fn func(tx *Tx) error) {
	x.t.Helper()
	if err := x.f.s.ViewAt(context.Background(), x.f.vol, id, fn); err != nil {
		x.t.Fatalf("snapshot %d: %v", id, err)
	}
}

func (x *machine) compareAt(id fsapi.SnapshotID, m model) {
	for _, ino := range slices.Sorted(maps.Keys(m.nodes)) {
		n := m.nodes[ino]
		links := n.links
		if n.orphan || n.trashed {
			links = 0
		}
		if id != 0 && links == 0 {
			continue // a snapshot keeps nothing that no way leads to
		}
		var a fsapi.Attr
		xattrs := map[string]string{}
		x.viewAt(id, func(tx *Tx) error {
			in, err := tx.Inode(ino)
			if err != nil {
				return err
			}
			a = in.Attr
			names, err := tx.Xattrs(ino)
			for _, name := range names {
				v, verr := tx.Xattr(ino, name)
				xattrs[name], err = string(v), errors.Join(err, verr)
			}
			return err
		})
		if a.Type != n.typ || int(a.Nlink) != links || a.Used != n.used() {
			x.t.Fatalf("inode %d at %d: %+v, want type %d, %d links, %d bytes", ino, id, a, n.typ, links, n.used())
		}
		if diff := cmp.Diff(n.xattrs, xattrs); diff != "" {
			x.t.Fatalf("attributes of %d at %d (-want +got):\n%s", ino, id, diff)
		}
		switch n.typ {
		case fsapi.TypeDirectory:
			got := map[string]fsapi.Ino{}
			x.viewAt(id, func(tx *Tx) error {
				for last := ""; ; {
					list, err := tx.ReadDir(ino, last, 2)
					if err != nil || len(list) == 0 {
						return err
					}
					for _, e := range list {
						got[e.Name], last = e.Ino, e.Name
					}
				}
			})
			if diff := cmp.Diff(n.names, got); diff != "" {
				x.t.Fatalf("directory %d at %d (-want +got):\n%s", ino, id, diff)
			}
		case fsapi.TypeRegular:
			if got := x.cells(id, ino); got != n.cells {
				x.t.Fatalf("file %d at %d holds\n%v\nwant\n%v", ino, id, got, n.cells)
			}
			x.seeks(id, ino, n)
		}
	}
}

func (x *machine) cells(id fsapi.SnapshotID, ino fsapi.Ino) (cells [modelCells]cell) {
	x.viewAt(id, func(tx *Tx) error {
		list, err := tx.Extents(ino, 0, modelCells, 1000)
		for _, e := range list {
			for i := range e.Len {
				c := cell{kind: e.Kind}
				if e.Kind != fsapi.ExtentUnwritten {
					c.off, c.chunk = e.ChunkOff+uint32(i), e.Chunk[0]
				}
				if e.Kind == fsapi.ExtentData {
					c.chunk /= 40
				}
				cells[e.Off+i] = c
			}
		}
		return err
	})
	return cells
}

func (x *machine) seeks(id fsapi.SnapshotID, ino fsapi.Ino, n *modelNode) {
	find := func(data bool, off int64) int64 {
		for ; off < modelCells; off++ {
			k := n.cells[off].kind
			if (k == fsapi.ExtentData || k == fsapi.ExtentInline) == data {
				return off
			}
		}
		return modelCells
	}
	off := rapid.Int64Range(0, modelCells-1).Draw(x.t, "seek")
	x.viewAt(id, func(tx *Tx) error {
		d, err := tx.NextData(ino, off, modelCells)
		if err != nil || d != find(true, off) {
			x.t.Fatalf("data of %d after %d: %d, %v", ino, off, d, err)
		}
		h, err := tx.NextHole(ino, off, modelCells)
		if err != nil || h != find(false, off) {
			x.t.Fatalf("hole of %d after %d: %d, %v", ino, off, h, err)
		}
		return nil
	})
}

func TestRandomHistoriesAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e, err := mem.Open(mem.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer e.Close()
		x := &machine{t: rt, f: newFixtureOn(t, e), snaps: map[fsapi.SnapshotID]model{}}
		x.m.nodes = map[fsapi.Ino]*modelNode{fsapi.RootIno: {
			typ: fsapi.TypeDirectory, links: 2, names: map[string]fsapi.Ino{}, xattrs: map[string]string{},
		}}
		steps := 0
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) { x.t = rt; x.create() }, "create2": func(rt *rapid.T) { x.t = rt; x.create() },
			"link": func(rt *rapid.T) { x.t = rt; x.link() }, "remove": func(rt *rapid.T) { x.t = rt; x.remove() },
			"rename": func(rt *rapid.T) { x.t = rt; x.rename() }, "rename2": func(rt *rapid.T) { x.t = rt; x.rename() },
			"extents": func(rt *rapid.T) { x.t = rt; x.extents() }, "truncate": func(rt *rapid.T) { x.t = rt; x.truncate() },
			"shift": func(rt *rapid.T) { x.t = rt; x.shift() }, "xattr": func(rt *rapid.T) { x.t = rt; x.xattr() },
			"quota": func(rt *rapid.T) { x.t = rt; x.quota() }, "policy": func(rt *rapid.T) { x.t = rt; x.policy() },
			"drop": func(rt *rapid.T) { x.t = rt; x.drop() }, "upkeep": func(rt *rapid.T) { x.t = rt; x.upkeep() },
			"pack":     func(rt *rapid.T) { x.t = rt; x.pack() },
			"snapshot": func(rt *rapid.T) { x.t = rt; x.snapshot() }, "unsnapshot": func(rt *rapid.T) { x.t = rt; x.unsnapshot() },
			"": func(rt *rapid.T) {
				if steps++; steps%8 == 0 {
					x.t = rt
					x.compare()
					x.check()
				}
			},
		})
		x.t = rt
		x.compare()
		x.check()
		x.dropAll()
	})
}

// dropAll deletes all snapshots: what is left is as if there had been none.
func (x *machine) dropAll() {
	for len(x.snaps) > 0 {
		x.unsnapshot()
	}
	for more := true; more; {
		var err error
		if more, err = x.f.s.ReclaimSnapshots(context.Background(), x.f.vol, 7); err != nil {
			x.t.Fatal(err)
		}
	}
	x.compare()
	x.check()
	err := x.f.e.View(context.Background(), func(r kv.Reader) error {
		for _, tab := range []byte{tabHistory, tabSnapshot, tabSnapName, tabHeld} {
			err := r.Scan([]byte{tab}, []byte{tab + 1}, func(k, _ []byte) (bool, error) {
				return false, corrupt(k, "left over")
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *machine) check() {
	var found []string
	err := x.f.s.Check(context.Background(), x.f.vol, nil, func(p Problem) {
		found = append(found, fmt.Sprintf("%s: %s", p.Kind, p.Text))
	})
	if err != nil || found != nil {
		x.t.Fatalf("%v, %v", err, found)
	}
	for id := range x.snaps {
		err := x.f.s.CheckSnapshot(context.Background(), x.f.vol, id, nil, func(p Problem) {
			found = append(found, fmt.Sprintf("at %d: %s: %s", id, p.Kind, p.Text))
		})
		if err != nil || found != nil {
			x.t.Fatalf("%v, %v", err, found)
		}
	}
}
