package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/watch"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// state is what may be done with a drive: what was observed of it where it is
// away, else what an administrator wants.
func (p *place) state() drive.State {
	switch {
	case p.wanted == drive.Retired:
		return p.wanted
	case p.watch == nil || p.watch.Status().State == watch.Offline:
		return drive.Offline
	case p.watch.Status().State == watch.Suspect && p.wanted == drive.Online:
		return drive.Suspect
	}
	return p.wanted
}

// reachable reports whether what a drive holds can be read from it, surely.
func (p *place) reachable() bool {
	i := p.illness()
	return !p.gone && p.wanted != drive.Retired && p.watch != nil && i != away && i != late && p.watch.Status().State == watch.Online
}

// segments are all on record, by id.
func (w *world) segments() (list []meta.SegmentUse, err error) {
	err = w.s.Meta.Segments(w.ctx, fsapi.SegmentID{}, func(u meta.SegmentUse) bool {
		list = append(list, u)
		return true
	})
	return list, err
}

// good reports whether a part that is on record is there, right and readable.
func (w *world) good(on fsapi.DriveID, name string) bool {
	p := w.place(on)
	if p == nil || !p.reachable() {
		return false
	}
	_, bad := w.bad[part{on, name}]
	_, worn := p.worn.has(name)
	return !bad && !worn
}

// bearable reports whether every segment can be read still, whatever upkeep does
// next, when the parts that hit says are lost too. Records count that a kill
// cannot take back.
func (w *world) bearable(hit func(part) bool) (bool, error) {
	if err := w.durable(); err != nil {
		return false, err
	}
	if err := w.mended(); err != nil {
		return false, err
	}
	list, err := w.segments()
	if err != nil {
		return false, err
	}
	moving, err := w.moving()
	if err != nil {
		return false, err
	}
	for i := range list {
		if ok, sure := w.survives(&list[i].Segment, hit); !ok || moving && !sure {
			return false, nil
		}
	}
	return true, nil
}

// moving reports whether what segments should have may be another before the next
// step ends.
func (w *world) moving() (bool, error) {
	jobs, err := w.s.Upkeep.Jobs(w.ctx)
	return slices.ContainsFunc(jobs, func(j job.Job) bool { return j.Kind == upkeep.JobRelayout && !j.State.Ended() }), err
}

// survives is bearable for one segment. A copy that is wanted and pinned counts
// for what it is. Another one may be taken away as soon as a pinned one has been
// read back, even if that rots afterwards; so it counts only where none was.
// Of more replicas than are wanted the first ones stay. sure says that no copy was
// read back that has become bad: any might be the one to rely on by another
// policy.
func (w *world) survives(s *fsapi.Segment, hit func(part) bool) (ok, sure bool) {
	pin, spare, trap := false, false, false
	sure = true
	for i := range s.Copies {
		c := &s.Copies[i]
		at := slices.IndexFunc(s.Want, func(want fsapi.CopySpec) bool { return c.Is(want) })
		pinned := at >= 0 && !s.Want[at].Evictable
		good := 0
		for n, d := range c.Drives {
			if d == 0 || pinned && !c.Sharded() && n >= s.Want[at].Replicas {
				continue
			}
			if name := blob.PartName(s.ID, c, n); w.good(d, name) && !hit(part{d, name}) {
				good++
			}
		}
		readable := good >= max(1, c.K)
		switch {
		case pinned && readable:
			pin = true
		case readable:
			spare = true
		case !c.Verified.IsZero():
			trap, sure = trap || pinned, false
		}
	}
	return pin || spare && !trap, sure
}

// sure reports whether segments may be given other copies.
func (w *world) sure() (bool, error) {
	list, err := w.segments()
	for i := range list {
		if _, sure := w.survives(&list[i].Segment, func(part) bool { return false }); !sure {
			return false, err
		}
	}
	return true, err
}

// mended takes off the account what was repaired: parts that are not any more
// what harm made of them.
func (w *world) mended() error {
	for k, harm := range w.bad {
		p := w.place(k.on)
		if p.gone {
			delete(w.bad, k)
			continue
		}
		now, err := p.raw(w.disk, k.name)
		if err != nil {
			return err
		}
		switch {
		case now == nil:
			w.bad[k] = nil // a kill came between the end of what was bad and what was to replace it
		case harm == nil || !bytes.Equal(now, harm):
			delete(w.bad, k)
		}
	}
	return nil
}

