package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// Keys is what upkeep must know of data keys. Safe for concurrent use.
type Keys interface {
	// Versions are those of a volume's data key, ascending; the last one is
	// current. None where the volume is not encrypted.
	Versions(vol fsapi.VolumeID) []fsapi.KeyVersion
	// Prune drops the versions of a volume's key below v, which nothing is
	// sealed with any more; fsapi.Busy where that is not certain, and says why.
	Prune(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion) error
}

// Phase is a part of encrypting a volume anew. The text is stored.
type Phase string

// The phases, in order. Journal frames come first, as they become segments; in
// Waiting everything was rewritten, and old keys wait for what still needs them.
const (
	PhaseJournal  Phase = "journal"
	PhaseSegments Phase = "segments"
	PhaseInline   Phase = "inline"
	PhaseWaiting  Phase = "waiting"
)

// Cursor is where encrypting a volume anew has come to, to be kept between calls
// and over restarts. The zero value is the start.
type Cursor struct {
	Form    int              // of the stored form: 1
	To      fsapi.KeyVersion // what it is encrypted for; another current version starts anew
	Phase   Phase
	Segment fsapi.SegmentID // PhaseSegments: the last one looked at
	Inline  meta.InlineAt   // PhaseInline: the last one looked at

	// Progress, as bytes stored.
	Total  int64 // live when it began
	Done   int64 // of these, looked at
	Moved  int64 // sealed anew
	Doubts int   // frames that could not be read, in this pass

	Looked time.Time // when old keys were last tried to be dropped
	Needed string    // what needed them then
}

// cursorForm is the form of a stored Cursor.
const cursorForm = 1

// Setting is the name under which a volume's Cursor is kept.
func cursorSetting(vol fsapi.VolumeID) string { return fmt.Sprintf("reencrypt.%d", vol) }

// Reencrypting is how far a volume is: the zero Cursor where its data was never
// to be encrypted anew.
func (u *Upkeep) Reencrypting(ctx context.Context, vol fsapi.VolumeID) (Cursor, error) {
	var c Cursor
	b, err := u.o.Meta.Setting(ctx, cursorSetting(vol))
	if errors.Is(err, fsapi.NotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil && c.Form != cursorForm {
		return Cursor{}, nil // start anew
	}
	return c, fsapi.Wrap(fsapi.Corrupt, err, "read how far re-encryption is")
}

func (u *Upkeep) keepCursor(ctx context.Context, vol fsapi.VolumeID, c Cursor) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "keep how far re-encryption is")
	}
	return u.o.Meta.PutSetting(ctx, cursorSetting(vol), b)
}

// Reencrypt takes each volume with old data keys on, by at most budget stored
// bytes in all, and tries to drop keys that nothing needs: for who does not wait
// for the job. now does not wait between tries.
func (u *Upkeep) Reencrypt(ctx context.Context, budget int64, now bool) error {
	return u.eachRotated(ctx, func(vol fsapi.VolumeID) error {
		give, err := u.rekeying.take(ctx)
		if err != nil {
			return err
		}
		defer give()
		spent, err := u.reencryptVolume(ctx, vol, budget, now)
		budget -= spent
		return err
	})
}

