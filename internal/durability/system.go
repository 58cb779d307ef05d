package durability

import (
	"math"

	"github.com/strakefs/strake/internal/fsapi"
)

// System is what is asked about: data, and the copies there are of it.
type System struct {
	Bytes   int64  // of segments: what one copy without redundancy takes; > 0
	From    Source // of Bytes, Segment, and Drives.DriveBytes
	Segment int64  // bytes of a segment; > 0
	Ingest  Figure // bytes a second that are written; only counts with Copy.Pending
	Copies  []Copy // at least one, at most MaxCopies; the first has no Pending
	// SiteLoss is the probability that a site is lost within a year, for good, with
	// every copy there.
	SiteLoss Figure
}

// MaxCopies is how many copies a System may have.
const MaxCopies = 6

// Copy is one full representation of the data, on drives or in a bucket.
type Copy struct {
	Name string // as a person knows it, e.g. "hot"
	// Pending is how old data is, in years, when this copy of it is written: 0
	// where that is before the acknowledgement.
	Pending Figure
	// Until is how old data is, in years, when this copy of it may have gone, as
	// one that is evictable does once a colder one is there; 0: it stays. Above
	// Pending.
	Until Figure
	// Site is where the copy is: copies with one Site are lost together when it is.
	// "" is a place of its own that is never lost as a whole.
	Site string

	Drives *Drives // one of the two is set
	Bucket *Bucket
}

// Drives are what a copy on drives rests on. Zero figures are assumed. A set
// Figure with Value 0 and a Source other than Assumed is a true zero.
type Drives struct {
	K, M  int // data and parity shards; replicas are 1 and N-1
	Count int // drives that hold shards; ≥ K+M
	// Clustered: the drives form fixed groups of K+M. Otherwise every segment's
	// drives are chosen anew.
	Clustered bool
	// DriveBytes is what a drive holds and what is rebuilt when it fails. Zero:
	// this copy's share.
	DriveBytes int64
	Domains    int // failure domains the drives are spread over; 0: each drive is its own, and no domain fails

	AFR        Figure // probability that a drive fails within a year, 0 ≤ AFR < 1
	DomainLoss Figure // the same of a domain with all its drives, for good
	Latent     Figure // bad blocks that appear in 10^12 bytes a year
	Scrub      Figure // years between two verifications of a block
	Repair     Figure // bytes a second that repair restores, all drives together; > 0
	Detect     Figure // years from a failure until repair starts
}

// Bucket is what a copy in an object store rests on.
type Bucket struct {
	ObjectLoss  Figure // probability that an object is lost within a year, as the provider states: 1e-11 is "eleven nines"
	AccountLoss Figure // the same of the whole bucket: closed, deleted, locked out
	Detect      Figure // years until a loss is noticed
	Repair      Figure // bytes a second that are copied there again; > 0
}

func (d Drives) width() int { return d.K + d.M }

// filled is d with what is not set assumed.
func (d Drives) filled(s *System) Drives {
	d.AFR, d.DomainLoss = d.AFR.Or(AssumedAFR), d.DomainLoss.Or(AssumedDomain)
	d.Latent, d.Repair = d.Latent.Or(AssumedLatent), d.Repair.Or(AssumedRepair)
	d.Scrub, d.Detect = d.Scrub.Or(AssumedScrub/365.25), d.Detect.Or(AssumedDetect/365.25)
	if d.DriveBytes == 0 {
		d.DriveBytes = int64(math.Ceil(float64(s.Bytes) * float64(d.width()) / float64(d.K) / float64(d.Count)))
	}
	return d
}

// filled is b with what is not set assumed, but for ObjectLoss, for which
// nothing can be.
func (b Bucket) filled() Bucket {
	b.AccountLoss, b.Repair = b.AccountLoss.Or(AssumedDomain), b.Repair.Or(AssumedRepair)
	b.Detect = b.Detect.Or(AssumedScrub / 365.25)
	return b
}