// audit checks that records tell the truth: what they say is on a drive is there,
// but for what harm took away.
func (w *world) audit() error {
	if err := w.mended(); err != nil {
		return err
	}
	list, err := w.segments()
	if err != nil {
		return err
	}
	var errs []error
	for i := range list {
		s := &list[i].Segment
		named := map[part]bool{}
		for n := range s.Copies {
			errs = append(errs, w.auditCopy(s, &s.Copies[n]))
			for k, d := range s.Copies[n].Drives {
				at := part{d, blob.PartName(s.ID, &s.Copies[n], k)}
				if d != 0 && named[at] {
					errs = append(errs, fmt.Errorf("segment %v has %s on drive %s on record in two copies", s.ID, at.name, w.place(d)))
				}
				named[at] = true
			}
		}
	}
	return errors.Join(errs...)
}

func (w *world) auditCopy(s *fsapi.Segment, c *fsapi.CopyPlace) error {
	for n, d := range c.Drives {
		p := w.place(d)
		if d == 0 || p == nil || p.gone {
			continue
		}
		if slices.Contains(c.Drives[:n], d) {
			return fmt.Errorf("segment %v has two parts of tier %s on drive %s", s.ID, c.Tier, p)
		}
		name := blob.PartName(s.ID, c, n)
		if _, harmed := w.bad[part{d, name}]; harmed {
			continue
		}
		there, err := p.has(w.disk, name)
		if err != nil {
			return err
		}
		if was, _ := p.worn.has(name); !there && was && p.illness() == lies {
			w.bad[part{d, name}] = nil // likewise: what the drive says of it was bad
			continue
		}
		if !there {
			return fmt.Errorf("segment %v has %s of tier %s on record on drive %s, where it is not (%s)", s.ID, name, c.Tier, p, p.illness())
		}
	}
	return nil
}

// shared reports whether a segment's wanted copies are those of several policies
// and trouble may have kept it from having more than its writer's asks for.
func (w *world) shared(s *fsapi.Segment) bool {
	return w.troubled() && !slices.ContainsFunc(w.policies, func(p policy.Copies) bool { return slices.Equal(p, s.Want) })
}

// born notes the segments that are there for the first time, and with check that
// they have as much as the policy wants before it acknowledges. After a step in
// which upkeep ran that cannot be told: what is wanted may have changed since.
func (w *world) born(check bool) error {
	list, err := w.segments()
	if err != nil {
		return err
	}
	for i := range list {
		s := &list[i].Segment
		if w.seen[s.ID] {
			continue
		}
		w.seen[s.ID] = true
		if check && !w.shared(s) && !slices.ContainsFunc(s.Want, func(want fsapi.CopySpec) bool {
			c := s.Copy(want)
			return c != nil && c.Count() >= want.Need()
		}) {
			return fmt.Errorf("segment %v was acknowledged with %+v, which is less than %+v ask for", s.ID, s.Copies, s.Want)
		}
	}
	return nil
}

// explain says what is known of the segments that an error names, and of drives.
func (w *world) explain(err error) {
	list, _ := w.segments()
	for i := range list {
		s := &list[i]
		if !strings.Contains(err.Error(), s.ID.String()) {
			continue
		}
		w.say("segment %v wants %+v, live %d, condemned %v", s.ID, s.Want, s.Live, s.Condemned)
		for n := range s.Copies {
			c := &s.Copies[n]
			w.say("      tier %s %d+%d, verified %v", c.Tier, c.K, c.M, c.Verified)
			for k, d := range c.Drives {
				if p := w.place(d); p != nil {
					name := blob.PartName(s.ID, c, k)
					_, bad := w.bad[part{d, name}]
					there, err := p.has(w.disk, name)
					w.say("         %s on %s: there %v (%v), harmed %v, good %v", name, p, there, err, bad, w.good(d, name))
				}
			}
		}
	}
	for _, p := range w.places {
		w.say("drive %s: %s, gone %v, %v is wanted, is %v", p, p.illness(), p.gone, p.wanted, p.state())
	}
}