// eachRotated does fn for the volumes with old data keys.
func (u *Upkeep) eachRotated(ctx context.Context, fn func(vol fsapi.VolumeID) error) error {
	if u.o.Keys == nil {
		return nil
	}
	vols, err := u.o.Meta.Volumes(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range vols {
		if len(u.o.Keys.Versions(v.ID)) >= 2 && !v.Deleting {
			errs = append(errs, fn(v.ID))
		}
	}
	return errors.Join(errs...)
}

// rekeyAgain is how long after a job that left something another one is started.
const rekeyAgain = time.Hour

// rekey starts the jobs that encrypt volumes anew, and drops keys that nothing
// needs once they have ended. A job that was cancelled is not started again for
// the same keys, as long as it is remembered; one that failed or left something,
// after a while.
func (u *Upkeep) rekey(ctx context.Context) error {
	return u.eachRotated(ctx, func(vol fsapi.VolumeID) error {
		c, err := u.Reencrypting(ctx, vol)
		if err != nil {
			return err
		}
		if u.encrypted(vol, c) {
			give, err := u.rekeying.take(ctx)
			if err != nil {
				return err
			}
			defer give()
			return u.tryPrune(ctx, vol, c, false)
		}
		args, err := u.checkReencrypt([]string{strconv.FormatUint(uint64(vol), 10)})
		if err != nil {
			return err
		}
		if declined, err := u.declined(ctx, args); declined || err != nil {
			return err
		}
		_, err = u.runner.Start(ctx, JobReencrypt, args, false)
		return err
	})
}

// declined reports whether the last job like it was cancelled, or ended just now.
func (u *Upkeep) declined(ctx context.Context, args []string) (bool, error) {
	jobs, err := u.runner.Jobs(ctx)
	if err != nil {
		return false, err
	}
	for _, j := range jobs { // the newest first
		if j.Kind != JobReencrypt || !slices.Equal(j.Args, args) {
			continue
		}
		age := u.o.Clock.Now().Sub(j.Ended)
		again := map[job.State]time.Duration{job.Failed: watchAgain, job.Done: rekeyAgain}[j.State]
		return j.State == job.Cancelled || age >= 0 && age < again, nil
	}
	return false, nil
}

// checkReencrypt takes a volume's number, and the version of its key, which is the
// current one where it is not given.
func (u *Upkeep) checkReencrypt(args []string) ([]string, error) {
	if len(args) != 1 && len(args) != 2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "give a volume")
	}
	n, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "volume %q: want its number", args[0])
	}
	if len(args) == 2 {
		_, err := strconv.ParseUint(args[1], 10, 32)
		return args, fsapi.Wrap(fsapi.Invalid, err, "version of a key")
	}
	if u.o.Keys == nil || len(u.o.Keys.Versions(fsapi.VolumeID(n))) < 2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "volume %d has no old data keys: nothing is to be encrypted anew ('strake key rotate' makes a new one)", n)
	}
	return []string{args[0], strconv.FormatUint(uint64(u.current(fsapi.VolumeID(n))), 10)}, nil
}

