package checkpoint

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/kv"
)

// blockBytes is how much of a checkpoint is sealed at a time.
const blockBytes = 1 << 20

// due reports whether a checkpoint should be made: writing one costs its size,
// so it is not made before as many bytes of groups have come. REQUIRES busy.
func (s *Shipper) due() bool {
	return s.resumed && (s.base == nil || s.base.last < s.renew || s.since >= max(s.o.CheckpointBytes, s.size))
}

// checkpoint makes a checkpoint if one is due: it writes it to every drive
// that is up, reads each back, and then removes what it replaces. Groups go on
// being written beside it.
func (s *Shipper) checkpoint(ctx context.Context) error {
	if err := lock(ctx, s.making); err != nil {
		return err
	}
	defer unlock(s.making)
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	due, epoch, drives := s.due(), s.epoch, s.targets()
	unlock(s.busy)
	if !due {
		return nil
	}
	s.setMaking(true)
	defer s.setMaking(false)
	m, err := s.write(ctx, epoch, drives)
	if err != nil {
		return err
	}
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	defer unlock(s.busy)
	defer s.report(nil)
	return s.install(ctx, m)
}

// targets are the drives that take part: also those that are behind, as a
// checkpoint needs nothing of what they lack. REQUIRES busy.
func (s *Shipper) targets() []drive.Drive {
	s.refresh()
	var list []drive.Drive
	for _, p := range s.sorted() {
		list = append(list, p.d)
	}
	return list
}

func (s *Shipper) setMaking(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Making = on
}

// made is a checkpoint that was written.
type made struct {
	object
	stamp  clock.Stamp
	size   int64
	drives []drive.Drive
	errs   []error // by drive; nil where it is there and verifies
}

// write writes a checkpoint of the engine as it is now, and verifies it. The
// error is the engine's; those of drives are in the result.
func (s *Shipper) write(ctx context.Context, epoch uint64, drives []drive.Drive) (m *made, err error) {
	snap, err := s.o.Engine.Snapshot()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	// What a crash of the engine would take back must not be on the drives.
	if err := s.o.Engine.Sync(ctx); err != nil {
		return nil, err
	}
	m = &made{object: object{kindCheckpoint, epoch, snap.Seq(), snap.Seq()}, stamp: snap.Stamp(), drives: drives}
	f := s.newFan(ctx, m)
	defer f.stop()
	h := newHeader(m.object, snap.Stamp())
	if err := dump(snap, newSealer(s.o.Key, &h), h.stamp, s.o.IsCounter, func(b []byte) error { return f.write(ctx, b) }); err != nil {
		return nil, err
	}
	f.end()
	return m, nil
}

// dump writes all that a snapshot holds as the blocks of a checkpoint, in
// bounded memory.
func dump(snap kv.Snapshot, seal *sealer, stamp clock.Stamp, isCounter func([]byte) bool, write func([]byte) error) error {
	d := dumper{seal: seal, write: write, batch: kv.Batch{Seq: snap.Seq(), Stamp: stamp}}
	d.arena = make([]byte, 0, blockBytes)
	err := snap.Scan(nil, nil, func(key, value []byte) (bool, error) {
		err := d.add(key, value, isCounter(key))
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return d.flush(true)
}

// dumper gathers keys and values until they make a block.
type dumper struct {
	seal  *sealer
	write func([]byte) error
	batch kv.Batch
	arena []byte // backs the batch's keys and values
	plain []byte // scratch
	blob  []byte // scratch
}

func (d *dumper) add(key, value []byte, counter bool) error {
	if need := len(key) + len(value); need > cap(d.arena)-len(d.arena) {
		if err := d.flush(false); err != nil {
			return err
		}
		if need > cap(d.arena) {
			d.arena = make([]byte, 0, need)
		}
	}
	op := kv.Op{Kind: kv.OpPut, Key: d.keep(key)}
	if counter {
		op.Kind, op.Delta = kv.OpAdd, kv.DecodeCounter(value)
	} else {
		op.Value = d.keep(value)
	}
	d.batch.Ops = append(d.batch.Ops, op)
	return nil
}

// keep copies b into the arena, which has room.
func (d *dumper) keep(b []byte) []byte {
	n := len(d.arena)
	d.arena = append(d.arena, b...)
	return d.arena[n:len(d.arena):len(d.arena)]
}

func (d *dumper) flush(final bool) error {
	if len(d.batch.Ops) == 0 && !final {
		return nil
	}
	d.plain = kv.AppendBatch(d.plain[:0], d.batch)
	d.blob = d.seal.appendBlock(d.blob[:0], d.plain, final)
	d.batch.Ops, d.arena = d.batch.Ops[:0], d.arena[:0]
	if cap(d.arena) > blockBytes { // it held one that is larger
		d.arena = make([]byte, 0, blockBytes)
	}
	return d.write(d.blob)
}

// install makes a checkpoint the base of the log and removes what it replaces.
// REQUIRES busy.
func (s *Shipper) install(ctx context.Context, m *made) error {
	var errs []error
	good := 0
	for i, d := range m.drives {
		switch p := s.places[d.Info().ID]; {
		case p == nil || p.d != d: // gone
		case m.errs[i] != nil:
			p.failed(m.errs[i])
			errs = append(errs, m.errs[i])
		default:
			good++
			p.err, p.retry = nil, time.Time{}
		}
	}
	switch {
	case good == 0:
		return none(errs)
	case m.epoch != s.epoch || m.last < s.gap:
		return nil // batches after it were missed meanwhile: it is of no use
	}
	s.adopt(m)
	for _, p := range s.places { // those that lack it get it from the others
		p.behind = true
	}
	s.catchUp(ctx)
	s.o.Log.Info("metadata checkpoint", "batch", uint64(m.last), "bytes", m.size, "drives", good)
	return nil
}

// adopt sets the base and drops the groups before it. REQUIRES busy.
func (s *Shipper) adopt(m *made) {
	s.pass(m.last)
	s.base, s.size, s.baseStamp = &m.object, m.size, m.stamp
	if m.last >= s.renew && s.renew > 0 {
		s.floor = s.base
	}
	s.groups = slices.DeleteFunc(s.groups, func(g group) bool { return g.last <= m.last })
	s.open = slices.DeleteFunc(s.open, func(p piece) bool { return p.last <= m.last })
	s.since = 0
	for _, g := range s.groups {
		s.since += g.size
	}
	if s.pend.last <= m.last {
		s.pend = piece{}
	}
	s.last = max(s.last, m.last)
}

// pass lets the places know of what becomes the past with a checkpoint at seq,
// which they otherwise would read for its stamp. REQUIRES busy.
func (s *Shipper) pass(seq kv.Seq) {
	for _, p := range s.places {
		if p.held == nil {
			p.held = map[object]holding{}
		}
		if s.base != nil {
			p.held[*s.base] = holding{stamp: s.baseStamp, size: s.size}
		}
		for _, g := range s.groups {
			if g.last <= seq && g.stamp != 0 {
				p.held[g.object] = holding{stamp: g.stamp, size: g.size}
			}
		}
	}
}
