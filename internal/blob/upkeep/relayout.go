package upkeep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// A relayout gives the data of files below an inode the copies that their
// policies ask for now. It has up to three phases:
//
//	whole     a volume in which no inode has a policy of its own: each of its
//	          segments shall have the volume's copies. No file is looked at.
//	count     else: the extents of all files are counted by segment. A segment
//	          to which just these files refer, all of them wanting the same,
//	          shall have that.
//	rewrite   of the segments that are left, the chunks of which a file has all
//	          references are written anew in segments as that file wants them;
//	          one that is shared is written anew only where what it has does not
//	          cover what is asked, and then has what both ask for. So it ends up
//	          as the most careful of its files asks, whichever comes last.
//
// Before a walk everything that was written is stored, so that nothing which was
// on its way when the policy changed is missed. Where files moved to another
// directory while it walked, which it may have missed, it walks again.
//
// What only a snapshot or the trash has keeps its layout, but in the first phase:
// the policy of which directory should hold for it is that of the time of the
// snapshot, and nothing but a walk of every snapshot would say where it is.
//
// What a segment shall have is its Want: the queue of pending copies does the
// rest, new copies before old ones go.

// The phases, as the first byte of a cursor.
const (
	layoutWhole   = 'w'
	layoutCount   = 'c'
	layoutRewrite = 'r'
)

// countWindow bounds the segments whose references are counted in one walk of
// the files: what bounds memory, some 100 bytes each.
const countWindow = 1 << 18

func checkTop(args []string) ([]string, error) {
	if len(args) != 2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "give the numbers of a volume and an inode")
	}
	_, _, err := parseTop(args)
	return args, err
}

func parseTop(args []string) (fsapi.VolumeID, fsapi.Ino, error) {
	vol, err := strconv.ParseUint(args[0], 10, 32)
	if err == nil {
		var ino uint64
		if ino, err = strconv.ParseUint(args[1], 10, 64); err == nil && vol > 0 && ino > 0 {
			return fsapi.VolumeID(vol), fsapi.Ino(ino), nil
		}
	}
	return 0, 0, fsapi.Errorf(fsapi.Invalid, "%q is not the number of a volume and of an inode", args)
}

// Relayout starts the job that follows a changed policy of an inode, or begins it
// anew where it is under way: what it did for the policy before is not undone
// unless the new one asks for it. A job for the whole volume does the work of
// others in it.
func (u *Upkeep) Relayout(ctx context.Context, vol fsapi.VolumeID, top fsapi.Ino) (job.Job, error) {
	all := strconv.FormatUint(uint64(fsapi.RootIno), 10)
	args := []string{strconv.FormatUint(uint64(vol), 10), strconv.FormatUint(uint64(top), 10)}
	jobs, err := u.Jobs(ctx)
	if err != nil {
		return job.Job{}, err
	}
	for _, j := range jobs {
		if j.Kind != JobRelayout || j.State.Ended() || j.Args[0] != args[0] {
			continue
		}
		if j.Args[1] == all {
			return u.runner.Start(ctx, JobRelayout, j.Args, true)
		}
		if args[1] == all {
			if _, err := u.CancelJob(ctx, j.ID); err != nil && !errors.Is(err, fsapi.Invalid) {
				return job.Job{}, err
			}
		}
	}
	return u.runner.Start(ctx, JobRelayout, args, true)
}

// layouter is one relayout.
type layouter struct {
	u    *Upkeep
	t    *job.Task
	vol  fsapi.VolumeID
	top  fsapi.Ino
	pass int    // walks before this one
	at   []byte // the cursor of the last step
	note struct{ changed, moved, kept int }
}

// maxPasses is how often a relayout walks while files move.
const maxPasses = 5

