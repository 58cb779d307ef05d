package daemon

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/durability"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// durability says how likely data is to be lost within a year, for each list of
// copies that segments here should have, or for one that is asked about.
func (n *Node) durability(ctx context.Context, req api.DurabilityReq) (api.Durability, error) {
	out := api.Durability{Policies: []api.DurabilityOf{}}
	held, err := n.heldByCopies(ctx)
	if err != nil {
		return out, err
	}
	if req.Copies != "" {
		p, err := policy.Parse("copies=" + req.Copies)
		if err != nil {
			return out, err
		}
		held = []heldCopies{hypothetical(p.Copies, held)}
	}
	repair, err := n.measuredRepair(ctx)
	if err != nil {
		return out, err
	}
	for _, h := range held {
		of, err := n.durabilityOf(h, repair, &req)
		if err != nil && req.Copies != "" {
			return out, err
		}
		if err != nil { // the others can be said
			of = api.DurabilityOf{
				Copies: policy.Copies(h.copies).String(), Bytes: h.bytes, Error: err.Error(), Terms: []api.DurabilityTerm{}, Inputs: []api.DurabilityInput{},
			}
		}
		out.Policies = append(out.Policies, of)
	}
	return out, nil
}

func (n *Node) durabilityOf(h heldCopies, repair durability.Figure, req *api.DurabilityReq) (api.DurabilityOf, error) {
	sys, err := n.system(h, repair, req)
	if err != nil {
		return api.DurabilityOf{}, err
	}
	r, err := durability.Evaluate(sys)
	if err != nil {
		return api.DurabilityOf{}, err
	}
	return durabilityText(h, &sys, &r), nil
}

// heldCopies is what lies in segments that should have the same copies.
type heldCopies struct {
	copies   []fsapi.CopySpec
	segments int64
	bytes    int64 // of segments, each once
	supposed bool  // nothing lies so: what there is, as if it did
}

// heldByCopies adds segments up by the copies they should have, but for those that
// nothing needs any more.
func (n *Node) heldByCopies(ctx context.Context) ([]heldCopies, error) {
	by := map[string]*heldCopies{}
	err := n.meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if !s.Condemned.IsZero() {
			return ctx.Err() == nil
		}
		key := policy.Copies(s.Want).String()
		h := by[key]
		if h == nil {
			h = &heldCopies{copies: s.Want}
			by[key] = h
		}
		h.segments++
		h.bytes += s.Size
		return ctx.Err() == nil
	})
	list := make([]heldCopies, 0, len(by))
	for _, h := range by {
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b heldCopies) int { return int(b.bytes>>1 - a.bytes>>1) })
	return list, err
}

// supposedBytes is what a store is supposed to hold where it holds nothing yet.
const supposedBytes = 1 << 40

// hypothetical is all there is, as if it should have the copies.
func hypothetical(copies []fsapi.CopySpec, held []heldCopies) heldCopies {
	h := heldCopies{copies: copies, supposed: true}
	for _, o := range held {
		h.segments += o.segments
		h.bytes += o.bytes
	}
	if h.bytes == 0 {
		h.segments, h.bytes = supposedBytes>>26, supposedBytes
	}
	return h
}

// measuredRepair is the bytes per second of the newest repairs and evacuations on
// record, together; zero where there are none worth measuring.
func (n *Node) measuredRepair(ctx context.Context) (durability.Figure, error) {
	jobs, err := n.upkeep.Jobs(ctx)
	var bytes int64
	var took time.Duration
	for _, j := range jobs {
		if j.State == job.Done && (j.Kind == upkeep.JobRepair || j.Kind == upkeep.JobEvacuate) && j.Progress.DoneBytes > 0 && j.Ended.After(j.Started) {
			bytes += j.Progress.DoneBytes
			took += j.Ended.Sub(j.Started)
		}
	}
	if bytes == 0 || err != nil {
		return durability.Figure{}, err
	}
	return durability.Figure{Value: float64(bytes) / took.Seconds(), Source: durability.Measured}, nil
}

// system is what the model is asked about.
func (n *Node) system(h heldCopies, repair durability.Figure, req *api.DurabilityReq) (durability.System, error) {
	from := durability.Measured
	if h.supposed {
		from = durability.Assumed
	}
	s := durability.System{
		Bytes: h.bytes, From: from, Segment: max(h.bytes/max(h.segments, 1), 1),
		SiteLoss: figure(req.SiteLoss), Ingest: n.ingest(req.Ingest),
	}
	for i, spec := range h.copies {
		c, err := n.drives.copyModel(spec, req)
		if err != nil {
			return s, err
		}
		if i > 0 {
			c.Pending = n.pendingAge()
		}
		if repair.Source == durability.Measured {
			switch {
			case c.Drives != nil: // jobs count segments: of one a shard is made anew
				c.Drives.Repair = durability.Figure{Value: repair.Value / float64(c.Drives.K), Source: repair.Source}
			default:
				c.Bucket.Repair = repair
			}
		}
		if c.Drives != nil && n.cfg.Scrub.Deep > 0 {
			c.Drives.Scrub = durability.Figure{Value: durability.Years(n.cfg.Scrub.Deep), Source: durability.Given}
		}
		if c.Drives != nil && n.cfg.Repair.After > 0 {
			c.Drives.Detect = durability.Figure{Value: durability.Years(n.cfg.Repair.After), Source: durability.Given}
		}
		s.Copies = append(s.Copies, c)
	}
	s.Copies = untilOthers(s.Copies, h.copies)
	return s, nil
}

