package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/blob/frame"
	"github.com/strakefs/strake/internal/blob/segment"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// segWriter streams one segment to its replicas. reserve and close are called
// by whoever has the batch's turn.
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
	copies  []fsapi.CopyPlace
	reps    []*replica
	wg      sync.WaitGroup // of the replicas' goroutines
	closed  bool
}

// replica is one drive to which a segment is being written, by a goroutine of
// its own: so a slow drive delays the others by at most maxBlocks.
type replica struct {
	d      drive.Drive
	w      drive.Writer // nil where Create failed
	blocks chan *block
	commit bool // set before blocks is closed
	err    error
}

// beginSegment chooses drives, leaving out bad ones, and starts a segment.
func (b *Batch) beginSegment(size int64, bad map[fsapi.DriveID]bool) (*segWriter, error) {
	id, err := b.st.ids.next(false)
	if err != nil {
		return nil, err
	}
	key, err := b.st.keys.get(keyName{id, b.vol, b.version, b.cipher})
	if err != nil {
		return nil, err
	}
	w := &segWriter{b: b, id: id, key: key}
	drives, err := w.choose(size, bad)
	if err != nil {
		return nil, err
	}
	w.start(drives)
	w.putHeader()
	return w, nil
}

// choose picks drives for every copy.
func (w *segWriter) choose(size int64, bad map[fsapi.DriveID]bool) ([]drive.Drive, error) {
	var all []drive.Drive
	for _, c := range w.b.class.Copies {
		ds, err := w.b.st.place(w.b.ctx, c, size, bad)
		if err != nil {
			return nil, err
		}
		p := fsapi.CopyPlace{Tier: c.Tier}
		for _, d := range ds {
			p.Drives = append(p.Drives, d.Info().ID)
		}
		w.copies, all = append(w.copies, p), append(all, ds...)
	}
	return all, nil
}

// start opens the replicas. One that cannot be opened fails the segment only
// when it is finished, where another drive is tried.
func (w *segWriter) start(drives []drive.Drive) {
	name := SegmentName(w.id)
	for _, d := range drives {
		r := &replica{d: d, blocks: make(chan *block, maxBlocks)}
		r.w, r.err = d.Create(w.b.ctx, name, 0)
		w.reps = append(w.reps, r)
		w.wg.Go(func() { r.run(w.b.ctx) })
	}
}

// run writes blocks until there are no more, then commits.
func (r *replica) run(ctx context.Context) {
	for blk := range r.blocks {
		<-blk.ready
		if r.err == nil {
			_, r.err = r.w.Write(blk.buf.B[:blk.used])
		}
		blk.release()
	}
	switch {
	case r.w == nil:
	case r.err == nil && r.commit:
		r.err = r.w.Commit(ctx)
	default:
		r.w.Abort()
	}
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
	w.blk = newBlock(w.b.st.pool, w.b.out.tokens, n, len(w.reps))
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
	for _, r := range w.reps {
		r.blocks <- w.blk
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
	for _, r := range w.reps {
		r.commit = commit
		close(r.blocks)
	}
}

// wait returns when every replica is durable, or which are not.
func (w *segWriter) wait() error {
	w.wg.Wait()
	var errs []error
	for _, r := range w.reps {
		if r.err != nil {
			w.b.st.stats.writeFails.Add(1)
			errs = append(errs, r.err)
		}
	}
	if len(errs) == 0 {
		w.b.st.stats.segments.Add(1)
		w.b.st.stats.segmentBytes.Add(uint64(w.off) * uint64(len(w.reps)))
		return nil
	}
	return fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "write segment "+w.id.String())
}

// record is what is to be recorded of the segment.
func (w *segWriter) record() fsapi.Segment {
	last := w.entries[len(w.entries)-1]
	return fsapi.Segment{
		ID: w.id, Volume: w.b.vol, Size: w.off, Payload: int64(last.Offset+last.Length) - segment.HeaderSize,
		Frames: uint32(len(w.entries)), Created: w.head.Created, Copies: w.copies,
	}
}