func (u *Upkeep) runRelayout(ctx context.Context, t *job.Task) error {
	vol, top, err := parseTop(t.Args())
	if err != nil {
		return err
	}
	c := t.Cursor()
	l := &layouter{u: u, t: t, vol: vol, top: top, at: c}
	resumed := len(c) > 0
	for ; ; l.pass++ {
		if l.pass == maxPasses {
			t.Note("files moved all the time: start it again, so that none was missed")
			return nil
		}
		if err := u.o.Settle(ctx, vol); err != nil {
			return notHere(err)
		}
		moves := u.o.Moves(vol)
		whole, err := l.walk(ctx, c)
		if isPostponed(err) { // as if it had been paused
			if err := u.postpone(ctx, t, err); err != nil {
				return err
			}
			c, resumed = l.at, true
			l.pass--
			continue
		}
		if err != nil || whole || !resumed && u.o.Moves(vol) == moves {
			return err
		}
		c, resumed = nil, false
	}
}

// walk is all phases from a cursor on. whole: no file was looked at.
func (l *layouter) walk(ctx context.Context, c []byte) (whole bool, err error) {
	if len(c) == 0 {
		if c, err = l.begin(ctx); err != nil {
			return false, notHere(err)
		}
	}
	switch c[0] {
	case layoutWhole:
		return true, l.whole(ctx, c)
	case layoutCount:
		if err := l.count(ctx, c); err != nil {
			return false, notHere(err)
		}
		c = []byte{layoutRewrite}
	}
	return false, notHere(l.rewrite(ctx, c[1:]))
}

// step is Task.Step. What is walked again is not counted again.
func (l *layouter) step(ctx context.Context, cursor []byte, files, bytes int64) error {
	if l.pass > 0 {
		files, bytes = 0, 0
	}
	l.at = cursor
	return l.t.Step(ctx, cursor, files, bytes)
}

// notHere is the error of a walk, where that is not that its top is gone: then
// nothing is left to do.
func notHere(err error) error {
	if errors.Is(err, fsapi.Stale) || errors.Is(err, fsapi.NotExist) {
		return nil
	}
	return err
}

// begin chooses the first phase.
func (l *layouter) begin(ctx context.Context) ([]byte, error) {
	_, uniform, err := l.u.o.Meta.UniformCopies(ctx, l.vol)
	if err != nil {
		return nil, err
	}
	if uniform && l.top == fsapi.RootIno {
		return []byte{layoutWhole}, l.u.total(ctx, l.t, func(s *meta.SegmentUse) int64 {
			if s.Volume == l.vol {
				return s.Size
			}
			return 0
		})
	}
	return []byte{layoutCount}, nil
}

// whole changes what all segments of the volume shall have. Where a policy
// comes to be meanwhile, the job is begun anew by whoever set it.
func (l *layouter) whole(ctx context.Context, c []byte) error {
	_, after := cursorSegment(c, 1)
	return l.u.walk(ctx, l.t, []byte{layoutWhole}, after, func(page []meta.SegmentUse) (items, bytes int64, err error) {
		want, uniform, err := l.u.o.Meta.UniformCopies(ctx, l.vol)
		if err != nil || !uniform {
			if err == nil {
				err = fsapi.Errorf(fsapi.Conflict, "a policy was set within volume %d meanwhile: start the job again", l.vol)
			}
			return 0, 0, notHere(err)
		}
		for _, s := range page {
			if s.Volume != l.vol {
				continue
			}
			items++
			bytes += s.Size
			if err := l.want(ctx, s.Segment, want); err != nil {
				return items, bytes, err
			}
		}
		return items, bytes, nil
	})
}

// want changes what a segment shall have.
func (l *layouter) want(ctx context.Context, s fsapi.Segment, want []fsapi.CopySpec) error {
	if !s.Condemned.IsZero() || sameCopies(s.Want, want) {
		return nil
	}
	_, err := l.u.o.Meta.ChangeSegment(ctx, s.ID, func(seg *fsapi.Segment) error {
		seg.Want = slices.Clone(want)
		return nil
	})
	if err == nil {
		l.note.changed++
		l.say()
		l.u.Kick()
	}
	return notGone(err)
}

