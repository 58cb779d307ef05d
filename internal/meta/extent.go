package meta

import (
	"bytes"
	"math"

	"github.com/strakefs/strake/internal/fsapi"
)

func putLoc(b []byte, l fsapi.Location) []byte {
	return putUint(putUint(append(b, l.Segment[:]...), uint64(l.Offset)), uint64(l.Length))
}

func (d *dec) loc() (l fsapi.Location) {
	copy(l.Segment[:], d.take(len(l.Segment)))
	l.Offset, l.Length = d.u32(), d.u32()
	return l
}

// appendExtent writes an extent's value; its end is in the key.
func appendExtent(b []byte, e *fsapi.Extent) []byte {
	b = putUint(append(b, byte(e.Kind)), uint64(e.Len))
	switch e.Kind {
	case fsapi.ExtentData:
		b = putUint(putUint(append(b, e.Chunk[:]...), uint64(e.ChunkOff)), uint64(e.ChunkLen))
		b = putLoc(b, e.Loc)
	case fsapi.ExtentInline:
		b = putUint(putUint(append(b, e.Chunk[:]...), uint64(e.ChunkOff)), uint64(e.ChunkLen))
		b = append(b, e.Inline...)
	}
	return b
}

const extentKeyLen = inoKeyLen + 8

// decodeExtent reads an extent; Inline aliases v.
func decodeExtent(key, v []byte) (fsapi.Extent, error) {
	var e fsapi.Extent
	if len(key) != extentKeyLen {
		return e, corrupt(key, "bad key")
	}
	end := keyU64(key, inoKeyLen)
	d := dec{b: v}
	e.Kind = fsapi.ExtentKind(d.byte())
	e.Len = d.size()
	switch e.Kind {
	case fsapi.ExtentData, fsapi.ExtentInline:
		copy(e.Chunk[:], d.take(len(e.Chunk)))
		e.ChunkOff, e.ChunkLen = d.u32(), d.u32()
		if int64(e.ChunkOff)+e.Len > int64(e.ChunkLen) {
			return e, corrupt(key, "extent beyond its chunk")
		}
		if e.Kind == fsapi.ExtentInline {
			e.Inline = d.rest()
		} else {
			e.Loc = d.loc()
		}
	case fsapi.ExtentUnwritten:
	default:
		return e, corrupt(key, "unknown kind of extent")
	}
	if !d.done() || e.Len == 0 || end > fsapi.MaxFileSize || e.Len > int64(end) {
		return e, corrupt(key, "bad extent")
	}
	e.Off = int64(end) - e.Len
	return e, nil
}

// part is the bytes [off, end) of e, which must lie within it.
func part(e fsapi.Extent, off, end int64) fsapi.Extent {
	if e.Kind != fsapi.ExtentUnwritten {
		e.ChunkOff += uint32(off - e.Off)
	}
	e.Off, e.Len = off, end-off
	return e
}

// scanExtents calls fn for the extents that overlap [off, end), ascending.
// Inline aliases what is valid during the call only. Nobody changes extents
// without writing the inode, so a transaction that read the inode with
// tracking may peek at them.
func (tx *Tx) scanExtents(ino fsapi.Ino, off, end int64, peek bool, fn func(e *fsapi.Extent) (bool, error)) error {
	tx.key = extentKey(tx.key, tx.vol, ino, off+1)
	tx.end = inoKey(tx.end, tabExtent, tx.vol, ino)
	tx.end = after(nil, tx.end)
	scan := tx.r.Scan
	if peek {
		scan = tx.peekScan
	}
	return scan(tx.key, tx.end, func(k, v []byte) (bool, error) {
		e, err := decodeExtent(k, v)
		if err != nil || e.Off >= end {
			return false, err
		}
		more, err := fn(&e)
		// The one that reaches the end is the last. Looking for another would
		// pass over every older version of its key that is still in memory.
		return more && e.End() < end, err
	})
}

func checkRange(off, end int64) error {
	if off < 0 || end < off || end > fsapi.MaxFileSize {
		return fsapi.Errorf(fsapi.FileTooBig, "range %d to %d is not within 0 to %d", off, end, int64(fsapi.MaxFileSize))
	}
	return nil
}

