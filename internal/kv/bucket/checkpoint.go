package bucket

import (
	"context"
	"errors"
	"io"
	"path"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// worthwhile is how many journal objects make it worth a checkpoint at the end of
// an engine: fewer are read faster than a checkpoint is written.
const worthwhile = 8

// checkpoints makes checkpoints when there is enough journal, until the end.
func (s *store) checkpoints() {
	for failures := 0; ; {
		if failures == 0 {
			select {
			case <-s.wake:
			case <-s.bg.Done():
				return
			}
		} else {
			select {
			case <-s.o.Clock.After(s.remote.waits.Wait(failures)):
			case <-s.bg.Done():
				return
			}
		}
		failures++
		err := s.checkpoint(s.bg)
		switch {
		case err == nil:
			failures = 0
		case s.failure() != nil:
			return
		default:
			s.log.Warn("a checkpoint of the metadata failed and is made again", "store", s.remote.Info().URL, "err", err)
		}
	}
}

// lastCheckpoint makes the next start quick, where that is worth it.
func (s *store) lastCheckpoint() {
	s.journal.count.Lock()
	worth := s.journal.count.objects >= worthwhile || s.journal.count.bytes >= s.o.CheckpointBytes/8
	s.journal.count.Unlock()
	if !worth {
		return
	}
	if err := s.checkpoint(s.ctx); err != nil {
		s.log.Warn("the last checkpoint of the metadata failed: the next start reads more journal", "store", s.remote.Info().URL, "err", err)
	}
}

// checkpoint puts the tables as they are now into the bucket. What was already in
// it is not written again.
func (s *store) checkpoint(ctx context.Context) error {
	s.chain.mu.Lock()
	defer s.chain.mu.Unlock()
	if s.chain.unsure != nil { // of a checkpoint that was given up
		if err := s.advance(ctx); err != nil {
			return err
		}
	}
	// 1. Of what is in the journal now, all gets into tables.
	from, done := s.journal.mark()
	if err := s.Flush(ctx); err != nil {
		return err
	}
	tables, files, err := s.capture()
	defer func() {
		for _, t := range tables {
			err = errors.Join(err, t.unpin())
		}
	}()
	if err != nil {
		return err
	}
	// 2. The tables may hold batches that are not in the journal: they must be,
	// before anything says that they are durable.
	if err := s.drainAll(ctx); err != nil {
		return err
	}
	// 3. Tables go before the manifest that names them.
	next := manifest{from: from, files: files}
	for _, t := range tables {
		e, err := s.upload(ctx, t)
		if err != nil {
			return err
		}
		next.tables = append(next.tables, e)
	}
	if err := s.commit(ctx, &next); err != nil {
		return err
	}
	done()
	return s.clean(ctx)
}

// mark is the number after the last journal object, and what to call when objects
// before it are in a checkpoint.
func (j *journal) mark() (next uint64, done func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count.Lock()
	defer j.count.Unlock()
	bytes, objects := j.count.bytes, j.count.objects
	return j.next, func() {
		j.count.Lock()
		defer j.count.Unlock()
		j.count.bytes -= bytes
		j.count.objects -= objects
	}
}

// capture is the tables as they are, pinned, and the files that describe them.
func (s *store) capture() (tables []*table, files []smallFile, err error) {
	dir := path.Join(s.o.Dir, "checkpoint")
	small := s.tier.FS
	if err := small.RemoveAll(dir); err != nil {
		return nil, nil, fsapi.Wrap(fsapi.IO, err, "kv: remove "+dir)
	}
	err = s.Checkpoint(dir)
	tables = s.tier.take()
	if err != nil {
		return tables, nil, err
	}
	names, err := small.List(dir)
	if err != nil {
		return tables, nil, fsapi.Wrap(fsapi.IO, err, "kv: read "+dir)
	}
	for _, name := range names {
		data, err := readFile(small, path.Join(dir, name))
		if err != nil {
			return tables, nil, fsapi.Wrap(fsapi.IO, err, "kv: read "+dir)
		}
		files = append(files, smallFile{name, data})
	}
	return tables, files, fsapi.Wrap(fsapi.IO, small.RemoveAll(dir), "kv: remove "+dir)
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// upload puts a table into the bucket, unless it is there.
func (s *store) upload(ctx context.Context, t *table) (tableEntry, error) {
	if e, ok := t.object(); ok {
		return e, nil
	}
	t.mu.RLock()
	size := t.size
	t.mu.RUnlock()
	r := s.cache.open(ref{epoch: s.journal.epoch, salt: s.remote.newSalt()}, size)
	body := &sealedTable{t: t, r: r}
	err := s.remote.insist(ctx, func(ctx context.Context) error {
		// The name is this table's only: whatever is there is what was sent.
		_, err := s.remote.Put(ctx, r.ref.table(), body, stored(size), object.IfAbsent())
		if errors.Is(err, fsapi.Precondition) {
			return nil
		}
		return err
	})
	if err != nil {
		return tableEntry{}, err
	}
	if err := t.uploaded(r); err != nil {
		return tableEntry{}, fsapi.Wrap(fsapi.IO, err, "kv: drop the local copy of table "+t.name)
	}
	e, _ := t.object()
	return e, nil
}

// commit makes a manifest the one that counts. REQUIRES: chain.mu held.
func (s *store) commit(ctx context.Context, next *manifest) error {
	next.ref = ref{epoch: s.journal.epoch, number: s.chain.now.number + 1, salt: s.remote.newSalt()}
	next.garbage = s.condemn(next)
	body := seal(s.remote.key, header{kind: kindManifest, epoch: next.epoch, number: next.number, salt: next.salt}, next.encode())
	err := s.remote.insist(ctx, func(ctx context.Context) error {
		_, _, err := s.remote.claim(ctx, next.manifest(), body, object.IfAbsent())
		return err
	})
	if err != nil {
		return err
	}
	h := head{epoch: s.journal.epoch, holder: s.o.Holder, manifest: next.ref, from: next.from}
	s.chain.unsure = s.headAttempt(h, object.IfVersion(s.chain.version))
	s.chain.unsure.manifest = next
	return s.advance(ctx)
}

// advance settles the head on its way. REQUIRES: chain.mu held.
func (s *store) advance(ctx context.Context) error {
	won, err := s.settleHead(ctx)
	switch {
	case err == nil && !won:
		return s.fail(s.fenced(keyHead))
	case err != nil && final(err):
		return s.fail(err)
	}
	return err
}
