package vfs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// Bounds of a batch.
const (
	maxOps       = 10_000
	maxOpData    = 1 << 20 // bytes of one operation
	maxBatchData = 8 << 20 // bytes of all
)

// errOther says that a batch came upon a file that it has not quieted: one that
// came to its path meanwhile, or by an operation of the batch.
var errOther = errors.New("another file has the name now")

// Batch implements FS. The data of all operations is stored first; then the
// whole volume stands still for one transaction. A file whose content a batch
// sets is quieted before: nothing of it is dirty or in flight until the end.
func (fs *Local) Batch(ctx context.Context, c *fsapi.Cred, ops []Op) ([]fsapi.Attr, error) {
	if fs.closed.Load() {
		return nil, fs.errClosed()
	}
	if err := checkBatch(ops); err != nil {
		return nil, err
	}
	var more []fsapi.Ino
	for {
		b := &batch{fs: fs, c: c, ops: ops, more: more, quiet: map[fsapi.Ino]*node{}}
		attrs, err := b.run(ctx)
		if err == nil {
			err = b.commitRetention(ctx)
		}
		if !errors.Is(err, errOther) {
			return attrs, err
		}
		more = append(more, b.other)
	}
}

func checkBatch(ops []Op) error {
	if len(ops) > maxOps {
		return fsapi.Errorf(fsapi.TooBig, "a batch of %d operations: %d is the most", len(ops), maxOps)
	}
	total := 0
	for i := range ops {
		n := len(ops[i].Data)
		if total += n; n > maxOpData || total > maxBatchData {
			return fsapi.Errorf(fsapi.TooBig, "operation %d of the batch: %d bytes an operation and %d a batch are the most", i, maxOpData, maxBatchData)
		}
	}
	return nil
}

// batch is one Batch in progress.
type batch struct {
	fs     *Local
	c      *fsapi.Cred
	ops    []Op
	more   []fsapi.Ino         // to be quieted besides those at the operations' paths
	other  fsapi.Ino           // that errOther is about
	quiet  map[fsapi.Ino]*node // regular files that are locked and not dirty
	held   []*node             // of quiet, those whose io and fl are held
	locked map[fsapi.Ino]*node // whose ns is held, since they lose a name

	dry    bool // data is not stored yet, and nothing is to last
	stored []*fsapi.Stored
	puts   []fsapi.Ino      // by operation: the number its data was stored under
	datas  [][]fsapi.Extent // by operation

	// What one run of the transaction did.
	changed map[fsapi.Ino]*meta.Inode
	made    map[fsapi.Ino]bool
	gone    map[fsapi.Ino]meta.Keep
	events  []fsapi.Change
	attrs   []fsapi.Attr
}

func (b *batch) run(ctx context.Context) ([]fsapi.Attr, error) {
	fs := b.fs
	defer b.unquiet()
	if err := b.quieten(ctx); err != nil {
		return nil, err
	}
	if err := b.rehearse(); err != nil {
		return nil, err
	}
	if err := b.storeData(ctx); err != nil {
		return nil, err
	}
	fs.gate.Lock()
	defer fs.gate.Unlock()
	b.locked = map[fsapi.Ino]*node{}
	defer func() {
		for _, n := range b.locked {
			n.ns.Unlock()
			n.release()
		}
	}()
	seq, err := fs.update(b.transact)
	for try := 0; kindOf(err) == fsapi.Conflict && try < 3; try++ {
		if err = b.storeAll(ctx, BlobBatch.AddNew); err == nil {
			seq, err = fs.update(b.transact)
		}
	}
	if err != nil {
		return nil, err
	}
	b.publish(seq)
	return b.attrs, nil
}