// Extents returns up to limit extents of a file that overlap [off, end),
// ascending, whole: the first and last may reach beyond the range. The slices
// are the caller's.
func (tx *Tx) Extents(ino fsapi.Ino, off, end int64, limit int) ([]fsapi.Extent, error) {
	if limit <= 0 || off < 0 || end <= off {
		return nil, nil
	}
	var list []fsapi.Extent
	err := tx.scanExtents(ino, off, end, false, func(e *fsapi.Extent) (bool, error) {
		if list == nil {
			list = make([]fsapi.Extent, 0, min(limit, 8))
		}
		list = append(list, *e)
		list[len(list)-1].Inline = bytes.Clone(e.Inline)
		return len(list) < limit, nil
	})
	return list, err
}

// collect appends the extents that overlap [off, end) to tx.olds, up to limit
// (0: all), and says whether these are all.
func (tx *Tx) collect(ino fsapi.Ino, off, end int64, limit int) (list []fsapi.Extent, all bool, err error) {
	list, all = tx.olds[:0], true
	err = tx.scanExtents(ino, off, end, true, func(e *fsapi.Extent) (bool, error) {
		if limit > 0 && len(list) == limit {
			all = false
			return false, nil
		}
		list = append(list, *e)
		list[len(list)-1].Inline = bytes.Clone(e.Inline)
		return true, nil
	})
	tx.olds = list
	return list, all, err
}

// extentsAfter collects up to limit extents that end above off.
func (tx *Tx) extentsAfter(ino fsapi.Ino, off int64, limit int) ([]fsapi.Extent, bool, error) {
	return tx.collect(ino, off, math.MaxInt64, limit)
}

// cut removes what extents hold in [off, end), keeping what lies outside, and
// returns how many bytes that was.
func (tx *Tx) cut(ino fsapi.Ino, olds []fsapi.Extent, off, end int64) (removed int64) {
	for i := range olds {
		e := &olds[i]
		refs := int64(-1)
		removed += min(e.End(), end) - max(e.Off, off)
		if e.Off < off {
			left := part(*e, e.Off, off)
			tx.putExtent(ino, &left)
			refs++
		}
		if e.End() > end {
			right := part(*e, end, e.End())
			tx.putExtent(ino, &right)
			refs++
		} else {
			tx.key = extentKey(tx.key, tx.vol, ino, e.End())
			tx.w.Delete(tx.key)
		}
		tx.refer(e, refs)
	}
	return removed
}

func (tx *Tx) putExtent(ino fsapi.Ino, e *fsapi.Extent) {
	tx.raiseTop(ino, e.End())
	tx.key = extentKey(tx.key, tx.vol, ino, e.End())
	tx.val = appendExtent(tx.val[:0], e)
	tx.w.Put(tx.key, tx.val)
}

