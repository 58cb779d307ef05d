package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/internal/vfs/trace"
)

// volume is one open volume.
type volume struct {
	id     fsapi.VolumeID
	local  *vfs.Local
	traced vfs.FS
	table  *volumes
}

func (v *volume) name() string {
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	for name, o := range v.table.open {
		if o == v {
			return name
		}
	}
	return ""
}

// volumes is the table of open volumes. Safe for concurrent use.
type volumes struct {
	n    *Node
	mu   sync.RWMutex
	open map[string]*volume // guarded by mu
}

// Volume is of rest.Volumes.
func (vs *volumes) Volume(name string) (vfs.FS, string, error) {
	v, err := vs.get(name)
	if err != nil {
		return nil, "", err
	}
	if name == "" {
		name = vs.n.cfg.Volume.Name
	}
	return v.traced, name, nil
}

func (vs *volumes) get(name string) (*volume, error) {
	if name == "" {
		name = vs.n.cfg.Volume.Name
	}
	vs.mu.RLock()
	defer vs.mu.RUnlock()
	v, ok := vs.open[name]
	if !ok {
		return nil, fsapi.Errorf(fsapi.NotExist, "there is no volume %q (strake volume list shows them)", name)
	}
	return v, nil
}

func (vs *volumes) byID(id fsapi.VolumeID) *volume {
	vs.mu.RLock()
	defer vs.mu.RUnlock()
	for _, v := range vs.open {
		if v.id == id {
			return v
		}
	}
	return nil
}

func (vs *volumes) all() []*volume {
	vs.mu.RLock()
	defer vs.mu.RUnlock()
	var out []*volume
	for _, v := range vs.open {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *volume) int { return int(a.id) - int(b.id) })
	return out
}

// openVolumes opens every volume, and makes the default one in a new store.
func (n *Node) openVolumes(ctx context.Context, mode openMode) error {
	n.volumes = &volumes{n: n, open: map[string]*volume{}}
	recs, err := n.meta.Volumes(ctx)
	if err != nil {
		return err
	}
	if len(recs) == 0 && mode == openOrCreate {
		return n.volumes.create(ctx, n.cfg.Volume.Name, n.cfg.Volume.Cipher, n.cfg.Volume.Policy, meta.Quota{})
	}
	for _, rec := range recs {
		if rec.Deleting {
			continue
		}
		if n.follow == nil {
			if err := n.volumes.finishCreate(ctx, rec, n.cfg.Volume.Cipher); err != nil {
				return err
			}
		}
		if err := n.volumes.start(rec); err != nil {
			return err
		}
	}
	return nil
}

// create makes a volume's record, then its keys; a crash in between is mended
// by finishCreate at the next start.
func (vs *volumes) create(ctx context.Context, name, cipher, policyText string, q meta.Quota) error {
	if name == "" || strings.ContainsAny(name, "/\x00") || len(name) > fsapi.MaxName {
		return fsapi.Errorf(fsapi.Invalid, "volume name %q: give 1 to %d bytes without a slash", name, fsapi.MaxName)
	}
	if cipher == "" {
		cipher = vs.n.cfg.Volume.Cipher
	}
	c, err := fsapi.ParseCipher(cipher)
	if err != nil {
		return err
	}
	p, err := policy.Parse(policyText)
	if err != nil {
		return err
	}
	if err := vs.n.drives.possible(p, p.Or(policy.Default())); err != nil {
		return err
	}
	rec, err := vs.n.meta.CreateVolume(ctx, meta.Volume{Name: name, Encrypted: c != fsapi.CipherNone, Policy: p.Or(policy.Default()), Quota: q})
	if err != nil {
		return err
	}
	if err := vs.finishCreate(ctx, rec, cipher); err != nil {
		return err
	}
	if err := vs.n.meta.Sync(ctx); err != nil {
		return err
	}
	return vs.start(rec)
}

