package daemon

import (
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// possible says what of a policy that is to be set cannot be done with the drives
// there are, whether or not they can be reached now: fsapi.Invalid. holds is what
// will hold with it.
func (ds *drives) possible(own, holds policy.Policy) error {
	for _, c := range own.Copies {
		if n := ds.onTier(c.Tier); n < c.Need() {
			return fsapi.Errorf(fsapi.Invalid, "copies=%s needs at least %d drives of tier %s and there are %d: add some with 'strake drive add'",
				policy.Copies{c}, c.Need(), c.Tier, n)
		}
	}
	if holds.Ack == policy.AckRemote && (own.Ack != "" || len(own.Copies) > 0) {
		return ds.remotePossible(holds.Copies)
	}
	return nil
}

// remotePossible says why it is not sure that data with these copies comes to be in
// a bucket, which the acknowledgement class remote promises: fsapi.Invalid. It is
// where a copy that stays is on a tier of buckets alone, wherever it is placed.
func (ds *drives) remotePossible(copies []policy.Copy) error {
	if !ds.hasKind(bucketKind) {
		return noBucket()
	}
	var why string
	for _, c := range copies {
		other, buckets := ds.kindsOn(c.Tier)
		switch {
		case c.Evictable:
			why += "; " + policy.Copies{c}.String() + " may be evicted"
		case other != "":
			why += "; drive " + other + " of tier " + c.Tier + " is no bucket"
		case !buckets:
			why += "; tier " + c.Tier + " has no drives"
		default:
			return nil
		}
	}
	return fsapi.Errorf(fsapi.Invalid, "ack=remote waits for a bucket, and with copies=%s data need not come to one%s: name a tier of which all drives are buckets, as in copies=hot:1,cold:1, or choose ack=local",
		policy.Copies(copies), why)
}

// kindsOn is the name of a drive of a tier that is no bucket, "" for none, and
// whether there are buckets. One that is retired counts no more.
func (ds *drives) kindsOn(tier string) (other string, buckets bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, rec := range ds.recs {
		switch {
		case rec.Tier != tier || wantedState(rec) == drive.Retired:
		case rec.Kind == bucketKind:
			buckets = true
		case other == "" || rec.Name < other:
			other = rec.Name
		}
	}
	return other, buckets
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