// SetExtents replaces what [off, end) of a file holds by ext (within the
// range, ascending, not overlapping; none: a hole), splitting extents at the
// edges, keeping references, Used and usage. Each data extent's chunk must be
// recorded already or now, else fsapi.Conflict names a chunk that is not (it
// was swept since it was found as a duplicate; store it anew); the stored
// location hint is where the chunk lies now. fsapi.Quota. in.Used and
// in.Change are updated in place and stored; in.Size and the times are the
// caller's. A transaction can replace some 200,000 extents (kv.MaxBatch): to
// empty a range that may hold more, do it in parts that end where an extent
// that Extents returned ends.
func (tx *Tx) SetExtents(in *Inode, off, end int64, ext []fsapi.Extent) error {
	if err := tx.writable(); err != nil {
		return err
	}
	added, err := checkExtents(in, off, end, ext)
	if err != nil {
		return err
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	olds, err := tx.replaced(in, off, end)
	if err != nil {
		return err
	}
	grow := added
	for i := range olds {
		grow -= min(olds[i].End(), end) - max(olds[i].Off, off)
	}
	if err := tx.affordUsed(in, grow); err != nil {
		return err
	}
	tx.cut(in.Ino, olds, off, end)
	for i := range ext {
		if err := tx.addExtent(in.Ino, ext[i]); err != nil {
			return err
		}
	}
	return tx.grow(in, grow)
}

// replaced collects the extents that overlap [off, end).
func (tx *Tx) replaced(in *Inode, off, end int64) ([]fsapi.Extent, error) {
	if in.Used == 0 {
		return nil, nil
	}
	if above, err := tx.above(in, off); above || err != nil {
		return nil, err
	}
	olds, _, err := tx.collect(in.Ino, off, end, 0)
	return olds, err
}

// checkExtents returns how many bytes ext covers.
func checkExtents(in *Inode, off, end int64, ext []fsapi.Extent) (covered int64, err error) {
	if in.Type != fsapi.TypeRegular {
		return 0, fsapi.Errorf(fsapi.Invalid, "inode %d is no regular file and has no extents", in.Ino)
	}
	if err := checkRange(off, end); err != nil {
		return 0, err
	}
	at := off
	for i := range ext {
		e := &ext[i]
		switch {
		case e.Len <= 0 || e.Off < at || e.End() > end:
			return 0, fsapi.Errorf(fsapi.Invalid, "extent %d to %d is out of order or not within %d to %d", e.Off, e.End(), off, end)
		case e.Kind == fsapi.ExtentInline && (len(e.Inline) == 0 || int64(e.ChunkOff)+e.Len > int64(e.ChunkLen)):
			return 0, fsapi.Errorf(fsapi.Invalid, "inline extent at %d is longer than its bytes", e.Off)
		case e.Kind < fsapi.ExtentData || e.Kind > fsapi.ExtentUnwritten:
			return 0, fsapi.Errorf(fsapi.Invalid, "%d is no kind of extent", e.Kind)
		}
		at = e.End()
		covered += e.Len
	}
	return covered, nil
}

// addExtent puts a new extent and refers to its chunk.
func (tx *Tx) addExtent(ino fsapi.Ino, e fsapi.Extent) error {
	if e.Kind == fsapi.ExtentData {
		c, ok, err := tx.chunk(&e.Chunk)
		switch {
		case err != nil:
			return err
		case !ok:
			return fsapi.Errorf(fsapi.Conflict, "chunk %s is not recorded; store it anew", e.Chunk)
		case int64(e.ChunkOff)+e.Len > int64(c.Len):
			return fsapi.Errorf(fsapi.Invalid, "extent at %d reaches beyond chunk %s of %d bytes", e.Off, e.Chunk, c.Len)
		}
		e.ChunkLen, e.Loc = c.Len, c.Loc
		tx.refer(&e, 1)
	}
	tx.putExtent(ino, &e)
	return nil
}

// affordUsed asks whether the quotas admit that a file grows.
func (tx *Tx) affordUsed(in *Inode, bytes int64) error {
	if bytes <= 0 {
		return nil
	}
	if err := tx.affordVolume(bytes, 0); err != nil || in.Nlink == 0 {
		return err
	}
	return tx.affordDir(in.Parent, bytes, 0)
}

// grow changes Used of a file and what counts it, and stores the file.
func (tx *Tx) grow(in *Inode, bytes int64) error {
	in.Used += bytes
	in.Change++
	tx.store(in)
	tx.chargeVolume(bytes, 0)
	if in.Nlink == 0 {
		return nil
	}
	return tx.chargeDir(in.Parent, bytes, 0)
}

// TruncateExtents removes up to limit extents at the end of a file down to size,
// highest first, and returns the offset above which nothing is left: size when
// done. It keeps Used, usage and Change; in.Size is the caller's.
func (tx *Tx) TruncateExtents(in *Inode, size int64, limit int) (int64, error) {
	if err := tx.writable(); err != nil {
		return 0, err
	}
	if err := checkRange(size, size); err != nil {
		return 0, err
	}
	if err := tx.Mutable(in); err != nil {
		return 0, err
	}
	olds, last, err := tx.lastExtents(in.Ino, size, min(max(limit, 1), 1<<30))
	if err != nil || len(olds) == 0 {
		return size, err
	}
	down := size
	if !last {
		down = max(olds[0].Off, size)
	}
	removed := tx.cut(in.Ino, olds, down, math.MaxInt64)
	return down, tx.grow(in, -removed)
}

// lastExtents finds the up to n highest extents that end above size, and says
// whether these are all. Keys can be read upwards only, so it looks for an
// offset above which there are at most 2 n by halving.
func (tx *Tx) lastExtents(ino fsapi.Ino, size int64, n int) (list []fsapi.Extent, all bool, err error) {
	// Some extent ends above floor, unless it is size; none above ceiling.
	floor, ceiling := size, int64(fsapi.MaxFileSize)
	for at := size; ; at = floor + (ceiling-floor)/2 {
		list, all, err := tx.extentsAfter(ino, at, 2*n)
		switch {
		case err != nil:
			return nil, false, err
		case !all:
			floor = list[len(list)-1].End()
		case len(list) == 0 && at > floor:
			ceiling = at
		case len(list) > n:
			return list[len(list)-n:], false, nil
		default:
			return list, at == size, nil
		}
	}
}

// shiftMax bounds the extents one transaction moves.
const shiftMax = 1 << 17

// ShiftExtents moves all extents at or after off by delta bytes
// (FALLOC_FL_COLLAPSE_RANGE, INSERT_RANGE), splitting one that straddles off.
// A collapsed range must be a hole already: fsapi.Invalid. A file with more
// than 131,072 extents there is fsapi.TooBig.
func (tx *Tx) ShiftExtents(in *Inode, off, delta int64) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := checkRange(min(off, off+delta), max(off, off+delta)); err != nil {
		return err
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	if delta < 0 {
		olds, _, err := tx.collect(in.Ino, off+delta, off, 1)
		if err != nil {
			return err
		}
		if len(olds) > 0 {
			return fsapi.Errorf(fsapi.Invalid, "inode %d: %d to %d is not a hole", in.Ino, off+delta, off)
		}
	}
	olds, all, err := tx.extentsAfter(in.Ino, off, shiftMax)
	switch {
	case err != nil || len(olds) == 0:
		return err
	case !all:
		return fsapi.Errorf(fsapi.TooBig, "inode %d has more than %d extents after %d to move", in.Ino, shiftMax, off)
	case olds[len(olds)-1].End() > fsapi.MaxFileSize-delta:
		return fsapi.Errorf(fsapi.FileTooBig, "inode %d would reach beyond %d", in.Ino, int64(fsapi.MaxFileSize))
	}
	return tx.shift(in, olds, off, delta)
}

func (tx *Tx) shift(in *Inode, olds []fsapi.Extent, off, delta int64) error {
	for i := range olds {
		tx.key = extentKey(tx.key, tx.vol, in.Ino, olds[i].End())
		tx.w.Delete(tx.key)
	}
	if e := &olds[0]; e.Off < off {
		left := part(*e, e.Off, off)
		tx.putExtent(in.Ino, &left)
		*e = part(*e, off, e.End())
		tx.refer(e, 1)
	}
	for i := range olds {
		olds[i].Off += delta
		tx.putExtent(in.Ino, &olds[i])
	}
	return tx.grow(in, 0)
}

// NextData is SEEK_DATA over stored extents within [off, end): end where there
// is none. Unwritten extents are holes.
func (tx *Tx) NextData(ino fsapi.Ino, off, end int64) (int64, error) {
	found := end
	err := tx.scanExtents(ino, off, end, false, func(e *fsapi.Extent) (bool, error) {
		if e.Kind == fsapi.ExtentUnwritten {
			return true, nil
		}
		found = min(max(e.Off, off), end)
		return false, nil
	})
	return found, err
}

// NextHole is SEEK_HOLE over stored extents within [off, end): end where there
// is none. Unwritten extents are holes.
func (tx *Tx) NextHole(ino fsapi.Ino, off, end int64) (int64, error) {
	at := off
	err := tx.scanExtents(ino, off, end, false, func(e *fsapi.Extent) (bool, error) {
		if e.Kind == fsapi.ExtentUnwritten || e.Off > at {
			return false, nil
		}
		at = e.End()
		return true, nil
	})
	return min(at, end), err
}