// commitRetention puts under retention what the batch has made read-only.
func (b *batch) commitRetention(ctx context.Context) error {
	for i := range b.ops {
		if op := &b.ops[i]; op.Kind != OpSetattr || !op.Set.commits() {
			continue
		}
		n, err := b.fs.node(ctx, b.attrs[i].Ino)
		if kindOf(err) == fsapi.Stale {
			continue // a later operation removed it
		}
		if err != nil {
			return err
		}
		err = b.fs.commitRetention(ctx, b.c, n)
		n.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// rehearse runs the transaction without data and drops it, so that no data is
// stored for a batch that fails.
func (b *batch) rehearse() error {
	b.puts = make([]fsapi.Ino, len(b.ops))
	b.dry = true
	defer func() { b.dry = false }()
	_, err := b.fs.updateShared(func(tx *meta.Tx) error {
		return cmpErr(b.transact(tx), errEnough)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// storeData makes the data of all operations durable, or ready to be.
func (b *batch) storeData(ctx context.Context) error {
	for i := range b.ops {
		if b.ops[i].Kind != OpPut {
			continue
		}
		ino, err := b.fs.o.Meta.NewIno(ctx, b.fs.vol)
		if err != nil {
			return err
		}
		b.puts[i] = ino
	}
	return b.storeAll(ctx, BlobBatch.Add)
}

type adder func(bb BlobBatch, ctx context.Context, ino fsapi.Ino, off int64, data []byte, hold bool) (int, error)

func (b *batch) storeAll(ctx context.Context, add adder) error {
	fs := b.fs
	batches := map[string]BlobBatch{}
	defer func() {
		for _, bb := range batches {
			bb.Abort()
		}
	}()
	b.stored, b.datas = nil, make([][]fsapi.Extent, len(b.ops))
	for i := range b.ops {
		if b.puts[i] == 0 || len(b.ops[i].Data) == 0 {
			continue
		}
		class, err := b.classOf(ctx, b.ops[i].Path)
		if err != nil {
			return err
		}
		bb := batches[class.key]
		if bb == nil {
			bb = fs.o.Blob.NewBatch(ctx, fs.vol, class.class)
			batches[class.key] = bb
		}
		if _, err := add(bb, ctx, b.puts[i], 0, b.ops[i].Data, false); err != nil {
			return err
		}
	}
	byIno := map[fsapi.Ino][]fsapi.Extent{}
	for _, bb := range batches {
		st, err := bb.Finish(ctx, blob.Auto)
		if err != nil {
			return err
		}
		b.stored = append(b.stored, st)
		for _, e := range st.Extents {
			byIno[e.Ino] = append(byIno[e.Ino], e.Extent)
		}
	}
	for i, ino := range b.puts {
		b.datas[i] = byIno[ino]
		slices.SortFunc(b.datas[i], func(x, y fsapi.Extent) int { return cmp.Compare(x.Off, y.Off) })
	}
	return nil
}

// classOf is the policy that holds at a path as far as it is there now.
func (b *batch) classOf(ctx context.Context, path string) (*effective, error) {
	n, err := b.walk(ctx, path)
	if err != nil {
		return nil, err
	}
	defer n.release()
	return b.fs.effective(ctx, n)
}

// walk goes down a path as far as there is something, without permission
// checks: the transaction makes them. The result is held.
func (b *batch) walk(ctx context.Context, path string) (*node, error) {
	n, err := b.fs.node(ctx, fsapi.RootIno)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if !n.isDir() || checkName(name) != nil {
			break
		}
		next, err := b.fs.child(ctx, n, name)
		if k := kindOf(err); k == fsapi.NotExist || k == fsapi.Stale {
			break
		}
		if err != nil {
			n.release()
			return nil, err
		}
		n.release()
		n = next
	}
	return n, nil
}

// quieten stops reads and writes of the files whose content the batch sets, in
// order of their numbers, and stores what they have.
func (b *batch) quieten(ctx context.Context) error {
	for i := range b.ops {
		if !b.ops[i].needsQuiet() {
			continue
		}
		n, err := b.walk(ctx, b.ops[i].Path)
		if err != nil {
			return err
		}
		b.addQuiet(n)
	}
	for _, ino := range b.more {
		n, err := b.fs.node(ctx, ino)
		if kindOf(err) == fsapi.Stale {
			continue
		}
		if err != nil {
			return err
		}
		b.addQuiet(n)
	}
	ns := make([]*node, 0, len(b.quiet))
	for _, n := range b.quiet {
		ns = append(ns, n)
	}
	slices.SortFunc(ns, func(x, y *node) int { return cmp.Compare(x.ino, y.ino) })
	var first error
	for _, n := range ns {
		n.io.Lock()
		n.fl.Lock()
		b.held = append(b.held, n)
		if first == nil {
			first = b.fs.flushNodeLocked(n)
		}
	}
	return first
}

// addQuiet takes over a held node.
func (b *batch) addQuiet(n *node) {
	if n.typ != fsapi.TypeRegular || b.quiet[n.ino] != nil {
		n.release()
		return
	}
	b.quiet[n.ino] = n
}

// needsQuiet reports whether o sets what a file may have unsaved in memory.
func (o *Op) needsQuiet() bool {
	return o.Kind == OpPut || o.Kind == OpSetattr && (o.Set.Size != nil || o.Set.timesSet())
}

func (b *batch) unquiet() {
	for _, n := range b.held {
		n.fl.Unlock()
		n.io.Unlock()
	}
	for _, n := range b.quiet {
		n.release()
	}
}

// transact is the transaction. REQUIRES gate, exclusively.
func (b *batch) transact(tx *meta.Tx) error {
	tx.SetDoor(b.c.Door)
	b.changed, b.gone, b.made = map[fsapi.Ino]*meta.Inode{}, map[fsapi.Ino]meta.Keep{}, map[fsapi.Ino]bool{}
	b.events, b.attrs = nil, make([]fsapi.Attr, len(b.ops))
	for _, st := range b.stored {
		if err := tx.Record(st); err != nil {
			return err
		}
	}
	ins := make([]*meta.Inode, len(b.ops))
	for i := range b.ops {
		x := opRun{b: b, tx: tx, op: &b.ops[i], i: i}
		in, err := x.do()
		if errors.Is(err, errOther) || kindOf(err) == fsapi.Conflict && err != nil {
			return err
		}
		if err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "operation on "+b.ops[i].Path)
		}
		ins[i] = in
		if in != nil {
			b.attrs[i] = b.seen(in)
		}
	}
	return nil
}

// seen is an inode's attributes with what is newer in memory.
func (b *batch) seen(in *meta.Inode) fsapi.Attr {
	a := in.Attr
	if n := b.fs.nodes.peek(in.Ino); n != nil {
		n.mu.RLock()
		overlay(&a, &n.in.Attr, n.newer())
		n.mu.RUnlock()
		n.release()
	}
	return a
}

// publish takes over what was committed.
func (b *batch) publish(seq kv.Seq) {
	fs := b.fs
	for ino, in := range b.changed {
		n := fs.nodes.peek(ino)
		if n == nil {
			continue
		}
		if keep, ok := b.gone[ino]; ok {
			fs.unnamed(n, in, keep, seq)
		}
		n.mu.Lock()
		if !n.gone {
			n.pol, n.quota, n.acl = nil, nil, nil
			n.installLocked(in, seq)
			n.extents.clear()
			fs.nameCount.Add(-int64(n.nameCount.Swap(0)))
			n.names = nil
		}
		n.mu.Unlock()
		n.release()
	}
	fs.policies.gen.Add(1) // directories may have moved
	fs.quotas.gen.Add(1)
	if len(b.gone) > 0 {
		fs.wakeReclaim()
	}
	for _, c := range b.events {
		fs.tell(c)
	}
}