// runReencrypt encrypts a volume anew for the version of its key that is current,
// and then drops the old ones, if nothing needs them by then: else rekey does when
// nothing does any more.
func (u *Upkeep) runReencrypt(ctx context.Context, t *job.Task) error {
	n, err := strconv.ParseUint(t.Args()[0], 10, 32)
	if err != nil {
		return fsapi.Wrap(fsapi.Invalid, err, "volume")
	}
	vol := fsapi.VolumeID(n)
	for u.o.Keys != nil && t.Args()[1] == strconv.FormatUint(uint64(u.current(vol)), 10) {
		c, more, err := u.reencryptStep(ctx, vol, t)
		if isPostponed(err) {
			if err := u.postpone(ctx, t, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if !more {
			if c.Needed != "" {
				t.Note("old keys are kept until nothing needs them: " + c.Needed)
			}
			return nil
		}
	}
	t.Note("the key was rotated again: another job goes on")
	return nil
}

// reencryptStep takes a volume on by a batch. At the end it tries to drop keys, and
// says that there is no more to do.
func (u *Upkeep) reencryptStep(ctx context.Context, vol fsapi.VolumeID, t *job.Task) (c Cursor, more bool, err error) {
	give, err := u.rekeying.take(ctx)
	if err != nil {
		return c, false, err
	}
	defer give()
	if c, err = u.Reencrypting(ctx, vol); err != nil {
		return c, false, err
	}
	if u.encrypted(vol, c) {
		if err := u.tryPrune(ctx, vol, c, false); err != nil {
			return c, false, err
		}
		c, err = u.Reencrypting(ctx, vol)
		return c, false, err
	}
	before := c
	if c, err = u.ReencryptOnce(ctx, vol, u.o.BatchBytes, c); err != nil {
		return c, false, err
	}
	if err := u.keepCursor(ctx, vol, c); err != nil {
		return c, false, err
	}
	done := c.Done
	if c.To == before.To && c.Phase != PhaseJournal && before.Phase != "" {
		done -= before.Done
	}
	t.Total(0, max(c.Total, c.Done)) // what was written anew is looked at, too
	return c, true, t.Step(ctx, []byte(c.Phase), 1, max(done, 0))
}

// encrypted reports whether all of a volume was encrypted anew for its current key.
func (u *Upkeep) encrypted(vol fsapi.VolumeID, c Cursor) bool {
	return c.To != 0 && c.Phase == PhaseWaiting && c.To == u.current(vol)
}

func (u *Upkeep) reencryptVolume(ctx context.Context, vol fsapi.VolumeID, budget int64, now bool) (int64, error) {
	c, err := u.Reencrypting(ctx, vol)
	if err != nil {
		return 0, err
	}
	before := c.Done
	for !u.encrypted(vol, c) {
		left := budget - (c.Done - before)
		if left <= 0 {
			return budget, nil
		}
		if c, err = u.ReencryptOnce(ctx, vol, min(left, u.o.BatchBytes), c); err != nil {
			return c.Done - before, err
		}
		if err := u.keepCursor(ctx, vol, c); err != nil {
			return c.Done - before, err
		}
	}
	return max(c.Done-before, 0), u.tryPrune(ctx, vol, c, now)
}

func (u *Upkeep) current(vol fsapi.VolumeID) fsapi.KeyVersion {
	all := u.o.Keys.Versions(vol)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1]
}

// tryPrune drops keys if nothing needs them. What is left of them for another
// reason than that dead segments wait to be deleted begins a new pass.
func (u *Upkeep) tryPrune(ctx context.Context, vol fsapi.VolumeID, c Cursor, now bool) error {
	at := u.o.Clock.Now()
	if age := at.Sub(c.Looked); !now && age >= 0 && age < u.o.Delay {
		return nil
	}
	use, err := u.KeyUse(ctx, vol, now)
	if err != nil {
		return err
	}
	c.Looked, c.Needed = at, use.String()
	if use.none() {
		if err := u.o.Keys.Prune(ctx, vol, c.To); err != nil {
			c.Needed = err.Error()
		}
	} else if use.Live > 0 || use.Journal > 0 || use.Inline > 0 {
		c.Phase, c.Segment, c.Inline, c.Done, c.Total = PhaseJournal, fsapi.SegmentID{}, meta.InlineAt{}, 0, 0
	}
	return u.keepCursor(ctx, vol, c)
}

// ReencryptOnce takes one volume on from a cursor: it reads at most about
// budget stored bytes, seals those anew whose key is not the current one, and
// says where it has come to, which the caller keeps. What it did is durable
// before it returns. It ends in PhaseWaiting. Data that cannot be read is left
// and counted in Doubts.
func (u *Upkeep) ReencryptOnce(ctx context.Context, vol fsapi.VolumeID, budget int64, c Cursor) (Cursor, error) {
	if to := u.current(vol); c.To != to || c.Phase == "" {
		total, err := u.stored(ctx, vol)
		if err != nil {
			return c, err
		}
		c = Cursor{Form: cursorForm, To: to, Phase: PhaseJournal, Total: total}
	}
	var err error
	switch c.Phase {
	case PhaseJournal:
		err = u.reencryptJournal(ctx, vol, &c)
	case PhaseSegments:
		err = u.reencryptSegments(ctx, vol, budget, &c)
	case PhaseInline:
		err = u.reencryptInline(ctx, vol, budget, &c)
	}
	if err != nil {
		return c, err
	}
	return c, u.o.Meta.Sync(ctx)
}

// stored is how many bytes of frames are live in a volume's segments.
func (u *Upkeep) stored(ctx context.Context, vol fsapi.VolumeID) (int64, error) {
	var sum int64
	err := u.o.Meta.Segments(ctx, fsapi.SegmentID{}, func(s meta.SegmentUse) bool {
		if s.Volume == vol {
			sum += max(s.Live, 0)
		}
		return true
	})
	return sum, err
}

// reencryptJournal packs the journal if a frame of it has an old key.
func (u *Upkeep) reencryptJournal(ctx context.Context, vol fsapi.VolumeID, c *Cursor) error {
	old, err := u.oldJournal(ctx, vol, c.To)
	if err != nil {
		return err
	}
	if old > 0 {
		r, err := u.Pack(ctx)
		if err != nil {
			return err
		}
		if r.Waiting > 0 {
			return r.Why
		}
		c.Moved += r.Bytes
		c.Doubts += len(r.Bad)
	}
	c.Phase = PhaseSegments
	return nil
}

// oldJournal counts journal frames of a volume with a key below v.
func (u *Upkeep) oldJournal(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion) (old int64, err error) {
	err = u.o.Meta.EachJournalFrame(ctx, vol, func(frame []byte) bool {
		if has, err := blob.FrameVersion(frame); err != nil || has < v {
			old++
		}
		return true
	})
	return old, err
}

// reencryptSegments moves the live frames out of segments with an old key, as
// compaction does.
func (u *Upkeep) reencryptSegments(ctx context.Context, vol fsapi.VolumeID, budget int64, c *Cursor) error {
	give, err := u.compacting.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	group, done, err := u.oldSegments(ctx, vol, budget, c)
	if err != nil {
		return err
	}
	for i := range group {
		if err := u.movable(&group[i].Segment, true); err != nil {
			return err
		}
	}
	byHome(group)
	for len(group) > 0 {
		n := sameHome(group)
		var r CompactReport
		err := u.compactGroup(ctx, group[:n], &r)
		if err == nil && r.Waiting > 0 {
			err = r.Why
		}
		if err != nil {
			return err
		}
		c.Doubts += len(r.Doubts)
		group = group[n:]
	}
	if done {
		c.Phase = PhaseInline
	}
	return nil
}

// oldSegments lists the next segments that hold live frames with an old key, up
// to budget, and moves the cursor behind them; done where there are no more.
func (u *Upkeep) oldSegments(ctx context.Context, vol fsapi.VolumeID, budget int64, c *Cursor) (group []meta.SegmentUse, done bool, err error) {
	var page []meta.SegmentUse
	err = u.o.Meta.Segments(ctx, c.Segment, func(s meta.SegmentUse) bool {
		page = append(page, s)
		return len(page) < maxCandidates
	})
	if err != nil {
		return nil, false, err
	}
	for _, s := range page {
		if budget <= 0 {
			return group, false, nil
		}
		c.Segment = s.ID
		if s.Volume != vol || s.Live <= 0 {
			continue
		}
		c.Done += s.Live
		v, err := u.sealedWith(ctx, s.Segment)
		if err != nil {
			if ctx.Err() != nil {
				return nil, false, err
			}
			c.Doubts++ // KeyUse will say so
			continue
		}
		if v < c.To {
			group = append(group, s)
			c.Moved += s.Live
			budget -= s.Live
		}
	}
	return group, len(page) < maxCandidates, nil
}

// sealedWith is the version of the data key of a segment's frames, from the
// first copy that opens.
func (u *Upkeep) sealedWith(ctx context.Context, s fsapi.Segment) (fsapi.KeyVersion, error) {
	r, err := u.o.Store.Open(ctx, &s)
	if err != nil {
		return 0, err
	}
	return r.Header().Key, u.pace.wait(ctx, headBytes)
}

// headBytes is about what opening a segment reads.
const headBytes = 64 << 10

// inlineLook is how many extents are looked at in one transaction.
const inlineLook = 4096

// reencryptInline seals the frames of small files anew, which lie with the
// metadata.
func (u *Upkeep) reencryptInline(ctx context.Context, vol fsapi.VolumeID, budget int64, c *Cursor) error {
	for budget > 0 {
		list, next, more, err := u.o.Meta.InlineFrames(ctx, vol, c.Inline, inlineLook)
		if err != nil {
			return err
		}
		fresh := list[:0]
		for _, in := range list {
			var ok bool
			in.Fresh, ok, err = u.o.Store.Reseal(vol, in.Chunk, in.Frame)
			switch {
			case errors.Is(err, fsapi.Corrupt):
				c.Doubts++
			case err != nil:
				return err
			case ok:
				fresh = append(fresh, in)
				budget -= int64(len(in.Frame))
				c.Moved += int64(len(in.Frame))
			}
		}
		if len(fresh) > 0 {
			if _, err := u.o.Meta.ReplaceInline(ctx, vol, fresh); err != nil {
				return err
			}
		}
		c.Inline = next
		if !more {
			c.Phase = PhaseWaiting
			return nil
		}
		if err := u.pace.wait(ctx, int64(inlineLook)); err != nil {
			return err
		}
	}
	return nil
}

// Use is what still needs data keys of a volume that are not current.
type Use struct {
	Live     int64  // segments that hold live frames
	Dead     int64  // segments that wait to be deleted, recorded or not
	Unread   int64  // segments that could not be asked
	Journal  int64  // frames
	Inline   int64  // extents
	Batches  bool   // data is being written with one
	Recent   bool   // was a moment ago, so that it may not be recorded yet
	Unproven string // why nothing can be said
}

func (k Use) none() bool { return k == Use{} }

// String says what needs the keys, empty where nothing does.
func (k Use) String() string {
	if k.none() {
		return ""
	}
	s := fmt.Sprintf("%d segments with live data, %d that wait to be deleted, %d that cannot be read, %d journal frames, %d small files", k.Live, k.Dead, k.Unread, k.Journal, k.Inline)
	if k.Batches || k.Recent {
		s += ", writes that began before the rotation"
	}
	if k.Unproven != "" {
		s += "; " + k.Unproven
	}
	return s
}

// KeyUse looks at everything stored for a volume and says what needs a data
// key that is not current. Whatever it cannot see counts (fails closed). now
// leaves out the delay after the last write with such a key, for a caller who
// has had all of them committed.
func (u *Upkeep) KeyUse(ctx context.Context, vol fsapi.VolumeID, now bool) (Use, error) {
	var k Use
	v := u.current(vol)
	since, quiet := u.o.Store.Quiet(vol, v)
	k.Batches = !quiet
	k.Recent = quiet && !now && !since.IsZero() && u.o.Clock.Now().Sub(since) < u.o.Delay
	if err := u.o.Meta.FramesKnown(ctx); err != nil {
		if fsapi.KindOf(err) != fsapi.NotSupported {
			return k, err
		}
		k.Unproven = err.Error()
	}
	var err error
	if k.Journal, err = u.oldJournal(ctx, vol, v); err != nil {
		return k, err
	}
	if err := u.inlineUse(ctx, vol, v, &k); err != nil {
		return k, err
	}
	if err := u.segmentUse(ctx, vol, v, &k); err != nil {
		return k, err
	}
	return k, u.orphanUse(ctx, vol, v, &k)
}

func (u *Upkeep) inlineUse(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion, k *Use) error {
	var at meta.InlineAt
	for more := true; more; {
		var list []meta.Inline
		var err error
		if list, at, more, err = u.o.Meta.InlineFrames(ctx, vol, at, inlineLook); err != nil {
			return err
		}
		for _, in := range list {
			if has, err := blob.FrameVersion(in.Frame); err != nil || has < v {
				k.Inline++
			}
		}
	}
	return nil
}

func (u *Upkeep) segmentUse(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion, k *Use) error {
	var after fsapi.SegmentID
	for {
		var page []meta.SegmentUse
		err := u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
			after = s.ID
			if s.Volume == vol {
				page = append(page, s)
			}
			return len(page) < maxCandidates
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			has, err := u.sealedWith(ctx, s.Segment)
			switch {
			case ctx.Err() != nil:
				return err
			case err != nil:
				k.Unread++
			case has >= v:
			case s.Live == 0:
				k.Dead++
			default:
				k.Live++
			}
		}
	}
}

