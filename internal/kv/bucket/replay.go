package bucket

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
)

// replayAhead is how many journal objects are read at a time.
const replayAhead = 16

// follow calls fn for the journal objects from number n on, in order, as far as
// there is no gap.
func (r *remote) follow(ctx context.Context, n uint64, fn func(record) error) error {
	known, err := r.listed(ctx, n)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer cancel()
	for flights := r.ahead(ctx, &reads, span(n, known)); ; n++ {
		var rec record
		var ok bool
		if f, more := <-flights; more {
			got := <-f
			rec, ok, err = got.rec, got.ok, got.err
		} else {
			rec, ok, err = r.readJournal(ctx, n)
		}
		if err != nil || !ok {
			return err
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// listed is the first number from n on of which the store lists no object.
func (r *remote) listed(ctx context.Context, n uint64) (uint64, error) {
	after := ""
	if n > 0 {
		after = journalKey(n - 1)
	}
	err := r.List(ctx, prefixJournal, after, func(o object.Object) error {
		if got, ok := parseJournal(o.Key); !ok || got != n {
			return errGap
		}
		n++
		return nil
	})
	if errors.Is(err, errGap) {
		err = nil
	}
	return n, err
}

var errGap = errors.New("gap")

// readAhead is an object on its way.
type readAhead struct {
	rec record
	ok  bool
	err error
}

// span is the numbers from..to-1.
func span(from, to uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for n := from; n < to && yield(n); n++ {
		}
	}
}

// ahead reads the objects of numbers, several at a time. What it starts ends with
// ctx, and is in reads.
func (r *remote) ahead(ctx context.Context, reads *sync.WaitGroup, numbers iter.Seq[uint64]) <-chan chan readAhead {
	flights := make(chan chan readAhead, replayAhead)
	reads.Go(func() {
		defer close(flights)
		for n := range numbers {
			f := make(chan readAhead, 1)
			select {
			case flights <- f:
			case <-ctx.Done():
				return
			}
			reads.Go(func() {
				rec, ok, err := r.readJournal(ctx, n)
				f <- readAhead{rec, ok, err}
			})
		}
	})
	return flights
}

// replay applies journal objects to tables that hold some of them.
type replay struct {
	s interface {
		Apply(c kv.Commit) error
		Admit(ctx context.Context) error
	}
	// last is the newest batch that is applied.
	last kv.Position
	// epoch of the last object; 0: there was none.
	epoch  uint64
	fences []uint64
	// batches are the newest ones applied, of at most limit bytes. limit 0: none.
	batches []kv.Batch
	sizes   []int64
	bytes   int64
	limit   int64
}

// take applies an object. Those of one writer follow the one that begins his
// epoch, and epochs grow; most is the reader's own, or the largest there may be.
func (r *replay) take(ctx context.Context, rec record, most uint64) error {
	switch {
	case rec.epoch > most:
		return fsapi.Errorf(fsapi.Fenced, "kv: another writer has taken over, with epoch %d after %d", rec.epoch, most)
	case rec.kind == kindStart && rec.epoch <= r.epoch, rec.kind == kindBatches && r.epoch != 0 && rec.epoch != r.epoch:
		return fsapi.Errorf(fsapi.Corrupt, "it is of epoch %d after objects of epoch %d", rec.epoch, r.epoch)
	}
	r.epoch = rec.epoch
	if rec.kind == kindStart {
		r.fences = append(r.fences, rec.number)
		return nil
	}
	return r.apply(ctx, rec.plain)
}

// apply applies batches, but for those that are applied already.
func (r *replay) apply(ctx context.Context, plain []byte) error {
	for len(plain) > 0 {
		c, rest, err := kv.DecodeCommit(plain)
		if err != nil {
			return err
		}
		enc := plain[:len(plain)-len(rest)]
		plain = rest
		if c.Seq <= r.last.Seq {
			continue
		}
		if c.Seq != r.last.Seq+1 {
			return fsapi.Errorf(fsapi.Corrupt, "it holds batch %d where %d should be", c.Seq, r.last.Seq+1)
		}
		if err := r.s.Admit(ctx); err != nil {
			return err
		}
		if err := r.s.Apply(c); err != nil {
			return err
		}
		r.last = kv.Position{Seq: c.Seq, Stamp: c.Stamp}
		if err := r.keep(enc); err != nil {
			return err
		}
	}
	return nil
}

// keep remembers a batch for tails.
func (r *replay) keep(enc []byte) error {
	if r.limit == 0 {
		return nil
	}
	b, _, err := kv.DecodeBatch(enc)
	if err != nil {
		return err
	}
	r.batches, r.sizes = append(r.batches, b), append(r.sizes, int64(len(enc)))
	for r.bytes += int64(len(enc)); r.bytes > r.limit && len(r.batches) > 1; {
		r.bytes -= r.sizes[0]
		r.batches[0] = kv.Batch{}
		r.batches, r.sizes = r.batches[1:], r.sizes[1:]
	}
	return nil
}
