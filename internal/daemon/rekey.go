package daemon

import (
	"context"
	"strconv"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
)

// rekeys is what upkeep sees of the keyring.
type rekeys struct{ n *Node }

var _ upkeep.Keys = rekeys{}

// Versions implements upkeep.Keys.
func (r rekeys) Versions(vol fsapi.VolumeID) []fsapi.KeyVersion {
	var all []fsapi.KeyVersion
	for _, v := range r.n.keys.Volumes() {
		if v.ID != vol {
			continue
		}
		for _, k := range v.Versions {
			all = append(all, k.Number)
		}
	}
	return all
}

// Prune implements upkeep.Keys. Nothing in the metadata or on drives needs the
// keys: what may is memory, and the older metadata that drives keep a copy of.
func (r rekeys) Prune(ctx context.Context, vol fsapi.VolumeID, below fsapi.KeyVersion) error {
	n := r.n
	if n.ships == nil {
		return fsapi.Errorf(fsapi.Busy, "the drives' copies of the metadata are not kept up yet")
	}
	if v := n.volumes.byID(vol); v != nil {
		if err := v.local.DropCaches(ctx); err != nil {
			return err
		}
	}
	if err := n.ships.Renew(ctx); err != nil {
		return fsapi.Errorf(fsapi.Busy, "a drive's copy of the metadata may need the old keys: %w", err)
	}
	for _, v := range r.Versions(vol) {
		if v >= below {
			break
		}
		if err := n.keys.DropVersion(vol, v); err != nil {
			return err
		}
		n.log.Info("dropped a data key that nothing needs any more", "volume", uint32(vol), "version", uint32(v))
	}
	return n.ships.Flush(ctx) // the copies of the keyring
}

// rotateKey makes a new data key, which new frames use at once, or drops the
// old ones that nothing needs. Upkeep encrypts the rest anew.
func (n *Node) rotateKey(ctx context.Context, req api.KeyRotate) (api.KeyRotated, error) {
	rec, err := n.volumeRecord(ctx, req.Volume)
	if err != nil {
		return api.KeyRotated{}, err
	}
	before := rekeys{n}.Versions(rec.ID)
	if len(before) == 0 {
		return api.KeyRotated{}, fsapi.Errorf(fsapi.Invalid, "volume %s is not encrypted: it has no data key", rec.Name)
	}
	if req.Prune {
		err = n.pruneNow(ctx, rec.ID, req.Now)
	} else if _, err = n.keys.NewVersion(rec.ID); err == nil {
		if err = n.ships.Flush(ctx); err == nil { // a drive's keyring must open what is written from now on
			_, err = n.upkeep.StartJob(ctx, upkeep.JobReencrypt, strconv.FormatUint(uint64(rec.ID), 10))
		}
	}
	if err != nil {
		return api.KeyRotated{}, err
	}
	out := api.KeyRotated{Volume: rec.Name, Dropped: []uint32{}}
	after := rekeys{n}.Versions(rec.ID)
	out.Version = uint32(after[len(after)-1])
	for _, v := range before {
		if v < after[0] {
			out.Dropped = append(out.Dropped, uint32(v))
		}
	}
	return out, nil
}

// pruneNow brings re-encryption to its end and drops keys, or says why not.
func (n *Node) pruneNow(ctx context.Context, vol fsapi.VolumeID, now bool) error {
	if len(rekeys{n}.Versions(vol)) < 2 {
		return nil
	}
	if v := n.volumes.byID(vol); v != nil {
		if err := v.local.Syncfs(ctx); err != nil {
			return err
		}
	}
	if now {
		// Twice: what the first encrypts anew leaves dead segments behind.
		for range 2 {
			if err := n.upkeep.Reencrypt(ctx, 1<<62, true); err != nil {
				return err
			}
			if _, err := n.upkeep.GC(ctx, upkeep.GCOptions{Now: true}); err != nil {
				return err
			}
		}
	}
	if err := n.upkeep.Reencrypt(ctx, 1<<62, true); err != nil {
		return err
	}
	if len(rekeys{n}.Versions(vol)) < 2 {
		return nil
	}
	c, err := n.upkeep.Reencrypting(ctx, vol)
	if err != nil {
		return err
	}
	return fsapi.Errorf(fsapi.Busy, "old keys are kept, as they are needed by: %s", c.Needed)
}

func (n *Node) listKeys(ctx context.Context, _ api.Empty) (api.Keys, error) {
	out := api.Keys{Keys: []api.Key{}, Wrappings: []api.Wrapping{}, Reencrypt: []api.Rekeying{}}
	for _, w := range n.keys.Wrappings() {
		out.Wrappings = append(out.Wrappings, api.Wrapping{ID: w.ID, Kind: w.Kind.String(), Name: w.Name, Provider: w.Provider, Key: w.Key, Created: w.Created})
	}
	for _, v := range n.keys.Volumes() {
		name := ""
		if o := n.volumes.byID(v.ID); o != nil {
			name = o.name()
		}
		for i, k := range v.Versions {
			out.Keys = append(out.Keys, api.Key{
				Volume: name, Version: uint32(k.Number), Cipher: v.Cipher.String(), Created: k.Created, Current: i == len(v.Versions)-1,
			})
		}
		if err := n.listRekeying(ctx, v, name, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// listRekeying adds how far a volume is that has old keys.
func (n *Node) listRekeying(ctx context.Context, v keyring.Volume, name string, out *api.Keys) error {
	if len(v.Versions) < 2 {
		return nil
	}
	c, err := n.upkeep.Reencrypting(ctx, v.ID)
	if err != nil {
		return err
	}
	to := v.Versions[len(v.Versions)-1].Number
	if c.To != to { // not begun
		c = upkeep.Cursor{Phase: upkeep.PhaseJournal}
	}
	out.Reencrypt = append(out.Reencrypt, api.Rekeying{
		Volume: name, To: uint32(to), Phase: string(c.Phase), Done: c.Done, Total: max(c.Total, c.Done), Moved: c.Moved, Needed: c.Needed,
	})
	return nil
}
