package vfs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// Local is a volume in process: FS and Admin over a meta.Store and a
// blob.Store. Nothing else may change the volume while it is open, unless it is
// open read-only and told by Refresh.
type Local struct {
	o      Options
	vol    fsapi.VolumeID
	budget *Budget
	pages  pages
	nodes  *table
	queue  *queue
	rounds rounds
	locks  lockTable
	watch  watchers
	virt   *virtual
	stats  counters

	// gate is held shared by every change of the volume's metadata, and
	// exclusively by what must have it stand still: quotas being counted,
	// batches.
	gate sync.RWMutex
	// moves is held while a directory changes its place, so that what is
	// above what does not change meanwhile.
	moves sync.Mutex

	nameCount atomic.Int64 // names that directories cache
	listings  listings

	policies policies
	quotas   quotas
	space    space
	reclaim  chan struct{} // of one: something waits to be reclaimed
	orphans  orphans
	copying  sync.Mutex // held by a restore or clone: one at a time

	ctx    context.Context // of write-back and workers: ends after the last flush
	cancel context.CancelFunc
	stop   chan struct{}  // closed by Close: workers but flushers end
	tasks  sync.WaitGroup // flushers, workers, launched flights
	closed atomic.Bool
	moved  atomic.Uint64 // see Moves
	fenced atomic.Bool   // that nothing can be stored any more was said
}

var (
	_ FS    = (*Local)(nil)
	_ Admin = (*Local)(nil)
)

// New opens a volume. Unless it is read-only, it drops what orphans an earlier
// process left, and starts its goroutines: Flushers that write back, one that wakes
// them, and one that releases storage and expires trash. Close ends them.
func New(o Options) (*Local, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	fs := &Local{
		o: o, vol: o.Volume, budget: o.Budget,
		reclaim: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	fs.ctx, fs.cancel = context.WithCancel(context.Background())
	fs.pages.budget = o.Budget
	fs.nodes = newTable(fs, o.Nodes)
	fs.queue = newQueue(o.FlushAge, fs.now, o.Budget)
	fs.locks.init()
	fs.virt = newVirtual(fs, o.Virtual)
	if o.ReadOnly {
		return fs, nil
	}
	if err := fs.dropOrphans(); err != nil {
		fs.cancel()
		return nil, err
	}
	o.Budget.enlist(fs, fs.queue.kick)
	for range o.Flushers {
		fs.tasks.Go(fs.flusher)
	}
	fs.tasks.Go(fs.ticker)
	fs.tasks.Go(fs.janitor)
	fs.wakeReclaim()
	return fs, nil
}

// Close stores everything dirty, makes it durable and ends the goroutines.
// Calls after it fail with fsapi.Closed. An error says that something could
// not be stored, and is lost. ctx bounds the flush of the log only.
func (fs *Local) Close(ctx context.Context) error {
	if fs.closed.Swap(true) {
		return nil
	}
	fs.locks.close()
	close(fs.stop)
	fs.queue.close()
	var err error
	if !fs.o.ReadOnly {
		err = fs.barrier()
		fs.orphans.drop(fs)
		err = cmpErr(err, fs.o.Meta.KeepRetentionClock(fs.ctx))
		err = cmpErr(err, fs.o.Meta.Sync(ctx))
	}
	fs.tasks.Wait()
	fs.cancel()
	fs.budget.strike(fs)
	fs.pages.retire()
	return err
}

func (fs *Local) now() time.Time { return fs.o.Clock.Now() }

// Volume is the number of the volume.
func (fs *Local) Volume() fsapi.VolumeID { return fs.vol }

func (fs *Local) errClosed() error {
	return fsapi.Errorf(fsapi.Closed, "volume %d is closed", fs.vol)
}

func (fs *Local) view(ctx context.Context, fn func(tx *meta.Tx) error) error {
	return fs.o.Meta.View(ctx, fs.vol, fn)
}

// update commits fn's changes. It is not ended by the context of a caller: a
// change that is begun is done or fails. REQUIRES gate.
func (fs *Local) update(fn func(tx *meta.Tx) error) (kv.Seq, error) {
	if fs.o.ReadOnly {
		return 0, errReadOnly(fs.vol)
	}
	return fs.o.Meta.Update(fs.ctx, fs.vol, kv.UpdateOptions{}, fn)
}

func (fs *Local) updateShared(fn func(tx *meta.Tx) error) (kv.Seq, error) {
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	return fs.update(fn)
}

// note adds a change to the batch's events.
func (fs *Local) note(tx *meta.Tx, c fsapi.Change) {
	c.Volume = fs.vol
	tx.Note(c)
}

// node finds an inode that is not virtual, held for the caller.
func (fs *Local) node(ctx context.Context, ino fsapi.Ino) (*node, error) {
	if fs.closed.Load() {
		return nil, fs.errClosed()
	}
	if ino >= fsapi.VirtualIno {
		return nil, errVirtual(ino)
	}
	return fs.nodes.get(ctx, ino)
}

// dir finds a directory, held for the caller.
func (fs *Local) dir(ctx context.Context, ino fsapi.Ino) (*node, error) {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return nil, err
	}
	if n.typ != fsapi.TypeDirectory {
		n.release()
		return nil, fsapi.Errorf(fsapi.NotDir, "inode %d is not a directory", ino)
	}
	return n, nil
}
