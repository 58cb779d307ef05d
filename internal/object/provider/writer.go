package provider

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// writer writes one object. It holds the part being filled; parts that are full
// are sent while the next is filled. Where the budget allows it, it holds them too,
// and sends a whole object.
type writer struct {
	s        *Store
	key      string
	opts     PutOptions
	partSize int64
	inParts  bool  // however small it comes out
	wants    bool  // it may want memory of the budget
	hint     int64 // bytes that the first part is likely to have

	ctx    context.Context // of Create, ended by cancel
	cancel context.CancelFunc
	flight sync.WaitGroup // parts on their way

	mu     sync.Mutex // uncontended, but for Close of the store
	done   bool
	full   []part // held: not sent, and followed by part
	part   part   // being filled
	last   *part  // sent, but perhaps to be read again; nil: none; of flight's goroutines, then of Commit
	upload Upload // nil: not begun
	parts  int    // sent

	failed struct {
		sync.Mutex
		err error // first failure of a part
	}
}

var _ object.Writer = (*writer)(nil)

// Create implements object.Store. It does no I/O.
func (s *Store) Create(ctx context.Context, key string, size int64, cond object.Condition) (_ object.Writer, err error) {
	defer func() { err = s.fail("create", key, err) }()
	if err := s.enterKey(ctx, key); err != nil {
		return nil, err
	}
	defer s.leave()
	w := &writer{s: s, key: key, opts: PutOptions{Cond: cond, Mark: newMark()}, partSize: s.opts.PartSize}
	w.inParts = size > max(w.partSize, s.budget.size())
	for size/w.partSize >= int64(s.traits.MaxParts) {
		w.partSize *= 2
	}
	w.opts.PartSize = w.partSize
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.hint = min(max(size, 0), w.partSize)
	if w.wants = !w.inParts && (size == 0 || size > w.partSize) && s.budget.size() > 0; w.wants {
		s.budget.open()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writers[w] = struct{}{}
	return w, nil
}

// Write implements object.Writer.
func (w *writer) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { err = w.s.fail("write", w.key, err) }()
	if w.done {
		return 0, errDone
	}
	for len(p) > 0 {
		k, err := w.fits(len(p))
		if err != nil {
			return n, err
		}
		w.append(p[:k])
		p, n = p[k:], n+k
	}
	return n, nil
}

// Take implements object.Writer.
func (w *writer) Take(p []byte, done func()) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { err = w.s.fail("write", w.key, err) }()
	if w.done {
		return errDone
	}
	if len(p) == 0 {
		done()
		return nil
	}
	left := w.partSize - w.part.size%w.partSize // in the part that p begins in
	done = shared(1+(max(int64(len(p))-left, 0)+w.partSize-1)/w.partSize, done)
	for len(p) > 0 {
		k, err := w.fits(len(p))
		if err != nil {
			return err
		}
		w.part.add(p[:k:k], false, done)
		p = p[k:]
	}
	return nil
}

