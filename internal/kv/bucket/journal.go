package bucket

import (
	"context"
	"errors"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
)

// journal is where the next object goes. One object is on its way at a time: the
// number after it is not used before it is known to be there, so that an object
// of another writer is met at the first number that he took.
type journal struct {
	epoch uint64 // does not change

	mu        sync.Mutex  // held while an object is written
	next      uint64      // guarded by mu
	unsure    *attempt    // on its way at next; nil: none; guarded by mu
	journaled kv.Position // the last batch in the journal; guarded by mu
	fences    []uint64    // numbers from the manifest's `from` on that begin an epoch; guarded by mu

	count struct {
		sync.Mutex
		bytes, objects int64 // since the last checkpoint
	}
}

func (j *journal) size() int64 {
	j.count.Lock()
	defer j.count.Unlock()
	return j.count.bytes
}

// add counts an object and says whether there is enough for a checkpoint.
func (j *journal) add(n int64, o *Options) bool {
	j.count.Lock()
	defer j.count.Unlock()
	j.count.bytes += n
	j.count.objects++
	return j.due(o)
}

func (j *journal) due(o *Options) bool {
	return j.count.bytes >= o.CheckpointBytes || j.count.objects >= o.CheckpointObjects
}

// prune forgets what came before number from.
func (j *journal) prune(from uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.fences) > 0 && j.fences[0] < from {
		j.fences = j.fences[1:]
	}
}

// drain puts batches up to seq into the journal, as far as they are not.
func (s *store) drain(ctx context.Context, seq kv.Seq) error {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	for s.journal.journaled.Seq < seq {
		if err := s.failure(); err != nil {
			return err
		}
		if s.journal.unsure == nil {
			p, ok := s.queue.take()
			if !ok {
				return fsapi.Errorf(fsapi.Corrupt, "kv: batch %d is neither in the journal nor on its way", seq)
			}
			s.journal.unsure = s.journal.attempt(s.remote, kindBatches, p.data)
			s.journal.unsure.piece = p
		}
		if err := s.settleJournal(ctx); err != nil {
			return err
		}
	}
	return nil
}

// attempt is an object for the next number. REQUIRES: mu held.
func (j *journal) attempt(r *remote, k kind, plain []byte) *attempt {
	h := header{kind: k, epoch: j.epoch, number: j.next, salt: r.newSalt()}
	return &attempt{key: journalKey(j.next), body: seal(r.key, h, plain), cond: object.IfAbsent()}
}

// settleJournal brings the object on its way into the journal, however often it
// takes. fsapi.Fenced: another writer has its number. REQUIRES: journal.mu held.
func (s *store) settleJournal(ctx context.Context) error {
	a := s.journal.unsure
	won, err := s.settle(ctx, a)
	switch {
	case err == nil && !won:
		return s.fail(s.fenced(a.key))
	case err != nil && final(err):
		return s.fail(err)
	case err != nil:
		return fsapi.Wrap(fsapi.KindOf(err), err, "kv: write the journal")
	}
	s.journal.unsure = nil
	s.journal.next++
	s.journal.journaled = a.piece.last
	s.queue.done(int64(len(a.piece.data)))
	if s.journal.add(int64(len(a.body)), &s.o) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// settle finds out what becomes of an attempt; after an error it is not known.
func (s *store) settle(ctx context.Context, a *attempt) (won bool, err error) {
	err = s.remote.insist(ctx, func(ctx context.Context) (err error) {
		_, won, err = s.remote.claim(ctx, a.key, a.body, a.cond)
		return err
	})
	if err == nil && won {
		s.claimed()
	}
	return won, err
}

// claimed notes that this writer was the lawful one just now.
func (s *store) claimed() { s.lastClaim.Store(s.o.Clock.Now().UnixNano()) }

func (s *store) fenced(key string) error {
	return fsapi.Errorf(fsapi.Fenced, "kv: %s: another writer has taken over (it made %s): this process refuses every further write; start it again to take over in turn", s.remote.Info().URL, key)
}

// record is one journal object, read.
type record struct {
	number uint64
	kind   kind
	epoch  uint64
	plain  []byte // encoded batches, or of a start the holder
	size   int64  // of the object
}

// readJournal reads the object of a number; ok is false where there is none.
func (r *remote) readJournal(ctx context.Context, n uint64) (rec record, ok bool, err error) {
	key := journalKey(n)
	h, plain, o, err := r.load(ctx, key, 64<<10)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return rec, false, nil
	case err != nil:
		return rec, false, err
	case h.number != n || h.kind != kindBatches && h.kind != kindStart:
		return rec, false, r.named(key, fsapi.Errorf(fsapi.Corrupt, "it is object %d of kind %d", h.number, h.kind))
	}
	return record{number: n, kind: h.kind, epoch: h.epoch, plain: plain, size: o.Size}, true, nil
}
