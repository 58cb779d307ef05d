package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// segWriter writes one segment to the first of its copies that can be placed.
// Replicas are streamed; for shards the segment is gathered in memory first.
// reserve and close are called by whoever has the batch's turn.
type segWriter struct {
	b       *Batch
	id      fsapi.SegmentID
	head    segment.Header
	headCRC uint32
	key     *frame.Key
	off     int64 // bytes so far
	blk     *block
	entries []segment.Entry
	items   []*item // of the entries, to write them again
	to      chosen
	want    []fsapi.CopySpec // the copies it should have
	had     []fsapi.CopySpec // those that chunks moved here should have had before
	img     *image           // where the copy is shards
	gather  []*block         // of img, as they were begun
	reps    []*replica
	wg      sync.WaitGroup // of the goroutines that write
	closed  bool
}

// replica is one drive to which a segment is being written, by a goroutine of
// its own: so a slow drive delays the others by at most maxBlocks. Of shards it
// is the drive of one of them.
type replica struct {
	d      drive.Drive
	w      drive.Writer // nil where Create failed
	blocks chan *block
	commit bool // set before blocks is closed
	// replace is the name of a bad blob whose place this one takes.
	replace string
	err     error
}

// beginSegment chooses drives, leaving out bad ones, and starts a segment.
func (b *Batch) beginSegment(size int64, bad []fsapi.DriveID) (*segWriter, error) {
	if b.st.o.Admit != nil && !b.cold {
		if err := b.st.o.Admit(b.ctx); err != nil {
			return nil, err
		}
	}
	id, err := b.st.ids.next(false)
	if err != nil {
		return nil, err
	}
	key, err := b.st.keys.get(keyName{id, b.vol, b.version, b.cipher})
	if err != nil {
		return nil, err
	}
	w := &segWriter{b: b, id: id, key: key, want: b.class.Copies}
	if w.to, err = b.st.place(b.ctx, b.class.Copies, size, bad); err != nil {
		return nil, err
	}
	if w.to.spec.K > 0 {
		w.img = b.newGather()
	} else {
		w.start()
	}
	w.putHeader()
	return w, nil
}

// start opens the replicas. One that cannot be opened fails the segment only
// when it is finished, where another drive is tried.
func (w *segWriter) start() {
	name := SegmentName(w.id)
	for _, d := range w.to.drives {
		r := w.b.st.newReplica(w.b.ctx, d, name, 0, false)
		r.blocks = make(chan *block, maxBlocks)
		w.reps = append(w.reps, r)
		w.wg.Go(func() { r.run(w.b.ctx) })
	}
}

// run writes blocks until there are no more, then commits.
func (r *replica) run(ctx context.Context) {
	for blk := range r.blocks {
		<-blk.ready
		if r.err == nil {
			r.err = drive.Give(r.w, blk.buf.B[:blk.used], blk.release)
		} else {
			blk.release()
		}
		blk.taken()
	}
	r.finish(ctx, r.commit)
}

// finish makes what was written durable, or drops it.
func (r *replica) finish(ctx context.Context, commit bool) {
	switch {
	case r.w == nil:
	case r.err == nil && commit:
		if r.replace != "" {
			if err := r.d.Delete(ctx, r.replace); err != nil && !errors.Is(err, fsapi.NotExist) {
				r.err = err
				r.w.Abort()
				return
			}
		}
		r.err = r.w.Commit(ctx)
	default:
		r.w.Abort()
	}
}

// Write notes a failure instead of returning it: the other shards go on.
func (r *replica) Write(p []byte) (int, error) {
	if r.err == nil {
		_, r.err = r.w.Write(p)
	}
	return len(p), nil
}

func (w *segWriter) putHeader() {
	kind, lo, avg, hi := w.b.cut.Kind()
	w.head = segment.Header{
		ID: w.id, Volume: w.b.vol, Key: w.b.version, Cipher: w.b.cipher, Hash: segment.SHA256, Created: w.b.st.o.Clock.Now(),
		Chunker: kind, Min: uint32(lo), Avg: uint32(avg), Max: uint32(hi),
	}
	if w.b.hash.keyed {
		w.head.Hash = segment.HMACSHA256
	}
	p := w.bytes(segment.HeaderSize)
	w.head.Put(p)
	w.headCRC = binary.LittleEndian.Uint32(p[segment.HeaderSize-4:])
	w.blk.done()
}

// bytes reserves n bytes of the file. The block's done must follow.
func (w *segWriter) bytes(n int) []byte {
	if w.blk != nil {
		if p, ok := w.blk.reserve(n); ok {
			w.off += int64(n)
			return p
		}
		w.flush()
	}
	if w.img != nil {
		w.blk = newBlock(w.b.st.pool, nil, n, 0)
		w.gather = append(w.gather, w.blk)
		w.b.st.gathered.Add(int64(len(w.blk.buf.B)))
	} else {
		w.blk = newBlock(w.b.st.pool, w.b.out.tokens, n, len(w.reps))
	}
	p, _ := w.blk.reserve(n)
	w.off += int64(n)
	return p
}

// flush hands the block to the replicas.
func (w *segWriter) flush() {
	if w.blk == nil {
		return
	}
	w.blk.done()
	if w.img == nil {
		for _, r := range w.reps {
			r.blocks <- w.blk
		}
	}
	w.blk = nil
}