// fits is how many of n bytes fit into the part, a full one being sent first.
// Requires mu.
func (w *writer) fits(n int) (int, error) {
	if err := w.ended(); err != nil {
		return 0, err
	}
	if w.part.size == w.partSize {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	return int(min(int64(n), w.partSize-w.part.size)), nil
}

// next begins another part: the full ones are held, or sent. Requires mu.
func (w *writer) next() error {
	size := int64(len(w.full)+2) * w.partSize // with the new one
	if w.upload == nil && !w.inParts && size <= w.s.budget.size() && w.s.budget.take(w.ctx, w.partSize) {
		w.full = append(w.full, w.part)
		w.part = part{}
		return nil
	}
	if err := w.ended(); err != nil {
		return err
	}
	return w.sendAll()
}

// sendAll sends what is held in parts, and gives back what was reserved for it.
// Requires mu.
func (w *writer) sendAll() error {
	for _, p := range append(w.full, w.part) {
		w.part = p
		if err := w.send(); err != nil {
			w.setFailure(err) // the parts are out of order now
			return err
		}
		if len(w.full) > 0 {
			w.full = w.full[1:]
			w.s.budget.give(w.partSize)
		}
	}
	return nil
}

// append copies p into the part. What is more than a small object, or comes after a
// whole part, is taken to become a whole part. Requires mu.
func (w *writer) append(p []byte) {
	if int64(len(p)) > w.part.room() {
		need := max(int64(len(p)), w.hint-w.part.size, w.part.size)
		if w.part.size+need > smallPart || w.parts > 0 || len(w.full) > 0 {
			need = w.partSize - w.part.size
		}
		own := w.s.parts.get(need)
		w.part.add(own, true, func() { w.s.parts.put(own) })
	}
	w.part.copy(p)
}

var errDone = fsapi.Errorf(fsapi.Closed, "the writer is done")

// send hands the part in the buffer over to be sent. Requires mu.
func (w *writer) send() error {
	if err := w.begin(); err != nil {
		return err
	}
	if w.parts == w.s.traits.MaxParts {
		return fsapi.Errorf(fsapi.TooBig, "more than %d parts of %d bytes: open the store with larger parts", w.parts, w.partSize)
	}
	if w.s.traits.Serial {
		w.flight.Wait()
	}
	select {
	case w.s.slots <- struct{}{}:
	case <-w.ctx.Done():
		return w.ended()
	}
	n, p := w.parts, w.part
	w.parts++
	w.part = part{}
	w.flight.Go(func() {
		defer func() { <-w.s.slots }()
		attempts, err := w.sendPart(n, &p)
		switch {
		case err != nil:
			w.setFailure(err)
		case attempts > 1: // one that ended without an answer may be reading the part yet
		case p.size < w.partSize:
			w.last = &p
		default:
			p.free()
		}
	})
	return nil
}

// begin begins the upload in parts.
func (w *writer) begin() error {
	if w.upload != nil {
		return nil
	}
	return w.s.attempt(w.ctx, &w.s.counts.puts, 0, func(ctx context.Context) (err error) {
		w.upload, err = w.s.api.Begin(ctx, w.s.prefix+w.key, w.opts)
		return err
	})
}

func (w *writer) sendPart(n int, p *part) (attempts int, err error) {
	s := w.s
	counter := &s.counts.puts
	if s.traits.FreeParts {
		counter = &s.counts.free
	}
	moved := p.counted()
	err = s.retry(w.ctx, func() error {
		return s.upload(w.ctx, counter, moved, p.size, func(ctx context.Context) error {
			attempts++
			s.counts.sent.Add(p.size)
			return w.upload.Part(ctx, n, p.body())
		})
	})
	return attempts, err
}

// setFailure keeps the first failure and ends the other parts.
func (w *writer) setFailure(err error) {
	w.failed.Lock()
	defer w.failed.Unlock()
	if w.failed.err == nil {
		w.failed.err = err
		w.cancel()
	}
}

func (w *writer) failure() error {
	w.failed.Lock()
	defer w.failed.Unlock()
	return w.failed.err
}

// ended is why no more can be written: a part failed or ctx has ended.
func (w *writer) ended() error {
	if err := w.failure(); err != nil {
		return err
	}
	return w.ctx.Err()
}

// Commit implements object.Writer.
func (w *writer) Commit(ctx context.Context) (v object.Version, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { err = w.s.fail("commit", w.key, err) }()
	if w.done {
		return "", errDone
	}
	if err := w.s.enter(ctx); err != nil {
		w.drop()
		return "", err
	}
	defer w.s.leave()
	if v, err = w.commit(ctx); err != nil {
		w.drop()
		return "", err
	}
	w.end()
	return v, nil
}

func (w *writer) commit(ctx context.Context) (object.Version, error) {
	if err := w.ended(); err != nil { // a Write may have failed so
		return "", err
	}
	if w.upload == nil && (!w.inParts || w.part.size == 0) { // what is held was not to be sent in parts
		return w.put(ctx)
	}
	stop := context.AfterFunc(ctx, w.cancel)
	defer stop()
	if w.part.size > 0 {
		if err := w.send(); err != nil {
			return "", errors.Join(ctx.Err(), err)
		}
	}
	w.flight.Wait()
	if err := w.failure(); err != nil {
		return "", errors.Join(ctx.Err(), err)
	}
	failed, moved := false, new(atomic.Int64) // Complete may send the last part
	if w.last != nil {
		moved = w.last.moved
	}
	v, err := w.s.write(ctx, w.key, w.opts, w.partSize, moved, func(ctx context.Context) (object.Version, error) {
		v, err := w.upload.Complete(ctx, w.parts)
		failed = failed || err != nil
		return v, err
	})
	if !failed && err == nil && w.last != nil {
		w.last.free()
	}
	if errors.Is(err, fsapi.NotExist) {
		return "", fsapi.Errorf(fsapi.IO, "the upload was given up by the provider or by another: %w", err)
	}
	return v, err
}

// put writes the object in one request.
func (w *writer) put(ctx context.Context) (object.Version, error) {
	if len(w.full) > 0 {
		defer w.s.budget.send(int64(len(w.full)) * w.partSize)()
	}
	p, failed := joined(w.full, w.part), false
	w.full = nil
	v, err := w.s.write(ctx, w.key, w.opts, p.size, p.counted(), func(ctx context.Context) (object.Version, error) {
		w.s.counts.sent.Add(p.size)
		v, err := w.s.api.Put(ctx, w.s.prefix+w.key, p.body(), w.opts)
		failed = failed || err != nil
		return v, err
	})
	if !failed && err == nil { // an attempt that ended without an answer may be reading it yet
		p.free()
	}
	return v, err
}

// Abort implements object.Writer.
func (w *writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.drop()
	}
}

// drop ends the writer and gives the upload up. What cannot be given up now is
// left to the bucket's own rule for unfinished uploads.
func (w *writer) drop() {
	w.end()
	if w.upload == nil {
		return
	}
	_ = w.s.attempt(context.WithoutCancel(w.ctx), &w.s.counts.deletes, 0, w.upload.Abort)
}

// end stops what is on its way.
func (w *writer) end() {
	if len(w.full) > 0 {
		w.s.budget.give(int64(len(w.full)) * w.partSize)
	}
	if w.wants {
		w.s.budget.close()
	}
	w.done, w.full, w.part = true, nil, part{}
	w.cancel()
	w.flight.Wait()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.writers, w)
}
