package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// Of each drive the metadata knows with which incarnation of the store it was
// claimed last. A drive that has another was opened since by a copy of the store, or
// this metadata is older than the drive: it is refused, until somebody says that it
// is this one's (--take-over), or restores the metadata.
//
// The record is made durable before the drive is marked, with what was found there:
// whichever of the two a crash leaves on the drive is this store's. A drive that is
// away keeps its record, however often the store is opened meanwhile. A follower
// claims nothing, and what only backs up metadata has no incarnation.

// claimSetting begins the names of the settings that hold a claimRecord: the drive's
// id follows.
const claimSetting = "drive.claim."

// anyClaimSetting is there from the restoring of metadata until each drive has been
// claimed or has a record that says so: drives without a record are taken over from
// whichever copy of the store had them.
const anyClaimSetting = "drive.claims.restored"

// claimRecord is what the metadata knows of a drive's claim, as JSON. Incarnations
// are hexadecimal; "": none, as on a drive that was claimed by nobody or by a release
// that knew none.
type claimRecord struct {
	Form int    `json:"form"`          // 1
	Now  string `json:"now,omitempty"` // that the drive was being marked with
	Was  string `json:"was,omitempty"` // that was found there then
	Any  bool   `json:"any,omitempty"` // any: the metadata was restored
}

// claimForm is the form of a stored claimRecord.
const claimForm = 1

// knows reports whether a drive with an incarnation is the store's.
func (c *claimRecord) knows(i identity.Incarnation) bool {
	text := incarnationText(i)
	return c.Any || text == c.Now || text == c.Was
}

// incarnationText is an incarnation as a claimRecord has it.
func incarnationText(i identity.Incarnation) string {
	if i == (identity.Incarnation{}) {
		return ""
	}
	return i.String()
}

func decodeClaim(b []byte) (c claimRecord, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fsapi.Errorf(fsapi.Corrupt, "the record of a drive's claim: %w", err)
	}
	if c.Form != claimForm {
		return c, fsapi.Errorf(fsapi.NotSupported, "the record of a drive's claim has the form %d, which is not known to this release; use a newer one", c.Form)
	}
	for _, text := range []string{c.Now, c.Was} {
		if text == "" {
			continue
		}
		if _, err := identity.ParseIncarnation(text); err != nil {
			return c, err
		}
	}
	return c, nil
}

// claims are the records of claims in a store's metadata. Safe for concurrent use.
type claims struct {
	meta *meta.Store
	mu   sync.Mutex // held while a record is changed by what it was
}

func (c *claims) put(ctx context.Context, id fsapi.DriveID, rec claimRecord) error {
	rec.Form = claimForm
	b, err := json.Marshal(&rec)
	if err != nil {
		return err
	}
	err = c.meta.PutSetting(ctx, claimSetting+id.String(), b)
	return fsapi.Wrap(fsapi.KindOf(err), err, "record the claim of a drive")
}

// get is the record of a drive: fsapi.NotExist.
func (c *claims) get(ctx context.Context, id fsapi.DriveID) (claimRecord, error) {
	b, err := c.meta.Setting(ctx, claimSetting+id.String())
	if err != nil {
		return claimRecord{}, err
	}
	return decodeClaim(b)
}

// drop forgets a drive that belongs to nobody now.
func (c *claims) drop(ctx context.Context, id fsapi.DriveID) error {
	return c.meta.DeleteSetting(ctx, claimSetting+id.String())
}

// restored reports whether drives without a record are taken over.
func (c *claims) restored(ctx context.Context) (bool, error) {
	_, err := c.meta.Setting(ctx, anyClaimSetting)
	if errors.Is(err, fsapi.NotExist) {
		return false, nil
	}
	return err == nil, err
}

// knows reports whether a drive that has an incarnation of this store was claimed so
// by this copy, as far as it knows. Before the first claim that this metadata knows
// of, a drive has none.
func (c *claims) knows(ctx context.Context, id fsapi.DriveID, found identity.Incarnation) (bool, error) {
	rec, err := c.get(ctx, id)
	switch {
	case err == nil:
		return rec.knows(found), nil
	case !errors.Is(err, fsapi.NotExist):
		return false, err
	case found == (identity.Incarnation{}):
		return true, nil
	}
	return c.restored(ctx)
}

// settle ends the time after a restore: of drives that are away it is recorded that
// they are taken over when they come back. restored: there was one.
func (c *claims) settle(ctx context.Context, recs []meta.DriveRecord) (restored bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if restored, err = c.restored(ctx); err != nil || !restored {
		return restored, err
	}
	for _, rec := range recs {
		_, err := c.get(ctx, rec.ID)
		if errors.Is(err, fsapi.NotExist) {
			err = c.put(ctx, rec.ID, claimRecord{Any: true})
		}
		if err != nil {
			return true, err
		}
	}
	return true, c.meta.DeleteSetting(ctx, anyClaimSetting)
}

// disown makes restored metadata claim whatever drives of the store it finds: what it
// knows of claims is older than they are.
func disown(ctx context.Context, e kv.Engine) error {
	m, err := meta.Open(ctx, e, meta.Options{})
	if err != nil {
		return err
	}
	var names []string
	err = m.Settings(ctx, claimSetting, func(name string, _ []byte) bool {
		names = append(names, name)
		return true
	})
	for _, name := range names {
		err = errors.Join(err, m.DeleteSetting(ctx, name))
	}
	if err != nil {
		return err
	}
	return m.PutSetting(ctx, anyClaimSetting, []byte("{}"))
}

// incarnation is which this process marks a drive with: one of its own, but where it
// took the drive over from a copy, which may know that.
func (ds *drives) incarnation(id fsapi.DriveID) identity.Incarnation {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if i, ok := ds.retaken[id]; ok {
		return i
	}
	return ds.n.incarnation
}

// renew draws another incarnation to mark a drive with.
func (ds *drives) renew(id fsapi.DriveID) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.retaken[id] = identity.NewIncarnation()
}

// claiming is how a drive comes to be marked as this store's.
func (ds *drives) claiming(rec meta.DriveRecord, mine identity.Incarnation, takeOver bool) identity.Claiming {
	return func(ctx context.Context, found identity.Owner) error {
		c := ds.claims
		c.mu.Lock()
		defer c.mu.Unlock()
		if !takeOver && found != (identity.Owner{}) {
			known, err := c.knows(ctx, rec.ID, found.Incarnation)
			if err != nil {
				return err
			}
			if !known {
				return refuseCopy(rec, found)
			}
		}
		return c.put(ctx, rec.ID, claimRecord{Now: incarnationText(mine), Was: incarnationText(found.Incarnation)})
	}
}

// refuseCopy says that a drive was opened by a copy of this store since.
func refuseCopy(rec meta.DriveRecord, found identity.Owner) error {
	return fsapi.Errorf(fsapi.Busy,
		"%s was last opened by another copy of this store (from host %s on %s): either that one is in use, or the metadata here is older than the drive, as after a data directory or machine was copied, rolled back or restored from files, or the drive was put back from an older copy of it. Two copies on one drive destroy each other's data: see that only one runs. Then 'strake meta restore' brings the newest metadata that drives and backups have, or 'strake drive set %s --take-over' (of a drive that is not listed: 'strake drive add %[4]s %[1]s --take-over') claims the drive for what is here",
		rec.Where, found.Host, found.Since.UTC().Format(time.DateOnly), rec.Name)
}
