package pebble

import (
	"iter"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// logged is a store whose log is Pebble's. Where that fails it opens the database
// anew. Then the readers of the one before go on with that one: it is frozen, and
// what is removed from under it stays until they have ended.
type logged struct {
	*store
	retired *database      // the one before cur, until it is closed; Recover only
	closing sync.WaitGroup // goroutines that close one
}

var (
	_ kv.Store     = (*logged)(nil)
	_ kv.Recoverer = (*logged)(nil)
)

// Recover implements kv.Recoverer. The directory holds what the log took before
// it failed. Opening it writes all of that into tables, so that nothing depends
// on the old log any more; what was not in it comes from the engine.
func (s *logged) Recover(missing func(after kv.Seq) iter.Seq2[kv.Commit, error]) error {
	old := s.cur.Load()
	old.guard.freeze()
	cause := old.guard.failure()
	if err := s.reap(cause); err != nil {
		return err
	}
	d, err := openDatabase(s.store, old)
	if err != nil {
		return err
	}
	n, err := d.replay(missing)
	if err != nil {
		d.discard()
		return err
	}
	s.cur.Store(d)
	s.retired = old
	old.retire()
	s.closing.Go(func() {
		_ = old.close() // it says why it was replaced
		d.guard.letGo()
	})
	s.o.Log.Warn("metadata store: the log failed and was begun anew; nothing is lost", "dir", s.o.Dir, "cause", cause, "batches written again", n)
	return nil
}

// reap waits for the database that an earlier Recover retired to be closed, so
// that the memory of no more than two is held. It does not wait for readers.
func (s *logged) reap(cause error) error {
	if s.retired == nil {
		return nil
	}
	select {
	case <-s.retired.idle:
		<-s.retired.ended
		s.retired = nil
		return nil
	default:
		return fsapi.Wrap(errKind(cause), cause, "kv: "+s.o.Dir+" failed again while something is read that was begun before the last failure; it goes on when that ends")
	}
}

// Close implements kv.Store.
func (s *logged) Close() error {
	s.closing.Wait()
	return s.store.Close()
}
