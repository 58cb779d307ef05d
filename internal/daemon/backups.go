package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/checkpoint"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// backups are the places that take copies of the metadata besides the drives.
// Safe for concurrent use.
type backups struct {
	n   *Node
	one chan struct{} // holds a token while a backup is made because somebody asked for it

	mu    sync.Mutex
	open  map[string]drive.Drive // by place; guarded by mu
	errs  map[string]error       // why one is not open; guarded by mu
	ended bool                   // nothing is to be opened any more; guarded by mu
}

func newBackups(n *Node) *backups {
	return &backups{n: n, one: make(chan struct{}, 1), open: map[string]drive.Drive{}, errs: map[string]error{}}
}

// all are the places that are open.
func (b *backups) all() []drive.Drive {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.open))
}

// Pauses between attempts to open a place, which double from the first to the
// last.
const (
	firstBackupPause = 5 * time.Second
	lastBackupPause  = 5 * time.Minute
)

// keep opens a configured place, as soon as that is possible, until ctx ends. A
// place that hangs is waited for by a goroutine that nothing can end; what it
// opens too late is closed.
func (b *backups) keep(ctx context.Context, where string) error {
	pause := firstBackupPause
	for {
		done := make(chan error, 1)
		go func() { done <- b.start(context.WithoutCancel(ctx), where) }()
		select {
		case err := <-done:
			if err == nil || errors.Is(err, fsapi.Closed) {
				return nil
			}
			if b.failed(where, err) {
				b.n.log.Error("a place of metadata backups cannot be opened", "place", where, "err", err)
			}
		case <-ctx.Done():
			return nil
		}
		select {
		case <-b.n.clock.After(pause):
			pause = min(2*pause, lastBackupPause)
		case <-ctx.Done():
			return nil
		}
	}
}

// failed notes why a place is not open, and says whether that is new.
func (b *backups) failed(where string, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.errs[where]
	b.errs[where] = err
	return was == nil || was.Error() != err.Error()
}

func (b *backups) start(ctx context.Context, where string) error {
	d, err := openBackup(ctx, b.n.fs, where, b.n.owner())
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.Join(fsapi.Errorf(fsapi.Closed, "%s: the store is closed", where), d.Close())
	}
	b.open[where] = d
	delete(b.errs, where)
	return nil
}

func (b *backups) close() error {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	var errs []error
	for _, d := range b.all() {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// find is the open place of a name or an identity, or nil.
func (b *backups) find(where string, id fsapi.DriveID) drive.Drive {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, d := range b.open {
		if at == where || d.Info().ID == id {
			return d
		}
	}
	return nil
}

// problems are what an administrator should know of the places.
func (b *backups) problems(st checkpoint.Status) (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, where := range slices.Sorted(maps.Keys(b.errs)) {
		list = append(list, fmt.Sprintf("metadata backup: %v", b.errs[where]))
	}
	for _, d := range st.Drives {
		if _, ours := b.open[d.Name]; ours && d.Err != nil {
			list = append(list, fmt.Sprintf("metadata backup to %s is behind: %v", d.Name, d.Err))
		}
	}
	return list
}

// backupFailed is the last line of a backup that could not go on.
func backupFailed(err error) api.MetaBackupEvent {
	return api.MetaBackupEvent{End: true, Error: err.Error()}
}

// backupMeta brings all metadata to a place now, and reads it back. A place that
// has an older backup of the store is given what it lacks.
func (n *Node) backupMeta(ctx context.Context, req api.MetaBackup, emit func(api.MetaBackupEvent) error) (err error) {
	b := n.backups
	select {
	case b.one <- struct{}{}:
		defer func() { <-b.one }()
	case <-ctx.Done():
		return fsapi.Errorf(fsapi.Interrupted, "wait for another backup: %w", context.Cause(ctx))
	}
	for _, v := range n.volumes.all() {
		if err := v.local.Syncfs(ctx); err != nil {
			return err
		}
	}
	d := b.find(req.To, 0)
	if d == nil {
		if d, err = openBackup(ctx, n.fs, req.To, n.owner()); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
	}
	phase := func(what string) func(int64) error {
		return func(bytes int64) error { return emit(api.MetaBackupEvent{Phase: what, Done: bytes}) }
	}
	err = reporting(ctx, phase("write metadata"), func(ctx context.Context, bytes *atomic.Int64) error {
		if kept := b.find("", d.Info().ID); kept != nil {
			return n.flushTo(ctx, kept)
		}
		return n.shipTo(ctx, metered{d, bytes})
	})
	if err != nil {
		return err
	}
	end := api.MetaBackupEvent{End: true}
	err = reporting(ctx, phase("read it back"), func(ctx context.Context, bytes *atomic.Int64) (err error) {
		end.Backup, err = n.verifyBackup(ctx, metered{d, bytes})
		return err
	})
	if err != nil {
		return err
	}
	return emit(end)
}

// flushTo brings the running backups up to date, and fails for that of one place
// only.
func (n *Node) flushTo(ctx context.Context, d drive.Drive) error {
	err := n.ships.Flush(ctx)
	for _, st := range n.ships.Status().Drives {
		if st.ID != d.Info().ID {
			continue
		}
		if st.Err == nil && !st.Behind {
			return nil
		}
		return fsapi.Errorf(fsapi.KindOf(errors.Join(st.Err, err)), "backup to %s: %w", st.Name, errors.Join(st.Err, err))
	}
	return errors.Join(err, fsapi.Errorf(fsapi.Busy, "%s is not taken into account yet: try again", d.Info().Where))
}

// shipTo brings everything to a place that nothing is shipped to otherwise.
func (n *Node) shipTo(ctx context.Context, d drive.Drive) error {
	ships, err := checkpoint.New(n.shipperOptions(func() []drive.Drive { return []drive.Drive{d} }))
	if err != nil {
		return err
	}
	defer ships.Close()
	return ships.Backup(ctx)
}

// verifyAttempts is how often a backup is read that goes on meanwhile, and so may
// have blobs replaced under the reader.
const verifyAttempts = 3

// verifyBackup reads all that a restore would.
func (n *Node) verifyBackup(ctx context.Context, d drive.Drive) (out *api.MetaBackedUp, err error) {
	for range verifyAttempts {
		r, rerr := checkpoint.Restore(ctx, []drive.Drive{d}, n.keys.StoreKey(), nil)
		if rerr == nil && len(r.Problems) == 0 {
			return &api.MetaBackedUp{Place: d.Info().Where, AsOf: r.Stamp.Time().UTC(), Seq: uint64(r.Seq)}, nil
		}
		if err = rerr; err == nil {
			err = fsapi.Errorf(fsapi.Corrupt, "the backup in %s does not read back whole: %v", d.Info().Where, r.Problems)
		}
	}
	return out, err
}

// shipperOptions are those of what brings metadata to drives.
func (n *Node) shipperOptions(drives func() []drive.Drive) checkpoint.Options {
	c := &n.cfg.Backup
	return checkpoint.Options{
		Engine: n.engine, Drives: drives, Key: n.keys.StoreKey(), IsCounter: meta.IsCounter, Keyring: n.keys.Bytes,
		GroupBytes: int64(c.Group), GroupAge: c.Age, CheckpointBytes: int64(c.Checkpoint),
		Keep: c.Keep, KeepBytes: int64(c.KeepBytes), Log: n.log,
	}
}
