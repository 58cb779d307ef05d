package daemon

import (
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// possible says what of a policy cannot be done with the drives there are,
// whether or not they can be reached now: fsapi.Invalid.
func (ds *drives) possible(p policy.Policy) error {
	for _, c := range p.Copies {
		if n := ds.onTier(c.Tier); n < c.Need() {
			return fsapi.Errorf(fsapi.Invalid, "copies=%s needs at least %d drives of tier %s and there are %d: add some with 'strake drive add'",
				policy.Copies{c}, c.Need(), c.Tier, n)
		}
	}
	if p.Ack == policy.AckRemote && !ds.hasKind(bucketKind) {
		return noBucket()
	}
	return nil
}

// onTier is how many drives of a tier may hold something.
func (ds *drives) onTier(tier string) (n int) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, rec := range ds.recs {
		if rec.Tier == tier && !wantedState(rec).Leaving() && wantedState(rec) != drive.ReadOnly {
			n++
		}
	}
	return n
}

func noBucket() error {
	return fsapi.Errorf(fsapi.Invalid, "ack=remote needs a bucket to wait for: add one with 'strake drive add NAME s3://BUCKET'")
}