// orphanUse looks for segments that no record knows, as replicas or in shards. On a
// drive that is not there they are not missed: nothing that is recorded needs them.
func (u *Upkeep) orphanUse(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion, k *Use) error {
	sets := map[fsapi.SegmentID]bool{} // of shards: a set lies on several drives
	for _, d := range u.o.Drives.All() {
		err := u.eachOrphan(ctx, d, blob.SegmentPrefix, func(id fsapi.SegmentID) error {
			r, err := u.o.Store.OpenSegment(ctx, d, id)
			if errors.Is(err, fsapi.NotExist) {
				return nil // deleted meanwhile
			}
			return k.orphan(ctx, vol, v, r, err)
		})
		if err != nil {
			return err
		}
		err = u.eachOrphan(ctx, d, blob.ShardPrefix, func(id fsapi.SegmentID) error {
			if sets[id] {
				return nil
			}
			sets[id] = true
			return u.shardUse(ctx, vol, v, id, k)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shardUse looks at the shards of a segment that no record knows, on all drives. A
// set that is too small to be read with any key, and of which no drive can hold
// more, needs none.
func (u *Upkeep) shardUse(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion, id fsapi.SegmentID, k *Use) error {
	g, err := u.groupShards(ctx, id)
	if err != nil || len(g.parts) == 0 { // deleted meanwhile
		return err
	}
	r, err := u.openShards(ctx, g)
	if r == nil && err == nil {
		if g.complete && g.few() {
			return nil
		}
		err = fsapi.Errorf(fsapi.Corrupt, "segment %v: shards are missing or do not say what they are", id)
	}
	return k.orphan(ctx, vol, v, r, err)
}

// orphan counts a segment without a record, by what opening it yielded.
func (k *Use) orphan(ctx context.Context, vol fsapi.VolumeID, v fsapi.KeyVersion, r *blob.SegmentReader, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctxErr(ctx)
	case err != nil:
		k.Unread++
	case r.Header().Volume == vol && r.Header().Key < v:
		k.Dead++
	}
	return nil
}

// eachOrphan calls fn for the segments of which a drive has a part, by its name, and
// there is no record: for shards once for each. What has no such name is the orphan
// sweep's to report.
func (u *Upkeep) eachOrphan(ctx context.Context, d drive.Drive, prefix string, fn func(id fsapi.SegmentID) error) error {
	var ids []fsapi.SegmentID
	err := d.List(ctx, prefix, "", func(b drive.Blob) error {
		if p := (&part{d: d, blob: b}); p.parse() == nil {
			ids = append(ids, p.id)
		}
		return nil
	})
	for _, id := range ids { // not while the drive is listing
		if err != nil {
			return err
		}
		if _, err = u.o.Meta.Segment(ctx, id); errors.Is(err, fsapi.NotExist) {
			err = fn(id)
		}
	}
	return err
}