// untilOthers makes evictable copies count for as long only as one that stays is
// pending: they may go once it is there. One that may go at any time is left out.
func untilOthers(copies []durability.Copy, specs []fsapi.CopySpec) (list []durability.Copy) {
	var until durability.Figure
	for i, c := range copies {
		if !specs[i].Evictable && c.Pending.Value > until.Value {
			until = c.Pending
		}
	}
	for i, c := range copies {
		if specs[i].Evictable {
			if c.Until = until; until.Value <= c.Pending.Value {
				continue
			}
		}
		list = append(list, c)
	}
	return list
}

// statedLoss is what the provider of a bucket states for an object and a year:
// Amazon, Google and Microsoft eleven nines. Of another nothing is known:
// fsapi.Invalid.
func statedLoss(name, where string) (durability.Figure, error) {
	scheme, _, _ := strings.Cut(where, "://")
	if strings.Contains(where, "endpoint=") || !slices.Contains([]string{"s3", "gs", "az"}, scheme) {
		return durability.Figure{}, fsapi.Errorf(fsapi.Invalid, "drive %s: nothing is known of its provider: say with --bucket-nines how many nines it states", name)
	}
	return durability.Figure{Value: 1e-11, Source: durability.Stated}, nil
}

// figure is a figure of the request; nil is not given.
func figure(v *float64) durability.Figure {
	if v == nil {
		return durability.Figure{}
	}
	return durability.Figure{Value: *v, Source: durability.Given}
}

// ingest is how many bytes of segments a second are written: as given, or on
// average since the server was started.
func (n *Node) ingest(given *float64) durability.Figure {
	if given != nil {
		return figure(given)
	}
	up := max(n.clock.Now().Sub(n.started), time.Second)
	return durability.Figure{Value: float64(n.blob.Stats().BytesSealed) / up.Seconds(), Source: durability.Measured}
}

// pendingAge is how old data is before its other copies are written: the age of
// the oldest that is owed now, or a minute where nothing is.
func (n *Node) pendingAge() durability.Figure {
	b := n.upkeep.Backlog()
	if b.Oldest.IsZero() {
		return durability.Figure{Value: durability.Years(time.Minute)}
	}
	return durability.Figure{Value: durability.Years(max(n.clock.Now().Sub(b.Oldest), time.Second)), Source: durability.Measured}
}

// bucketLoss is the probability that an object in a bucket is lost within a year.
func bucketLoss(nines *float64, rec meta.DriveRecord) (durability.Figure, error) {
	if nines == nil {
		return statedLoss(rec.Name, rec.Where)
	}
	return durability.Figure{Value: math.Pow(10, -*nines), Source: durability.Given}, nil
}

// The site of what stands beside the server.
const here = "here"

// copyModel is a copy on the drives of its tier.
func (ds *drives) copyModel(spec fsapi.CopySpec, req *api.DurabilityReq) (durability.Copy, error) {
	c := durability.Copy{Name: spec.Tier + ":" + policy.Layout(spec)}
	domains := map[string]bool{}
	count, buckets := 0, 0
	var far meta.DriveRecord // one of the buckets
	ds.mu.Lock()
	for _, rec := range ds.recs {
		if rec.Tier != spec.Tier || wantedState(rec).Leaving() {
			continue
		}
		count++
		domains[rec.Domain] = true
		if rec.Kind == bucketKind {
			buckets++
			far = rec
		}
	}
	ds.mu.Unlock()
	if buckets > 0 && buckets == count {
		loss, err := bucketLoss(req.BucketNines, far)
		if err != nil {
			return c, err
		}
		c.Bucket = &durability.Bucket{ObjectLoss: loss, AccountLoss: figure(req.BucketLoss)}
		return c, nil
	}
	if count < spec.Width() {
		return c, fsapi.Errorf(fsapi.Invalid, "copies=%s needs %d drives of tier %s and there are %d: its durability cannot be computed", c.Name, spec.Width(), spec.Tier, count)
	}
	c.Site = here
	c.Drives = &durability.Drives{K: spec.K, M: spec.M, Count: count, AFR: figure(req.AFR), Latent: figure(req.Latent), DomainLoss: figure(req.DomainLoss)}
	if spec.K == 0 {
		c.Drives.K, c.Drives.M = 1, spec.Replicas-1
	}
	if len(domains) < count {
		c.Drives.Domains = len(domains)
	}
	return c, nil
}

// maxTerms bounds the ways to lose data that are listed.
const maxTerms = 5

func durabilityText(h heldCopies, sys *durability.System, r *durability.Result) api.DurabilityOf {
	out := api.DurabilityOf{
		Copies: policy.Copies(h.copies).String(), Bytes: h.bytes, Supposed: h.supposed,
		Loss: r.Loss, BytesLost: r.Bytes, Terms: []api.DurabilityTerm{}, Inputs: []api.DurabilityInput{},
	}
	if !math.IsInf(r.Nines, 1) {
		out.Nines = &r.Nines
	}
	var names []string
	for _, c := range sys.Copies {
		names = append(names, c.Name)
	}
	for i, t := range r.Terms {
		if i == maxTerms || t.Rate == 0 {
			break
		}
		out.Terms = append(out.Terms, api.DurabilityTerm{Share: r.Share(t), Rate: t.Rate, Text: t.Explain(names)})
	}
	for _, in := range r.Inputs {
		out.Inputs = append(out.Inputs, api.DurabilityInput{
			Copy: in.Copy, Name: in.Name, Value: in.Text(), Figure: in.Figure.Value, Unit: in.Unit, Source: in.Figure.Source.String(),
		})
	}
	return out
}
