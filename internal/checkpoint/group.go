package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// shipped is the newest batch in a group. REQUIRES busy.
func (s *Shipper) shipped() kv.Seq {
	if len(s.pend.data) > 0 {
		return s.pend.first - 1
	}
	return s.last
}

// tend looks after the drives: it brings those that are behind up, renews the
// copies of the keyring, and removes what is too old. It makes no group: a drive
// is brought up to a log that stands, and would be behind again with each.
// REQUIRES busy.
func (s *Shipper) tend(ctx context.Context) {
	s.refresh()
	s.catchUp(ctx)
	s.syncKeyrings(ctx)
	s.expire(ctx)
}

// ship tends, and makes a group of the pending batches, on every drive that takes
// it. It fails where no drive takes the group; the batches stay pending then.
// REQUIRES busy.
//
// The keyring goes first: a group may speak of a volume whose keys it holds.
func (s *Shipper) ship(ctx context.Context) error {
	s.tend(ctx)
	if len(s.pend.data) == 0 {
		return nil
	}
	// What a crash of the engine would take back must not be on the drives.
	if err := s.o.Engine.Sync(ctx); err != nil {
		return err
	}
	whole, merged := s.merge()
	o := object{kindGroup, s.epoch, whole.first, whole.last}
	blob := s.seal(o, whole)
	good := s.tryAll(ctx, s.up(), func(ctx context.Context, p *place) error { return s.put(ctx, p.d, o, whole.stamp, blob) })
	if len(good) == 0 {
		return s.nowhere()
	}
	s.settle(ctx, good, o, whole, merged, int64(len(blob)))
	return nil
}

// nowhere is the error of a group that no drive took.
func (s *Shipper) nowhere() error {
	var errs []error
	for _, p := range s.sorted() {
		errs = append(errs, p.err)
	}
	if err := errors.Join(errs...); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "no drive takes the metadata")
	}
	return fsapi.Errorf(fsapi.NoSpace, "no drive is there to take the metadata")
}

// syncKeyrings renews the copies of the keyring. REQUIRES busy.
func (s *Shipper) syncKeyrings(ctx context.Context) {
	if s.o.Keyring == nil {
		return
	}
	now := s.o.Keyring()
	old := slices.DeleteFunc(s.up(), func(p *place) bool { return p.keyring == string(now) })
	for _, p := range old {
		p.keyring = ""
	}
	for _, p := range s.tryAll(ctx, old, func(ctx context.Context, p *place) error { return p.d.Replace(ctx, nameKeyring, now) }) {
		p.keyring = string(now)
	}
}

// expiryEvery is between two removals of what of the past has become too old,
// beside those at each checkpoint.
const expiryEvery = time.Hour

// expire removes what of the past is not kept any longer. REQUIRES busy.
func (s *Shipper) expire(ctx context.Context) {
	now := time.Now()
	if s.base == nil || now.Before(s.expiry) {
		return
	}
	s.expiry = now.Add(expiryEvery)
	keep := s.retention()
	names := map[*place][]string{}
	var list []*place
	for _, p := range s.up() {
		for _, o := range keep.surplus(p.held) {
			names[p] = append(names[p], o.name())
			delete(p.held, o)
		}
		if len(names[p]) > 0 {
			list = append(list, p)
		}
	}
	s.tryAll(ctx, list, func(ctx context.Context, p *place) error { return drive.DeleteMany(ctx, p.d, names[p]) })
}

// merge joins the pending batches with the newest groups that are no larger,
// so that however few batches come at a time, the number of groups grows with
// the logarithm of their bytes only, and each byte is written as many times.
// REQUIRES busy.
func (s *Shipper) merge() (whole piece, merged int) {
	total := len(s.pend.data)
	for merged < len(s.open) && len(s.open[len(s.open)-1-merged].data) <= total {
		merged++
		total += len(s.open[len(s.open)-merged].data)
	}
	if merged == 0 {
		return s.pend, 0
	}
	parts := append(s.open[len(s.open)-merged:len(s.open):len(s.open)], s.pend)
	whole = piece{first: parts[0].first, last: s.pend.last, stamp: s.pend.stamp, data: make([]byte, 0, total)}
	for _, p := range parts {
		whole.data = append(whole.data, p.data...)
	}
	return whole, merged
}

// settle takes note of a group that is on drives, and removes those that were
// merged into it. REQUIRES busy.
func (s *Shipper) settle(ctx context.Context, good []*place, o object, whole piece, merged int, size int64) {
	n := len(s.groups) - merged
	var names []string
	for _, g := range s.groups[n:] {
		names = append(names, g.name())
		s.since -= g.size
	}
	s.groups = append(s.groups[:n], group{o, size, whole.stamp})
	s.open = append(s.open[:len(s.open)-merged], whole)
	s.since += size
	if int64(len(whole.data)) >= s.o.GroupBytes {
		s.open = nil
		if cap(s.pend.data) <= 4*int(s.o.GroupBytes) {
			s.spare = s.pend.data[:0]
		}
	}
	s.pend = piece{}
	for _, p := range s.tryAll(ctx, good, func(ctx context.Context, p *place) error { return drive.DeleteMany(ctx, p.d, names) }) {
		p.seq = s.last
		p.healed()
	}
}

// seal makes the bytes of a group.
func (s *Shipper) seal(o object, p piece) []byte {
	h := newHeader(o, p.stamp)
	w := newSealer(s.o.Key, &h)
	w.packed = s.packed
	blob := w.appendBlock(make([]byte, 0, headerLen+blockHeader+len(p.data)+len(p.data)/16+1024), p.data, true)
	if s.packed = w.packed; cap(s.packed) > 8*int(s.o.GroupBytes) {
		s.packed = nil
	}
	return blob
}

func newHeader(o object, stamp clock.Stamp) header {
	h := header{object: o, stamp: stamp}
	rand.Read(h.salt[:])
	return h
}

// put writes a blob to a drive. Where a former attempt left one of the same
// name, it is as good if it verifies: the name fixes what is in it, but where a copy
// of the store wrote it, with another stamp.
func (s *Shipper) put(ctx context.Context, d drive.Drive, o object, stamp clock.Stamp, blob []byte) error {
	err := create(ctx, d, o, blob)
	if !errors.Is(err, fsapi.Exist) {
		return err
	}
	if r, err := open(ctx, d, o, s.o.Key); err == nil && r.stamp == stamp && r.batches(ctx, func(kv.Batch) error { return nil }) == nil {
		return nil
	}
	if err := drive.DeleteMany(ctx, d, []string{o.name()}); err != nil {
		return err
	}
	return create(ctx, d, o, blob)
}

func create(ctx context.Context, d drive.Drive, o object, blob []byte) error {
	w, err := d.Create(ctx, o.name(), int64(len(blob)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(blob); err != nil {
		return err
	}
	return w.Commit(ctx)
}
