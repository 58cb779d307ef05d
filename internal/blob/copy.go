package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
)

// FillCopy writes what a segment lacks of a wanted copy, on drives that hold
// nothing of that copy yet, none of avoid, and says where it lies now: of shards
// only the new ones are set. It may be a part, beside an error that says why it
// is not all. Nothing is recorded; what the caller cannot record he removes with
// RemovePart.
func (s *Store) FillCopy(ctx context.Context, seg *fsapi.Segment, spec fsapi.CopySpec, avoid []fsapi.DriveID) (fsapi.CopyPlace, error) {
	c := seg.Copy(spec)
	if c == nil {
		c = &fsapi.CopyPlace{Tier: spec.Tier, K: spec.K, M: spec.M, Drives: make([]fsapi.DriveID, spec.K+spec.M)}
	}
	slots := missing(c, spec)
	none := fsapi.CopyPlace{Tier: spec.Tier, K: spec.K, M: spec.M}
	if len(slots) == 0 {
		return none, nil
	}
	drives, err := s.o.Drives.Place(ctx, Wish{
		Tier: spec.Tier, N: len(slots), Min: 1, Size: driveBytes(spec, seg.Size), Beside: held(c), Avoid: avoid,
	})
	if err != nil {
		return none, err
	}
	want := len(slots)
	slots, drives = apart(seg, c, slots, drives)
	short := want - len(drives)
	reps, err := s.writeParts(ctx, seg, c, slots, drives, false)
	if err != nil {
		return none, err
	}
	added := placed(spec, reps)
	err = failures(reps)
	if err == nil && short > 0 {
		err = fsapi.Errorf(fsapi.NoSpace, "segment %v should have %d more drives of tier %s than can take it", seg.ID, short, spec.Tier)
	}
	return added, err
}

// apart gives each drive one of the slots of a copy, so that none gets a shard whose
// name that of another layout of the segment has there. Drives for which there is
// no slot are left out.
func apart(seg *fsapi.Segment, c *fsapi.CopyPlace, slots []int, drives []drive.Drive) ([]int, []drive.Drive) {
	if !c.Sharded() {
		return slots[:len(drives)], drives
	}
	taken := make([]int, len(slots)) // by which drive, from 1 on; 0: none
	for i := range drives {
		assign(i, make([]bool, len(slots)), taken, func(drive, slot int) bool {
			return !seg.Names(true, slots[slot], drives[drive].Info().ID)
		})
	}
	var n []int
	var on []drive.Drive
	for slot, i := range taken {
		if i > 0 {
			n, on = append(n, slots[slot]), append(on, drives[i-1])
		}
	}
	return n, on
}

// assign finds a slot for a drive, moving others where that helps (Kuhn, 1955).
func assign(i int, seen []bool, taken []int, fits func(drive, slot int) bool) bool {
	for slot := range taken {
		if seen[slot] || !fits(i, slot) {
			continue
		}
		seen[slot] = true
		if taken[slot] == 0 || assign(taken[slot]-1, seen, taken, fits) {
			taken[slot] = i + 1
			return true
		}
	}
	return false
}

// missing are the slots of a copy that are empty: indexes of shards, or any
// numbers, one for each replica.
func missing(c *fsapi.CopyPlace, spec fsapi.CopySpec) []int {
	var slots []int
	if !c.Sharded() {
		for i := c.Count(); i < spec.Replicas; i++ {
			slots = append(slots, i)
		}
		return slots
	}
	for i, d := range c.Drives {
		if d == 0 {
			slots = append(slots, i)
		}
	}
	return slots
}

// held are the drives of a copy.
func held(c *fsapi.CopyPlace) []fsapi.DriveID {
	var ids []fsapi.DriveID
	for _, d := range c.Drives {
		if d != 0 {
			ids = append(ids, d)
		}
	}
	return ids
}