func sameCopies(a, b []fsapi.CopySpec) bool { return slices.Equal(a, b) }

func (l *layouter) say() {
	text := fmt.Sprintf("%d segments changed, %d chunks moved", l.note.changed, l.note.moved)
	if l.note.kept > 0 {
		text += fmt.Sprintf(", %d chunks stay since others need them as they are", l.note.kept)
	}
	l.t.Note(text)
}

// tally is what a walk of files found of one segment.
type tally struct {
	sum   uint64 // of the references, see mark
	want  int    // of the first of them, an index into counter.wants
	mixed bool   // they want different copies
}

// mark is what one reference to a chunk adds to a sum: two sums agree when they
// are of the same references.
func mark(id *fsapi.ChunkID) uint64 { return binary.BigEndian.Uint64(id[:]) | 1 }

// counter counts references to the segments of a window.
type counter struct {
	segs  map[fsapi.SegmentID]*tally
	wants [][]fsapi.CopySpec
	index map[string]int // of wants, by text
}

// count is the phase of that name, a window of segments at a time.
func (l *layouter) count(ctx context.Context, c []byte) error {
	_, after := cursorSegment(c, 1)
	for {
		n, last, err := l.window(ctx, after)
		if err != nil || len(n.segs) == 0 {
			return err
		}
		var bytes, files int64
		err = l.u.o.Meta.FilesBelow(ctx, l.vol, l.top, nil, func(f meta.FileWant) error {
			files++
			bytes += f.Bytes
			return l.countFile(ctx, n, f)
		})
		if err != nil {
			return err
		}
		if l.pass == 0 {
			l.t.Total(2*files, 2*bytes) // they are looked at again
		}
		if err := l.decide(ctx, n); err != nil {
			return err
		}
		after = last
		if err := l.step(ctx, append([]byte{layoutCount}, after[:]...), files, bytes); err != nil {
			return err
		}
	}
}

// window takes the next segments of the volume.
func (l *layouter) window(ctx context.Context, after fsapi.SegmentID) (*counter, fsapi.SegmentID, error) {
	n := &counter{segs: make(map[fsapi.SegmentID]*tally), index: make(map[string]int)}
	err := l.u.o.Meta.Segments(ctx, after, func(s meta.SegmentUse) bool {
		after = s.ID
		if s.Volume == l.vol && s.Condemned.IsZero() && s.Live > 0 {
			n.segs[s.ID] = &tally{want: -1}
		}
		return len(n.segs) < countWindow && ctx.Err() == nil
	})
	return n, after, err
}

// countFile counts a file's references. One that the walk may meet twice is not
// counted, so that what it refers to is not taken for these files' alone.
func (l *layouter) countFile(ctx context.Context, n *counter, f meta.FileWant) error {
	if f.Linked {
		return ctx.Err()
	}
	key := policy.Copies(f.Copies).String()
	want, ok := n.index[key]
	if !ok {
		want = len(n.wants)
		n.index[key], n.wants = want, append(n.wants, f.Copies)
	}
	return l.eachChunk(ctx, f.Ino, func(exts []fsapi.Extent, chunks map[fsapi.ChunkID]meta.ChunkRefs) error {
		for i := range exts {
			c := chunks[exts[i].Chunk]
			t := n.segs[c.Loc.Segment]
			if t == nil {
				continue
			}
			t.sum += mark(&c.ID)
			if t.want < 0 {
				t.want = want
			}
			t.mixed = t.mixed || t.want != want
		}
		return nil
	})
}

