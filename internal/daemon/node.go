package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/heat"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/telemetry"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/trace"
)

// Node is one process's view of a store: every layer below the doors.
type Node struct {
	cfg     config.Config
	at      layout
	fs      osfs.FS
	log     *slog.Logger
	clock   clock.Clock
	started time.Time

	lock    io.Closer
	keys    *keyring.Keyring
	engine  kv.Engine
	meta    *meta.Store
	drives  *drives
	heat    *heat.Table
	blob    *blob.Store
	upkeep  *upkeep.Upkeep
	volumes *volumes
	ships   metaCopies
	state   *bucketState // nil: the metadata is on this machine
	part    partOpener   // of the bucket that holds everything
	follow  *following   // nil: this process writes
	keyFS   osfs.FS      // for the keyring's file
	asked   keyring.KEK  // the password that a person is asked for; nil: nobody
	backups *backups
	tokens  *tokens
	trace   *trace.Log
	metrics *telemetry.Registry
	budget  *vfs.Budget
	hold    *provider.Memory // of all buckets that are drives

	incarnation identity.Incarnation // what the drives are marked with that this process opens

	problems problems
	remote   remote

	background sync.WaitGroup
	ctx        context.Context    // of the background; nil before it starts
	stop       context.CancelFunc // ends the background
	closers    []func() error     // in the order of opening
}

// openMode says what openNode may do.
type openMode int

const (
	openExisting  openMode = iota // for tools: refuse a directory that is not a store
	openOrCreate                  // for serve and init
	openFollowing                 // for serve that only follows another server
)

// openNode opens every layer up to the volumes, without starting loops or
// doors. On an error everything is closed again.
func openNode(ctx context.Context, cfg config.Config, log *slog.Logger, mode openMode) (*Node, error) {
	return openNodeAsking(ctx, cfg, log, mode, nil)
}

// openNodeAsking is openNode where a person may be asked for the password.
func openNodeAsking(ctx context.Context, cfg config.Config, log *slog.Logger, mode openMode, asked keyring.KEK) (n *Node, err error) {
	n = &Node{
		cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: log, clock: clock.Real, started: time.Now(),
		trace: trace.NewLog(), metrics: telemetry.NewRegistry(), budget: vfs.NewBudget(int64(cfg.Write.Dirty)), hold: holdMemory(cfg.Memory.Limit), part: openPart,
		incarnation: identity.NewIncarnation(),
	}
	if cfg.Engine.ReadOnly && mode != openFollowing {
		return nil, fsapi.Errorf(fsapi.ReadOnly, "engine.read_only is set, and this would take %s over from the server that writes: give another configuration", cfg.Engine.URL)
	}
	n.remote.n, n.keyFS, n.asked = n, n.fs, asked
	n.backups = newBackups(n)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.closeLayers())
			n = nil
		}
	}()
	for _, step := range []func(context.Context, openMode) error{
		n.openDir, n.openKeys, n.openEngine, n.openMeta, n.openDrives, n.openBlob, n.openVolumes,
	} {
		if err := step(ctx, mode); err != nil {
			return n, err
		}
	}
	return n, nil
}

// onClose adds a step of closing, done in reverse order.
func (n *Node) onClose(fn func() error) { n.closers = append(n.closers, fn) }

func (n *Node) closeLayers() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *Node) openDir(ctx context.Context, mode openMode) error {
	made, err := n.at.exists(n.fs)
	if err != nil {
		return fsapi.Wrap(fsapi.IO, err, "look into data directory "+n.at.dir)
	}
	if n.cfg.Engine.Bucket() {
		return n.openBucketDir(ctx, mode)
	}
	if err := n.refuseCache(); err != nil {
		return err
	}
	if !made && mode == openExisting {
		return fsapi.Errorf(fsapi.NotExist, "%s is not a Strake data directory: it has no keyring (make one with strake init or strake serve)", n.at.dir)
	}
	if !made {
		if err := n.refuseForeign(); err != nil {
			return err
		}
	}
	if n.lock, err = n.at.take(n.fs); err != nil {
		return err
	}
	n.onClose(n.lock.Close)
	return nil
}

// refuseForeign keeps a new store out of a directory that holds other things.
func (n *Node) refuseForeign() error {
	names, err := n.fs.ReadDir(n.at.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fsapi.Wrap(fsapi.IO, err, "look into data directory "+n.at.dir)
	}
	for _, name := range names {
		switch name {
		case "lock", "password", "lost+found", filepath.Base(n.at.run()):
		default:
			return fsapi.Errorf(fsapi.Exist, "%s holds %s but no Strake store: give an empty directory", n.at.dir, name)
		}
	}
	return nil
}

// refuseLost keeps an empty store from taking the place of one whose metadata is
// gone, on the drives as well.
func (n *Node) refuseLost() error {
	if len(n.keys.Volumes()) == 0 {
		return nil
	}
	names, err := n.fs.ReadDir(n.at.meta())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fsapi.Wrap(fsapi.IO, err, "look into "+n.at.meta())
	}
	if len(names) > 0 {
		return nil
	}
	return fsapi.Errorf(fsapi.NotExist, "the metadata in %s is gone, though the keyring knows volumes: make it anew with strake fsck --rebuild, load a dump with strake meta load, or move back what was moved away (meta.new, meta.before-…)", n.at.meta())
}