func failures(reps []*replica) error {
	var errs []error
	for _, r := range reps {
		if r != nil && r.err != nil {
			errs = append(errs, r.err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "copy a segment")
}

// CopyPart writes the n-th replica or shard of a copy anew, from wherever the
// segment can be read best, to a drive that holds nothing of the copy yet.
// Nothing is recorded.
func (s *Store) CopyPart(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int, to drive.Drive) error {
	reps, err := s.writeParts(ctx, seg, c, []int{n}, []drive.Drive{to}, false)
	if err != nil {
		return err
	}
	return failures(reps)
}

// remake is CopyPart to the drive that holds a bad one: all new bytes are there
// before the old go.
func (s *Store) remake(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int, on drive.Drive) error {
	reps, err := s.writeParts(ctx, seg, c, []int{n}, []drive.Drive{on}, true)
	if err != nil {
		return err
	}
	return failures(reps)
}

// Place is Drives.Place for a replica or shard that takes the place of one there
// is, on a drive of avoid: it is kept apart from the others.
func (s *Store) Place(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, avoid []fsapi.DriveID) (drive.Drive, error) {
	spec := fsapi.CopySpec{Tier: c.Tier, K: c.K, M: c.M, Replicas: 1}
	if c.Sharded() {
		spec.Replicas = 0
	}
	others := slices.DeleteFunc(held(c), func(d fsapi.DriveID) bool { return slices.Contains(avoid, d) })
	ds, err := s.o.Drives.Place(ctx, Wish{Tier: c.Tier, N: 1, Min: 1, Size: driveBytes(spec, seg.Size), Beside: others, Avoid: avoid})
	if err != nil {
		return nil, err
	}
	return ds[0], nil
}

// RemovePart deletes the n-th replica or shard of a copy from its drive. One that
// is not there is removed.
func (s *Store) RemovePart(ctx context.Context, id fsapi.SegmentID, c *fsapi.CopyPlace, n int) error {
	d, err := s.o.Drives.Drive(c.Drives[n])
	if err == nil {
		err = d.Delete(ctx, PartName(id, c, n))
	}
	if errors.Is(err, fsapi.NotExist) && d != nil {
		return nil
	}
	return err
}

// PartName is the name of the n-th replica or shard of a copy on its drive.
func PartName(id fsapi.SegmentID, c *fsapi.CopyPlace, n int) string {
	return blobName(id, c.Sharded(), n)
}

// PartSize is the bytes that the n-th replica or shard of a copy of a segment of
// size bytes takes on its drive.
func PartSize(size int64, c *fsapi.CopyPlace, n int) int64 {
	if !c.Sharded() {
		return size
	}
	return erasure.For(c.K, c.M, size).BlobSize(n)
}

// writeParts writes slots of a copy to drives. Shards are rebuilt from the others
// of the copy where they suffice; anything else is made from the whole segment in
// memory, of which every frame has been verified (D8). The result is by slot; an
// error says that there was nothing to write from.
func (s *Store) writeParts(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, slots []int, drives []drive.Drive, replace bool) ([]*replica, error) {
	if c.Sharded() && c.Readable() {
		reps, err := s.rebuild(ctx, seg, c, slots, drives, replace)
		if err == nil {
			s.takeOver(ctx, seg, c, reps)
		}
		if err == nil || ctx.Err() != nil {
			return reps, err
		}
		s.o.Log.Warn("shards cannot be rebuilt from the others; trying other copies", "segment", seg.ID, "err", err)
	}
	img, err := s.loadImage(ctx, seg)
	if err != nil {
		return nil, err
	}
	defer img.free()
	if c.Sharded() {
		spec := fsapi.CopySpec{Tier: c.Tier, K: c.K, M: c.M}
		reps := s.writeShards(ctx, seg.ID, img, spec, drives, slots, replace)
		s.takeOver(ctx, seg, c, reps)
		return reps, nil
	}
	reps := make([]*replica, len(drives))
	var wg sync.WaitGroup
	for i, d := range drives {
		r := s.newReplica(ctx, d, SegmentName(seg.ID), seg.Size, replace)
		reps[i] = r
		wg.Go(func() {
			if r.err == nil {
				r.err = img.write(r.w)
			}
			r.finish(ctx, true)
		})
	}
	wg.Wait()
	s.takeOver(ctx, seg, c, reps)
	return reps, nil
}

// takeOver counts parts as written that were there already, and are whole: what
// an attempt left that ended before it was on record. One that is not whole is
// left to the orphan sweep.
func (s *Store) takeOver(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, reps []*replica) {
	for n, r := range reps {
		if r == nil || r.err == nil || !errors.Is(r.err, fsapi.Exist) {
			continue
		}
		there := fsapi.CopyPlace{Tier: c.Tier, K: c.K, M: c.M, Drives: make([]fsapi.DriveID, max(len(reps), c.K+c.M))}
		there.Drives[n] = r.d.Info().ID
		if s.VerifyPart(ctx, seg, &there, n) == nil {
			r.err = nil
		}
	}
}

// newReplica begins a blob on a drive. replace: it takes the place of a bad one.
func (s *Store) newReplica(ctx context.Context, d drive.Drive, name string, size int64, replace bool) *replica {
	r := &replica{d: d}
	if r.w, r.err = d.Create(ctx, name, size); r.err != nil {
		r.w = nil
	}
	if replace {
		r.replace = name
	}
	return r
}

// rebuild makes shards from the others of their copy.
func (s *Store) rebuild(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, slots []int, drives []drive.Drive, replace bool) ([]*replica, error) {
	src := s.shardSource(seg.ID, seg.Size, c)
	if src.open != nil {
		return nil, src.open
	}
	reps := make([]*replica, c.K+c.M)
	out := make([]io.Writer, c.K+c.M)
	for i, n := range slots {
		reps[n] = s.newReplica(ctx, drives[i], ShardName(seg.ID, n), PartSize(seg.Size, c, n), replace)
		out[n] = reps[n]
	}
	_, err := src.r.Rebuild(ctx, out)
	finishAll(ctx, reps, err == nil)
	return reps, err
}

// finishAll makes what was written durable, or drops it.
func finishAll(ctx context.Context, reps []*replica, commit bool) {
	var wg sync.WaitGroup
	for _, r := range reps {
		if r != nil {
			wg.Go(func() { r.finish(ctx, commit) })
		}
	}
	wg.Wait()
}

// loadImage reads a whole segment from the first source that is good throughout.
func (s *Store) loadImage(ctx context.Context, seg *fsapi.Segment) (*image, error) {
	img, err := s.newImage(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, src := range s.sources(seg.ID, whereOf(seg), 0) {
		err := img.fill(seg.Size, func(off int64, p []byte) error { return src.readAt(ctx, off, p) })
		if err == nil {
			err = s.verifyImage(ctx, seg, img)
		}
		if err == nil {
			return img, nil
		}
		errs = append(errs, fsapi.Wrap(fsapi.KindOf(err), err, src.String()))
		if ctx.Err() != nil {
			break
		}
	}
	img.free()
	if len(errs) == 0 {
		return nil, fsapi.Errorf(fsapi.Corrupt, "segment %v has no copies on record", seg.ID)
	}
	return nil, fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "read segment "+seg.ID.String())
}

// verifyImage opens every frame.
func (s *Store) verifyImage(ctx context.Context, seg *fsapi.Segment, img *image) error {
	r, err := openSegment(ctx, &imageSource{img, seg.ID}, seg.ID, s.o.Keys, s.codecs)
	if err == nil {
		err = r.agrees(seg)
	}
	if err == nil {
		err = r.Verify(ctx, true, nil)
	}
	return err
}

// imageSource is a segment in memory.
type imageSource struct {
	img *image
	id  fsapi.SegmentID
}

func (m *imageSource) readAt(_ context.Context, off int64, p []byte) error {
	if n, err := m.img.ReadAt(p, off); err != nil {
		return fsapi.Errorf(fsapi.Corrupt, "it ends after %d of %d bytes at %d", n, len(p), off)
	}
	return nil
}

func (m *imageSource) stream(context.Context, int64, int64) (drive.Stream, error) {
	return nil, fsapi.NotSupported
}

func (m *imageSource) size(context.Context) (int64, error) { return m.img.size, nil }
func (m *imageSource) faults() []BadReplica                { return nil }
func (m *imageSource) fail(error)                          {}
func (m *imageSource) String() string                      { return fmt.Sprintf("segment %v", m.id) }

// VerifyPart reads back the n-th replica or shard of a copy from where it lies, all
// of it: of a
// replica every frame, of a shard every block. nil: it is whole. Errors:
// fsapi.Corrupt and NotExist: it is bad; others: the drive could not tell.
func (s *Store) VerifyPart(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int) error {
	ctx = drive.Uncached(ctx)
	d, err := s.o.Drives.Drive(c.Drives[n])
	if err != nil {
		return fsapi.Wrap(fsapi.IO, err, "verify segment "+seg.ID.String())
	}
	if c.Sharded() {
		return s.verifyShard(ctx, seg, c, n, d)
	}
	r, err := s.OpenSegment(ctx, d, seg.ID)
	if err == nil {
		err = r.agrees(seg)
	}
	if err == nil {
		err = r.Verify(ctx, true, nil)
	}
	return err
}

func (s *Store) verifyShard(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace, n int, d drive.Drive) error {
	name := ShardName(seg.ID, n)
	what := func(err error) error {
		i := d.Info()
		return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("shard blob %s on drive %s (%v)", name, i.Name, i.ID))
	}
	st, err := d.Stat(ctx, name)
	if err != nil {
		return what(err)
	}
	h := erasure.Header{Segment: seg.ID, Layout: erasure.For(c.K, c.M, seg.Size), Index: n}
	faults, err := s.coder.Verify(ctx, h, st.Size, func(ctx context.Context, off int64, p []byte) error {
		return readFull(ctx, d, name, off, p)
	})
	for _, f := range faults {
		if err == nil || errors.Is(err, fsapi.Corrupt) { // what could not be read outweighs what is wrong
			err = f.Err
		}
	}
	if err != nil {
		return what(err)
	}
	return nil
}

// VerifyCopy reads back a whole copy: every replica, or every shard and through
// them every frame. nil says that it is complete and right (D5).
func (s *Store) VerifyCopy(ctx context.Context, seg *fsapi.Segment, c *fsapi.CopyPlace) error {
	ctx = drive.Uncached(ctx)
	for n, id := range c.Drives {
		if id == 0 {
			return fsapi.Errorf(fsapi.NotExist, "segment %v lacks shard %d on tier %s", seg.ID, n, c.Tier)
		}
		if err := s.VerifyPart(ctx, seg, c, n); err != nil {
			return err
		}
	}
	if !c.Sharded() {
		return nil
	}
	r, err := s.OpenShards(ctx, seg.ID, seg.Size, c)
	if err == nil {
		err = r.agrees(seg)
	}
	if err == nil {
		err = r.Verify(ctx, true, nil)
	}
	return err
}
