package durability

import "math"

// Cause is what made a copy lose something.
type Cause uint8

// The causes.
const (
	DriveFailures Cause = iota // more drives at once than there are parity shards
	LatentErrors               // a bad block that no redundancy was left for
	DomainLoss                 // a failure domain, after other failures or with too many shards in it
	ObjectLoss                 // the provider lost an object
	AccountLoss                // the whole bucket is gone
	SiteLoss                   // a site is gone, with all copies there
)

// String is the cause in words.
func (c Cause) String() string {
	return [...]string{"drive failures", "latent sector errors", "loss of a failure domain", "objects lost by the provider", "loss of the whole bucket", "loss of the site"}[c]
}

// Mode is one way in which a copy loses segments.
type Mode struct {
	Cause    Cause
	Rate     float64 // events a year
	Fraction float64 // of all segments, lost in one event
	Restore  float64 // years until what was lost is there again, from another copy
}

const secondsAYear = 8766 * 3600

// hazard is the rate of an event that has probability p within a year.
func hazard(p float64) float64 { return -math.Log1p(-p) }

// modes are those of a copy.
func (c *Copy) modes(s *System) []Mode {
	if c.Bucket != nil {
		return c.Bucket.filled().modes(s)
	}
	return c.Drives.filled(s).modes(s)
}

// restore is how many years it takes to have a fraction of the segments again.
func (c *Copy) restore(s *System, fraction float64) float64 {
	if c.Bucket != nil {
		b := c.Bucket.filled()
		return b.restore(s, fraction)
	}
	d := c.Drives.filled(s)
	return d.restore(s, fraction, d.Detect.Value)
}

func (b Bucket) restore(s *System, fraction float64) float64 {
	return b.Detect.Value + fraction*float64(s.Bytes)/b.Repair.Value/secondsAYear
}

func (d Drives) restore(s *System, fraction, detect float64) float64 {
	return detect + fraction*float64(s.Bytes)*float64(d.width())/float64(d.K)/d.Repair.Value/secondsAYear
}

func (b Bucket) modes(s *System) []Mode {
	n := s.segments()
	return live([]Mode{
		{ObjectLoss, n * hazard(b.ObjectLoss.Value), 1 / n, b.restore(s, 1/n)},
		{AccountLoss, hazard(b.AccountLoss.Value), 1, b.restore(s, 1)},
	})
}

// live are the modes that happen.
func live(modes []Mode) (out []Mode) {
	for _, m := range modes {
		if m.Rate > 0 {
			out = append(out, m)
		}
	}
	return out
}

// The ends of a chain of drives.
const (
	endDrives = iota
	endLatent
	endDomain      // after other failures
	endDomainAlone // by itself: hits all groups at once
	ends
)

func (d Drives) modes(s *System) []Mode {
	mean, p := d.Chain(s).Solve()
	if math.IsInf(mean, 1) {
		return nil
	}
	n, groups := s.segments(), 1.0
	lost := d.share(d.M + 1) // of the segments, when M+1 drives are down
	if d.Clustered {
		groups = float64(d.Count) / float64(d.width())
		lost = 1 / groups
	}
	lost = max(lost, 1/n)
	return live([]Mode{
		{DriveFailures, groups * p[endDrives] / mean, lost, d.restore(s, lost, d.Detect.Value)},
		{LatentErrors, groups * p[endLatent] / mean, 1 / n, d.restore(s, 1/n, d.Scrub.Value/2)},
		{DomainLoss, groups * p[endDomain] / mean, lost, d.restore(s, lost, d.Detect.Value)},
		{DomainLoss, p[endDomainAlone] / mean, 1, d.restore(s, 1, d.Detect.Value)},
	})
}

// share is the fraction of the segments that have shards on all of e drives, of
// Count that segments are spread over evenly.
func (d Drives) share(e int) float64 {
	f := 1.0
	for i := range e {
		f *= float64(d.width()-i) / float64(d.Count-i)
	}
	return f
}

// worst is how many segments lack e shards, where any does.
func (d Drives) worst(e int, s *System) float64 {
	f, n := d.share(e), s.segments()
	return n * f / -math.Expm1(n*math.Log1p(-f))
}

// exposed is the bytes of a drive's shards that are to be restored before no
// segment lacks e shards: those of segments that do.
func (d Drives) exposed(e int, s *System) float64 {
	if d.Clustered {
		return float64(d.DriveBytes)
	}
	f := d.share(e) / d.share(1)
	return max(f*float64(d.DriveBytes), d.worst(e, s)*float64(s.Segment)/float64(d.K))
}

// Chain is the chain of one group of drives, or of all of them where segments
// are spread over all. State e: the worst segment lacks e shards. Figures that
// are not set count as they stand: callers outside want Evaluate.
func (d Drives) Chain(s *System) *Chain {
	c, drive := NewChain(d.M+1, ends), hazard(d.AFR.Value)
	for e := range d.M + 1 {
		d.up(c, s, e, 1, d.hit(e, s)*drive, endDrives)
		if d.Domains > 0 {
			step, end := (d.width()+d.Domains-1)/d.Domains, endDomain
			if e == 0 {
				end = endDomainAlone
			}
			hit := d.Domains
			if d.Clustered {
				hit = min(hit, d.width())
			}
			d.up(c, s, e, step, float64(hit)*hazard(d.DomainLoss.Value), end)
		}
		if e > 0 {
			c.Move(e, e-1, 1/(d.Detect.Value+d.exposed(e, s)/d.Repair.Value/secondsAYear))
		}
	}
	c.End(d.M, endLatent, d.latent()*d.critical(s))
	return c
}

// hit is how many drives may fail next so that a segment that lacks e shards
// lacks one more.
func (d Drives) hit(e int, s *System) float64 {
	if d.Clustered {
		return float64(d.width() - e)
	}
	p := float64(d.width()-e) / float64(d.Count-e)
	return float64(d.Count-e) * -math.Expm1(d.worst(e, s)*math.Log1p(-p))
}

// latent is the bad blocks that appear in a byte a year.
func (d Drives) latent() float64 { return d.Latent.Value / 1e12 }

// critical is the bytes that must all be good where no redundancy is left.
func (d Drives) critical(s *System) float64 {
	switch {
	case d.M > 0:
		return float64(d.K) * d.exposed(d.M, s)
	case d.Clustered:
		return float64(d.width()) * float64(d.DriveBytes)
	}
	return float64(s.Bytes)
}

// up adds the event by which a segment that lacks e shards lacks some more. Where
// no redundancy is left then, the bad blocks that lie undiscovered count: on
// average those of half the time between two scrubs.
func (d Drives) up(c *Chain, s *System, e, step int, rate float64, end int) {
	switch to := e + step; {
	case to > d.M:
		c.End(e, end, rate)
	case to == d.M:
		bad := -math.Expm1(-d.latent() * d.Scrub.Value / 2 * d.critical(s))
		c.End(e, endLatent, rate*bad)
		c.Move(e, to, rate*(1-bad))
	default:
		c.Move(e, to, rate)
	}
}