// eachChunk calls fn for pages of a file's extents, with the records of their
// chunks.
func (l *layouter) eachChunk(ctx context.Context, ino fsapi.Ino, fn func(exts []fsapi.Extent, chunks map[fsapi.ChunkID]meta.ChunkRefs) error) error {
	return l.u.o.Meta.FileExtents(ctx, l.vol, ino, func(exts []fsapi.Extent) error {
		chunks := make(map[fsapi.ChunkID]meta.ChunkRefs, len(exts))
		var ids []fsapi.ChunkID
		for i := range exts {
			if _, ok := chunks[exts[i].Chunk]; !ok {
				chunks[exts[i].Chunk] = meta.ChunkRefs{}
				ids = append(ids, exts[i].Chunk)
			}
		}
		list, err := l.u.o.Meta.ChunkRefs(ctx, l.vol, ids)
		if err != nil {
			return err
		}
		for _, c := range list {
			chunks[c.ID] = c
		}
		return fn(exts, chunks)
	})
}

// decide changes the segments to which only the counted files refer.
func (l *layouter) decide(ctx context.Context, n *counter) error {
	for id, t := range n.segs {
		if t.want < 0 || t.mixed {
			continue
		}
		s, err := l.u.o.Meta.Segment(ctx, id)
		if err != nil {
			if notGone(err) == nil {
				continue
			}
			return err
		}
		if sameCopies(s.Want, n.wants[t.want]) {
			continue
		}
		sum, err := l.references(ctx, s)
		if errors.Is(err, fsapi.Corrupt) || errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.IO) {
			l.u.o.Log.Warn("a segment that cannot be read keeps its layout", "segment", id, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		if sum == t.sum {
			if err := l.want(ctx, s, n.wants[t.want]); err != nil {
				return err
			}
		}
	}
	return nil
}

// references is the sum of all references to what lies in a segment.
func (l *layouter) references(ctx context.Context, s fsapi.Segment) (sum uint64, err error) {
	dir, err := l.u.directory(ctx, s)
	if err != nil {
		return 0, err
	}
	ids := make([]fsapi.ChunkID, len(dir))
	for i, e := range dir {
		ids[i] = e.Chunk
	}
	list, err := l.u.o.Meta.ChunkRefs(ctx, s.Volume, ids)
	for _, c := range list {
		if c.Loc.Segment == s.ID {
			sum += mark(&c.ID) * uint64(c.Refs)
		}
	}
	return sum, err
}

// rewrite is the phase of that name. The cursor is that of the walk, at a file
// before which nothing waits to be written.
func (l *layouter) rewrite(ctx context.Context, after []byte) error {
	class, err := l.u.classOf(ctx, l.vol)
	if err != nil {
		return err
	}
	h := &homes{u: l.u, vol: l.vol, class: class, m: make(map[string]*rewriter), gathered: make(map[fsapi.ChunkID]bool)}
	defer h.abort()
	var files, bytes int64
	var last []byte
	flush := func() error {
		moved, err := h.flush(ctx)
		l.note.moved += moved
		if err != nil {
			return err
		}
		l.say()
		err = l.step(ctx, append([]byte{layoutRewrite}, last...), files, bytes)
		files, bytes = 0, 0
		return err
	}
	err = l.u.o.Meta.FilesBelow(ctx, l.vol, l.top, after, func(f meta.FileWant) error {
		if err := l.rewriteFile(ctx, h, f); err != nil {
			return err
		}
		files, bytes, last = files+1, bytes+f.Bytes, f.Next
		if h.waiting() >= l.u.o.BatchBytes || files >= filesStep {
			return flush()
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return flush()
}

// filesStep is after how many files a relayout says where it is.
const filesStep = 512

// rewriteFile hands on the chunks of a file that lie in segments of another
// layout.
func (l *layouter) rewriteFile(ctx context.Context, h *homes, f meta.FileWant) error {
	return l.eachChunk(ctx, f.Ino, func(exts []fsapi.Extent, chunks map[fsapi.ChunkID]meta.ChunkRefs) error {
		refs := make(map[fsapi.ChunkID]int64, len(chunks))
		for i := range exts {
			refs[exts[i].Chunk]++
		}
		for i := range exts {
			c := chunks[exts[i].Chunk]
			delete(chunks, c.ID) // once
			if c.Loc.Segment.IsZero() || c.Loc.Segment.IsJournal() {
				continue // it is packed as the file wants it
			}
			if err := l.rewriteChunk(ctx, h, f, &exts[i], c, refs[c.ID] == c.Refs); err != nil {
				return err
			}
		}
		return nil
	})
}

// rewriteChunk hands on one chunk, if it is to have other copies. alone: just
// this file refers to it.
func (l *layouter) rewriteChunk(ctx context.Context, h *homes, f meta.FileWant, e *fsapi.Extent, c meta.ChunkRefs, alone bool) error {
	have, err := h.wants(ctx, c.Loc.Segment)
	if err != nil || sameCopies(have, f.Copies) {
		return notGone(err)
	}
	want := f.Copies
	if !alone {
		if fsapi.Covers(have, want) {
			l.note.kept++
			return nil
		}
		want = fsapi.JoinCopies(have, want)
	}
	if h.gathered[c.ID] { // for another file: it lies elsewhere in a moment
		moved, err := h.flush(ctx)
		l.note.moved += moved
		if err != nil {
			return err
		}
		again, err := l.u.o.Meta.ChunkRefs(ctx, l.vol, []fsapi.ChunkID{c.ID})
		if err != nil || again[0].Loc.Segment.IsZero() || again[0].Loc.Segment.IsJournal() {
			return err
		}
		return l.rewriteChunk(ctx, h, f, e, again[0], false)
	}
	if h.stays != nil {
		return h.stays
	}
	data, err := l.u.o.Store.ReadChunk(ctx, l.vol, c.Chunk)
	if errors.Is(err, fsapi.Corrupt) || errors.Is(err, fsapi.NotExist) {
		l.u.o.Log.Warn("a chunk that cannot be read keeps its layout", "chunk", c.ID, "err", err)
		return nil
	}
	if err == nil {
		h.gathered[c.ID] = true
		err = h.home(want).add(ctx, c.ID, c.Loc, f.Ino, max(0, e.Off-int64(e.ChunkOff)), data)
	}
	if err == nil {
		err = l.u.pace.wait(ctx, int64(c.Loc.Length))
	}
	return err
}

// homes are rewriters by the copies they write.
type homes struct {
	u     *Upkeep
	vol   fsapi.VolumeID
	class blob.Class // all of it but the copies
	m     map[string]*rewriter

	gathered map[fsapi.ChunkID]bool // since the last flush

	seg   fsapi.SegmentID // the last one asked for
	want  []fsapi.CopySpec
	stays error // why what is in it cannot move now
}

// wants is what a segment should have. Chunks of one segment mostly come
// together.
func (h *homes) wants(ctx context.Context, id fsapi.SegmentID) ([]fsapi.CopySpec, error) {
	if h.seg != id {
		s, err := h.u.o.Meta.Segment(ctx, id)
		if err != nil {
			return nil, err
		}
		h.seg, h.want, h.stays = id, s.Want, h.u.movable(&s, true)
	}
	return h.want, nil
}

func (h *homes) home(want []fsapi.CopySpec) *rewriter {
	key := policy.Copies(want).String()
	w := h.m[key]
	if w == nil {
		class := h.class
		class.Copies = want
		w = h.u.rewriter(h.vol, class)
		h.m[key] = w
	}
	return w
}

// waiting is how much plaintext is gathered.
func (h *homes) waiting() (n int64) {
	for _, w := range h.m {
		n += w.bytes
	}
	return n
}

// flush makes what was gathered durable and says how many chunks moved.
func (h *homes) flush(ctx context.Context) (moved int, err error) {
	for key, w := range h.m {
		if err := w.flush(ctx); err != nil {
			return moved, err
		}
		moved += w.moved
		delete(h.m, key)
	}
	clear(h.gathered)
	h.seg = fsapi.SegmentID{}
	return moved, nil
}

func (h *homes) abort() {
	for _, w := range h.m {
		w.abort()
	}
}