// reserve gives an item its place.
func (w *segWriter) reserve(it *item, n int) *slot {
	off := w.off
	p := w.bytes(n)
	it.loc = fsapi.Location{Segment: w.id, Offset: uint32(off), Length: uint32(n)}
	s := &slot{w: w, blk: w.blk, buf: p, index: uint32(len(w.entries))}
	w.entries = append(w.entries, segment.Entry{
		Chunk: it.id, Offset: uint32(off), Length: uint32(n), Len: uint32(len(it.data)), Ino: it.ino, FileOff: it.off,
	})
	w.items = append(w.items, it)
	if len(it.had) > 0 {
		w.want = fsapi.JoinCopies(w.want, it.had)
		w.had = fsapi.JoinCopies(w.had, it.had)
	}
	return s
}

// close writes directory and footer and lets the replicas commit. wait must
// follow.
func (w *segWriter) close() error {
	key, c, err := directoryKey(w.b.st.o.Keys, w.id)
	if err != nil {
		w.abort()
		return err
	}
	plain := make([]byte, len(w.entries)*segment.EntrySize)
	segment.PutDirectory(plain, w.entries)
	sealed := len(plain) + key.Overhead()
	f := segment.Footer{
		ID: w.id, DirOffset: uint32(w.off), DirLength: uint32(sealed), Frames: uint32(len(w.entries)),
		Size: uint32(w.off) + uint32(sealed) + segment.FooterSize, HeaderCRC: w.headCRC, Cipher: c,
	}
	var head [segment.HeaderSize]byte
	w.head.Put(head[:])
	p := w.bytes(sealed + segment.FooterSize)
	f.Put(p[sealed:])
	key.SealBytes(p[:sealed], 0, segment.Bound(head[:], p[sealed:]), plain)
	w.blk.done()
	w.end(true)
	return nil
}

// abort drops the segment.
func (w *segWriter) abort() { w.end(false) }

func (w *segWriter) end(commit bool) {
	if w.closed {
		return
	}
	w.closed = true
	w.flush()
	if w.img != nil {
		w.wg.Go(func() { w.shard(commit) })
		return
	}
	for _, r := range w.reps {
		r.commit = commit
		close(r.blocks)
	}
}

// newGather is the image of a segment that is being gathered. Where too much is
// gathered already the batch first waits for what it has under way itself: never
// for other batches, which may wait for the same caller. What the caller itself
// has placed is sealed before: the segments that are waited for may need it.
func (b *Batch) newGather() *image {
	if b.st.gathered.Load() > b.st.o.GatherBytes {
		b.sealAll(b.out.open)
		b.out.open = nil
		for _, w := range b.out.segs {
			w.wg.Wait()
		}
	}
	return &image{st: b.st}
}

// shard writes the gathered segment as shards.
func (w *segWriter) shard(commit bool) {
	held := int64(0)
	for _, blk := range w.gather {
		<-blk.ready
		w.img.append(blk.buf, blk.used)
		held += int64(len(blk.buf.B))
	}
	w.img.end = func() { w.b.st.gathered.Add(-held) }
	defer w.img.free()
	w.gather = nil
	if !commit || w.b.ctx.Err() != nil {
		return
	}
	w.reps = w.b.st.writeShards(w.b.ctx, w.id, w.img, w.to.spec, w.to.drives, nil, false)
}

// wait returns when the copy is durable on as many drives as it needs, or what
// kept it from that.
func (w *segWriter) wait() error {
	w.wg.Wait()
	var errs []error
	good := 0
	for _, r := range w.reps {
		switch {
		case r == nil: // a shard for which there was no drive
		case r.err != nil:
			w.b.st.stats.writeFails.Add(1)
			errs = append(errs, r.err)
		default:
			good++
		}
	}
	if good < w.to.spec.Need() {
		if len(errs) == 0 {
			errs = append(errs, closed("store data"))
		}
		return fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "write segment "+w.id.String())
	}
	for _, err := range errs {
		w.b.st.o.Log.Warn("a drive failed while a segment was written; what it should hold is owed", "segment", w.id, "err", err)
	}
	w.b.st.stats.segments.Add(1)
	w.b.st.stats.segmentBytes.Add(uint64(driveBytes(w.to.spec, w.off)) * uint64(good))
	return nil
}

// record is what is to be recorded of the segment.
func (w *segWriter) record() fsapi.Segment {
	last := w.entries[len(w.entries)-1]
	return fsapi.Segment{
		ID: w.id, Volume: w.b.vol, Size: w.off, Payload: int64(last.Offset+last.Length) - segment.HeaderSize,
		Frames: uint32(len(w.entries)), Created: w.head.Created,
		Want: slices.Clone(w.want), Copies: []fsapi.CopyPlace{placed(w.to.spec, w.reps)},
	}
}

// placed is a copy where those that did not fail left it.
func placed(spec policy.Copy, reps []*replica) fsapi.CopyPlace {
	p := fsapi.CopyPlace{Tier: spec.Tier, K: spec.K, M: spec.M}
	if spec.K > 0 {
		p.Drives = make([]fsapi.DriveID, spec.K+spec.M)
	}
	for i, r := range reps {
		switch {
		case r == nil || r.err != nil:
		case spec.K > 0:
			p.Drives[i] = r.d.Info().ID
		default:
			p.Drives = append(p.Drives, r.d.Info().ID)
		}
	}
	return p
}