func (n *Node) openEngine(ctx context.Context, mode openMode) error {
	open := n.pebble
	if mode == openFollowing {
		open = n.bucketFollower
	} else if n.state != nil {
		open = n.bucketEngine
	} else if err := n.refuseLost(); err != nil {
		return err
	}
	e, err := open(ctx)
	if err != nil {
		return err
	}
	n.engine = e
	n.onClose(e.Close)
	return nil
}

// pebble opens the embedded engine.
func (n *Node) pebble(context.Context) (kv.Engine, error) {
	return pebble.Open(pebble.Options{FS: n.fs, Dir: n.at.meta(), CacheBytes: int64(n.cfg.Cache.Metadata), Log: n.log})
}

func (n *Node) openMeta(ctx context.Context, _ openMode) (err error) {
	open := meta.Open
	if n.follow != nil {
		open = meta.OpenReadOnly
	}
	if n.meta, err = open(ctx, n.engine, meta.Options{Clock: n.clock}); err != nil {
		return err
	}
	n.tokens, err = loadTokens(ctx, n.meta)
	return err
}

func (n *Node) openBlob(_ context.Context, _ openMode) (err error) {
	n.heat = n.newHeat()
	n.blob, err = blob.New(blob.Options{
		Index: n.meta, Keys: n.keysOf(), Drives: n.drives.set,
		CacheBytes: int64(n.cfg.Cache.Chunks), SegmentBytes: int64(n.cfg.Segment.Size), JournalMax: int(n.cfg.Journal.Max),
		InlineMax: int(n.cfg.Write.Inline), Workers: n.cfg.Write.Workers, Prefetch: int64(n.cfg.Read.Prefetch),
		Clock: n.clock, Log: n.log, Bad: n.badReplica, Heat: n.heat, NoRoom: n.noRoom,
		Admit: func(ctx context.Context) error { return n.upkeep.Admit(ctx) },
	})
	if err != nil {
		return err
	}
	n.onClose(n.blob.Close)
	n.upkeep, err = n.newUpkeep()
	return err
}

// run starts a loop that ends with the node.
func (n *Node) run(ctx context.Context, name string, loop func(context.Context) error) {
	n.background.Go(func() {
		if err := loop(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("a background loop ended", "loop", name, "err", err)
		}
	})
}

// startBackground starts upkeep and checkpoints.
func (n *Node) startBackground(ctx context.Context) error {
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.ctx = ctx
	var err error
	if n.ships, err = n.newShipper(); err != nil {
		return err
	}
	n.run(ctx, "drives", n.drives.mind)
	if n.follow != nil {
		n.run(ctx, "follow", n.follow.Run)
		return nil
	}
	n.startBackups(ctx)
	writing, fenced := context.WithCancel(ctx)
	n.run(ctx, "log flush", func(ctx context.Context) error { defer fenced(); n.flushLog(ctx); return nil })
	n.run(writing, "upkeep", func(ctx context.Context) error { n.upkeep.Run(ctx); return nil })
	n.run(writing, "checkpoints", n.ships.Run)
	n.run(writing, "volumes", n.volumes.reclaim)
	n.run(writing, "schedules", n.keepSchedules)
	return nil
}

// logFlushEvery bounds how long an acknowledged namespace operation that
// nobody synced stays in memory of the operating system only.
const logFlushEvery = time.Second

// bucketFlushEvery is the same where the log is in a bucket, which is paid by the
// request: of this process's memory.
const bucketFlushEvery = 5 * time.Second

// flushLog makes the log durable now and then, for those who do not fsync. Where
// that fails it says so once, and when it has ended. It returns when another has
// taken over, which the engine has said: nothing that writes need go on then.
func (n *Node) flushLog(ctx context.Context) {
	failing, every := false, logFlushEvery
	if n.state != nil {
		every = bucketFlushEvery
	}
	for waited := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-n.clock.After(logFlushEvery):
		}
		err := n.engine.Stats().Failure
		waited += logFlushEvery
		tried := waited >= every
		if tried {
			waited = 0
			if n.engine.DurableSeq() < n.engine.LastSeq() {
				err = n.engine.Sync(ctx)
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !tried:
			continue // nothing is known of how a write would fare
		case errors.Is(err, fsapi.Fenced):
			n.log.Warn("this server is read-only until it is started again, and then takes over in turn")
			return
		case err != nil && !failing:
			n.log.Error("the metadata log cannot be written: changes are refused until it can", "err", err)
		case err == nil && failing:
			n.log.Info("the metadata log is written again")
		}
		failing = err != nil
	}
}

// fenced says that another server has taken the store over: this one answers from
// what it knows, and writes nothing. nil: it has not, as far as is known.
func (n *Node) fenced() error {
	if err := n.engine.Stats().Failure; errors.Is(err, fsapi.Fenced) {
		return err
	}
	return nil
}

// Close stops the loops, writes everything back, brings the drives' copies of
// the metadata up to date and closes every layer.
func (n *Node) Close(ctx context.Context) error {
	errs := []error{n.volumes.close(ctx)}
	if n.stop != nil {
		n.stop()
		n.background.Wait()
	}
	if n.ships != nil {
		errs = append(errs, n.ships.Flush(ctx))
		n.ships.Close()
	}
	return errors.Join(append(errs, n.closeLayers())...)
}