// finishCreate gives a volume that has none its keys. Only a volume with
// nothing in it can have lost its keys to a crash while it was made.
func (vs *volumes) finishCreate(ctx context.Context, rec meta.Volume, cipher string) error {
	_, _, err := vs.n.keys.Current(rec.ID)
	if !errors.Is(err, fsapi.NotExist) {
		return err
	}
	var u fsapi.Usage
	err = vs.n.meta.View(ctx, rec.ID, func(tx *meta.Tx) (err error) {
		u, err = tx.Usage(fsapi.RootIno)
		return err
	})
	if err != nil {
		return err
	}
	if u.Inodes > 1 {
		return fsapi.Errorf(fsapi.Corrupt, "the keyring has no keys of volume %s, which holds %d inodes: put the right keyring file back (each drive has a copy at meta/keyring)", rec.Name, u.Inodes)
	}
	c := fsapi.CipherNone
	if rec.Encrypted {
		if c, err = fsapi.ParseCipher(cipher); err != nil {
			return err
		}
		if c == fsapi.CipherNone {
			c = fsapi.CipherAES256GCM
		}
	}
	return vs.n.keys.AddVolume(rec.ID, c)
}

// start opens a volume's vfs and puts it into the table.
func (vs *volumes) start(rec meta.Volume) error {
	v, err := vs.make(rec)
	if err != nil {
		return err
	}
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.open[rec.Name] = v
	return nil
}

// make opens a volume's vfs.
func (vs *volumes) make(rec meta.Volume) (*volume, error) {
	n := vs.n
	v := &volume{id: rec.ID, table: vs}
	o := vfs.Options{
		CopiesChanged: func(ino fsapi.Ino) { n.copiesChanged(rec.ID, ino) },
		Meta:          n.meta, Blob: vfs.FromStore(n.blob), Volume: rec.ID, Budget: n.budget,
		FlushAge: n.cfg.Write.FlushAge, Flushers: n.cfg.Write.Flushers, ReadAhead: readAhead(int64(n.cfg.Read.Ahead)), Nodes: n.cfg.Cache.Inodes, InlineMax: int(n.cfg.Write.Inline),
		Segment: int64(n.cfg.Segment.Size), Available: n.drives.available, Virtual: n.virtual(), Remote: n.remote.wait, Possible: n.drives.possible, Clock: n.clock, Log: n.log,
	}
	n.followed(&o)
	local, err := vfs.New(o)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, "open volume "+rec.Name)
	}
	v.local, v.traced = local, trace.Wrap(local, n.trace)
	return v, nil
}

// readAhead turns the configuration's 0, none, into vfs's negative.
func readAhead(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

func (vs *volumes) rename(from, to string) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.open[to] = vs.open[from]
	delete(vs.open, from)
}

// delete closes a volume and marks it; reclaim does the rest.
func (vs *volumes) delete(ctx context.Context, name string) error {
	v, err := vs.get(name)
	if err != nil {
		return err
	}
	if err := vs.n.meta.MayDeleteVolume(ctx, v.id); err != nil {
		return err
	}
	vs.mu.Lock()
	delete(vs.open, name)
	vs.mu.Unlock()
	if err := v.local.Close(ctx); err != nil {
		return err
	}
	if err := vs.n.meta.DeleteVolume(ctx, v.id); err != nil {
		return err
	}
	return vs.n.meta.DeleteSetting(ctx, scheduleSetting(v.id))
}

// reclaimEvery is how often deleted volumes are looked for.
const reclaimEvery = 10 * time.Second

// reclaim removes the records of deleted volumes, a few at a time.
func (vs *volumes) reclaim(ctx context.Context) error {
	for {
		recs, err := vs.n.meta.Volumes(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		for _, rec := range recs {
			if !rec.Deleting {
				continue
			}
			if err := vs.reclaimOne(ctx, rec.ID); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-vs.n.clock.After(reclaimEvery):
		}
	}
}

func (vs *volumes) reclaimOne(ctx context.Context, id fsapi.VolumeID) error {
	for ctx.Err() == nil {
		more, err := vs.n.meta.ReclaimVolume(ctx, id, 1000)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (vs *volumes) close(ctx context.Context) error {
	if vs == nil {
		return nil
	}
	var errs []error
	for _, v := range vs.all() {
		errs = append(errs, v.local.Close(ctx))
	}
	return errors.Join(errs...)
}
