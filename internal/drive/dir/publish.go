package dir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"syscall"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// commit is the commit of a blob in progress.
type commit struct {
	done   chan struct{} // closed at the end
	hidden bool          // the name may be there, not durable yet; written by its commit, under Drive.mu
}

// publish gives a synced temporary file its blob's name, durably, and shows it
// then. Two of one name wait for each other.
func (d *Drive) publish(ctx context.Context, temp, name string) error {
	c, err := d.beginCommit(ctx, name)
	if err != nil {
		return d.fail(err, "commit", name)
	}
	defer d.endCommit(name, c)
	dir := path.Dir(name)
	if err = d.syncedDir(dir); err != nil {
		return d.fail(notBlobs(err), "commit", name)
	}
	err = d.place(temp, name, c)
	if errors.Is(err, fs.ErrExist) {
		// It may have been placed by a process that was killed before it
		// synced the directory.
		if err = d.fs.SyncDir(d.file(dir)); err == nil {
			err = fsapi.Errorf(fsapi.Exist, "there is a blob of that name")
		}
		return d.fail(err, "commit", name)
	}
	if err == nil {
		err = d.fs.SyncDir(d.file(dir))
	}
	if err != nil && c.hidden {
		d.retract(name)
	}
	if err != nil {
		return d.fail(notBlobs(err), "commit", name)
	}
	return nil
}

// retract takes back a name that may be there and could not be made durable.
// Where even that fails the blob stays hidden until the drive is opened again.
func (d *Drive) retract(name string) {
	err := d.fs.Remove(d.file(name))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost[name] = true
}

// beginCommit keeps others from committing a name.
func (d *Drive) beginCommit(ctx context.Context, name string) (*commit, error) {
	for {
		d.mu.Lock()
		if d.lost[name] {
			d.mu.Unlock()
			return nil, fsapi.Errorf(fsapi.IO, "an earlier commit failed halfway; open the drive again")
		}
		other := d.commits[name]
		if other == nil {
			c := &commit{done: make(chan struct{})}
			d.commits[name] = c
			d.mu.Unlock()
			return c, nil
		}
		d.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *Drive) endCommit(name string, c *commit) {
	d.mu.Lock()
	delete(d.commits, name)
	d.mu.Unlock()
	close(c.done)
}

// place gives the file its name, hidden, unless that is taken: link(2) is
// atomic in this; where there are no hard links beginCommit has to do.
func (d *Drive) place(temp, name string, c *commit) error {
	if _, err := d.fs.Stat(d.file(name)); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.mu.Lock()
	c.hidden = true
	d.mu.Unlock()
	if d.links.Load() {
		err := d.fs.Link(temp, d.file(name))
		if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EMLINK) {
			return err
		}
		d.links.Store(false)
	}
	return d.fs.Rename(temp, d.file(name))
}

// syncedDir makes the directory of some blobs, with durable names all the way
// up. Directories are never removed, so that each is done once.
func (d *Drive) syncedDir(dir string) error {
	if dir == "." || d.isSynced(dir) {
		return nil
	}
	if err := d.fs.MkdirAll(d.file(dir), 0o700); err != nil {
		return err
	}
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' || d.isSynced(dir[:i]) {
			continue
		}
		if err := d.fs.SyncDir(path.Dir(d.file(dir[:i]))); err != nil {
			return err
		}
		d.mu.Lock()
		d.synced[dir[:i]] = true
		d.mu.Unlock()
	}
	return nil
}

func (d *Drive) isSynced(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced[dir]
}

// Replace implements drive.Drive.
func (d *Drive) Replace(ctx context.Context, name string, data []byte) error {
	if err := d.enterWrite(ctx, "replace", name); err != nil {
		return err
	}
	defer d.leave()
	if len(data) > drive.MaxReplace {
		return fsapi.Errorf(fsapi.TooBig, "drive %s: replace %s: %d bytes, want at most %d", d.label(), name, len(data), drive.MaxReplace)
	}
	if err := d.ours(ctx, 0, "replace", name); err != nil {
		return err
	}
	err := d.touch()
	if err == nil {
		err = d.replace(name, data)
	}
	if err != nil {
		return d.fail(notBlobs(err), "replace", name)
	}
	return nil
}

func (d *Drive) replace(name string, data []byte) error {
	temp := d.tempName()
	err := osfs.WriteSynced(d.fs, temp, data, 0o600)
	if err == nil {
		err = d.syncedDir(path.Dir(name))
	}
	if err == nil {
		err = d.fs.Rename(temp, d.file(name))
	}
	if err != nil {
		_ = d.fs.Remove(temp) // or Open will
		return err
	}
	d.handles.forget(name)
	return d.fs.SyncDir(path.Dir(d.file(name)))
}