// Check refuses what cannot be: fsapi.Invalid.
func (s *System) Check() error {
	switch {
	case s.Bytes <= 0 || s.Segment <= 0:
		return fsapi.Errorf(fsapi.Invalid, "durability: %d bytes in segments of %d: both must be positive", s.Bytes, s.Segment)
	case len(s.Copies) == 0 || len(s.Copies) > MaxCopies:
		return fsapi.Errorf(fsapi.Invalid, "durability: %d copies: want 1 to %d", len(s.Copies), MaxCopies)
	case s.Copies[0].Pending.Value != 0:
		return fsapi.Errorf(fsapi.Invalid, "durability: copy %s: the first copy is written before the acknowledgement, it is never pending", s.Copies[0].Name)
	case bad(s.Ingest, s.SiteLoss) || s.SiteLoss.Value >= 1:
		return fsapi.Errorf(fsapi.Invalid, "durability: ingest of %v bytes a second, loss of a site with probability %v", s.Ingest.Value, s.SiteLoss.Value)
	}
	stays := false
	for i := range s.Copies {
		if err := s.Copies[i].check(); err != nil {
			return err
		}
		stays = stays || s.Copies[i].Until.Value == 0
	}
	if !stays {
		return fsapi.Errorf(fsapi.Invalid, "durability: every copy goes: want one that stays")
	}
	for _, a := range s.ages() {
		if len(a.copies) == 0 {
			return fsapi.Errorf(fsapi.Invalid, "durability: there is no copy of data of an age from %s to %s", span(a.from), span(a.to))
		}
	}
	return nil
}

func (c *Copy) check() error {
	invalid := func(format string, args ...any) error {
		return fsapi.Errorf(fsapi.Invalid, "durability: copy "+c.Name+": "+format, args...)
	}
	if (c.Drives == nil) == (c.Bucket == nil) {
		return invalid("want it either on drives or in a bucket")
	}
	if bad(c.Pending, c.Until) || c.Until.Value > 0 && c.Until.Value <= c.Pending.Value {
		return invalid("there from an age of %v years to one of %v", c.Pending.Value, c.Until.Value)
	}
	if b := c.Bucket; b != nil {
		if b.ObjectLoss == (Figure{}) {
			return invalid("say how likely the provider is to lose an object within a year")
		}
		if bad(b.ObjectLoss, b.AccountLoss, b.Detect, b.Repair) || b.ObjectLoss.Value >= 1 || b.AccountLoss.Value >= 1 {
			return invalid("a probability is not in [0, 1), or a time or rate is negative")
		}
		return positive(c, b.Repair)
	}
	d := c.Drives
	switch {
	case d.K < 1 || d.M < 0 || d.width() > 255:
		return invalid("%d+%d shards", d.K, d.M)
	case d.Count < d.width():
		return invalid("%d drives are too few for %d+%d: want at least %d", d.Count, d.K, d.M, d.width())
	case d.Domains < 0 || d.Domains > d.Count || d.DriveBytes < 0:
		return invalid("%d failure domains of %d drives with %d bytes each", d.Domains, d.Count, d.DriveBytes)
	case bad(d.AFR, d.DomainLoss, d.Latent, d.Scrub, d.Repair, d.Detect) || d.AFR.Value >= 1 || d.DomainLoss.Value >= 1:
		return invalid("a probability is not in [0, 1), or a time or rate is negative")
	}
	return positive(c, d.Repair)
}

func positive(c *Copy, repair Figure) error {
	if repair.Value == 0 && repair.Source != Assumed {
		return fsapi.Errorf(fsapi.Invalid, "durability: copy %s: repair of 0 bytes a second never ends", c.Name)
	}
	return nil
}

// bad reports a figure that is negative, infinite or no number.
func bad(figures ...Figure) bool {
	for _, f := range figures {
		if !(f.Value >= 0) || math.IsInf(f.Value, 0) {
			return true
		}
	}
	return false
}

// segments is how many there are.
func (s *System) segments() float64 { return math.Ceil(float64(s.Bytes) / float64(s.Segment)) }
