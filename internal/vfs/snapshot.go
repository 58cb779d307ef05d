package vfs

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Snapshot is the volume as it was at one moment.
type Snapshot struct {
	ID      fsapi.SnapshotID
	Name    string
	Created time.Time
	// Until is before when it cannot be deleted; zero: it can.
	Until time.Time
	// Auto says that a schedule, or an operation that wants a way back, made it.
	Auto bool
	// Deleting says that its space is being released.
	Deleting bool
	// Held is the bytes of file ranges that are kept for it, and perhaps for
	// older ones, though the volume does not have them any more.
	Held int64
}

// Difference is a path that differs between two states of the volume.
type Difference = meta.Difference

// Snapshots implements Admin.
func (fs *Local) Snapshots(ctx context.Context) ([]Snapshot, error) {
	all, err := fs.o.Meta.Snapshots(ctx, fs.vol)
	if err != nil {
		return nil, err
	}
	list := make([]Snapshot, len(all))
	for i := range all {
		list[i] = Snapshot(all[i])
	}
	return list, nil
}

// Snapshot implements Admin.
func (fs *Local) Snapshot(ctx context.Context, name string) (Snapshot, error) {
	s, err := fs.o.Meta.SnapshotByName(ctx, fs.vol, name)
	return Snapshot(s), err
}

// CreateSnapshot implements Admin.
func (fs *Local) CreateSnapshot(ctx context.Context, c *fsapi.Cred, s Snapshot) (Snapshot, error) {
	if c.Uid != 0 {
		return Snapshot{}, fsapi.Errorf(fsapi.NotPermitted, "only the superuser takes snapshots")
	}
	if fs.closed.Load() {
		return Snapshot{}, fs.errClosed()
	}
	if err := fs.Syncfs(ctx); err != nil {
		return Snapshot{}, err
	}
	made, err := fs.o.Meta.CreateSnapshot(ctx, fs.vol, meta.Snapshot{Name: s.Name, Until: s.Until, Auto: s.Auto})
	if err == nil {
		fs.tell(fsapi.Change{
			Kind: fsapi.ChangeCreate, Ino: snapIno(made.ID, fsapi.RootIno), Dir: virtualSnaps, Name: made.Name,
			Type: fsapi.TypeDirectory, Door: c.Door,
		})
	}
	return Snapshot(made), err
}

// DeleteSnapshot implements Admin.
func (fs *Local) DeleteSnapshot(ctx context.Context, c *fsapi.Cred, name string) error {
	if c.Uid != 0 {
		return fsapi.Errorf(fsapi.NotPermitted, "only the superuser deletes snapshots")
	}
	s, err := fs.Snapshot(ctx, name)
	if err != nil {
		return err
	}
	if err := fs.o.Meta.DeleteSnapshot(ctx, fs.vol, s.ID); err != nil {
		return err
	}
	fs.tell(fsapi.Change{
		Kind: fsapi.ChangeRemove, Ino: snapIno(s.ID, fsapi.RootIno), Dir: virtualSnaps, Name: name,
		Type: fsapi.TypeDirectory, Door: c.Door,
	})
	fs.wakeReclaim()
	return nil
}

// DiffSnapshots implements Admin.
func (fs *Local) DiffSnapshots(ctx context.Context, from, to string, fn func(Difference) error) error {
	a, err := fs.Snapshot(ctx, from)
	if err != nil {
		return err
	}
	var b Snapshot
	if to != "" {
		if b, err = fs.Snapshot(ctx, to); err != nil {
			return err
		}
		if b.ID <= a.ID {
			return fsapi.Errorf(fsapi.Invalid, "snapshot %q is not newer than %q: give the older one first", to, from)
		}
	} else if err := fs.barrier(); err != nil { // the present is what was written, not what was stored
		return err
	}
	return fs.o.Meta.Diff(ctx, fs.vol, a.ID, b.ID, fn)
}

// snapStep is how many records one transaction releases of a deleted snapshot.
const snapStep = 1000

// drainSnapshots releases what deleted snapshots held, until nothing waits.
func (fs *Local) drainSnapshots() {
	for {
		select {
		case <-fs.stop:
			return
		default:
		}
		more, err := fs.o.Meta.ReclaimSnapshots(fs.ctx, fs.vol, snapStep)
		if err != nil {
			fs.o.Log.Warn("space of deleted snapshots could not be released; it is tried again", "err", err)
		}
		if err != nil || !more {
			return
		}
	}
}
