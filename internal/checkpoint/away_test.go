package checkpoint

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/drive"
)

// absentee is a drive of which no call returns, whatever its context says, while
// it is away.
type absentee struct {
	*fakeDrive
	slow time.Duration // that creating and listing take
	mu   sync.Mutex
	back chan struct{} // closed when it is back; guarded by mu
}

func absent(d *fakeDrive) *absentee {
	h := &absentee{fakeDrive: d, back: make(chan struct{})}
	close(h.back)
	return h
}

func (h *absentee) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back = make(chan struct{})
}

func (h *absentee) comeBack() { close(h.gate()) }

func (h *absentee) gate() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.back
}

func (h *absentee) Create(ctx context.Context, name string, size int64) (drive.Writer, error) {
	time.Sleep(h.slow)
	<-h.gate()
	w, err := h.fakeDrive.Create(ctx, name, size)
	return &absenteeWriter{w, h}, err
}

func (h *absentee) ReadAt(ctx context.Context, name string, off int64, p []byte) (int, error) {
	<-h.gate()
	return h.fakeDrive.ReadAt(ctx, name, off, p)
}

func (h *absentee) Stat(ctx context.Context, name string) (drive.Blob, error) {
	<-h.gate()
	return h.fakeDrive.Stat(ctx, name)
}

func (h *absentee) List(ctx context.Context, prefix, after string, fn func(drive.Blob) error) error {
	time.Sleep(h.slow)
	<-h.gate()
	return h.fakeDrive.List(ctx, prefix, after, fn)
}

func (h *absentee) Delete(ctx context.Context, name string) error {
	<-h.gate()
	return h.fakeDrive.Delete(ctx, name)
}

func (h *absentee) Replace(ctx context.Context, name string, data []byte) error {
	<-h.gate()
	return h.fakeDrive.Replace(ctx, name, data)
}

type absenteeWriter struct {
	drive.Writer
	h *absentee
}

func (w *absenteeWriter) Write(p []byte) (int, error) {
	<-w.h.gate()
	return w.Writer.Write(p)
}

func (w *absenteeWriter) Commit(ctx context.Context) error {
	<-w.h.gate()
	return w.Writer.Commit(ctx)
}

// away runs fn beside a shipper whose middle one of three drives can hang. The
// shipper has ended when it returns.
func away(t *testing.T, fn func(w *world, s *Shipper, h *absentee)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		h := absent(w.drives[1])
		s, err := New(Options{
			Engine: w.e, Key: storeKey, IsCounter: isCounter,
			Drives:     func() []drive.Drive { return []drive.Drive{w.drives[0], h, w.drives[2]} },
			GroupBytes: 4 << 10, GroupAge: 10 * time.Second, CheckpointBytes: 16 << 10, Patience: 5 * time.Second,
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		fn(w, s, h)
		cancel()
		must(t, <-done)
		s.Close()
		must(t, w.e.Close())
	})
}

// others requires that both drives beside the middle one have every batch, each
// by itself, and lack nothing.
func others(t *testing.T, w *world, s *Shipper) {
	t.Helper()
	for _, i := range []int{0, 2} {
		w.check(w.drives[i:i+1], w.last())
		if st := s.Status().Drives[i]; st.Behind || st.Seq != w.last() {
			t.Errorf("drive %d: %+v, want batch %d", i, st, w.last())
		}
	}
}

// later lets that much time go by, and then all come to rest.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A drive that does not answer holds up the others once, for Patience; what
// comes then is on them as if it was not there, checkpoints too. When it answers
// again it gets everything.
func TestDriveHangs(t *testing.T) {
	away(t, func(w *world, s *Shipper, h *absentee) {
		w.commits(10)
		later(time.Minute)
		others(t, w, s)

		h.leave()
		w.commits(3)
		later(16 * time.Second) // GroupAge and Patience
		others(t, w, s)
		if st := s.Status(); !st.Drives[1].Behind || st.Drives[1].Err == nil || st.Seq >= w.last() {
			t.Errorf("status %+v", st)
		}
		for range 20 {
			w.commits(3)
			later(11 * time.Second) // GroupAge alone
			others(t, w, s)
		}
		was := s.Status().Checkpoint
		for range 10 {
			w.commits(100)
			later(time.Minute)
			others(t, w, s)
		}
		if is := s.Status().Checkpoint; is <= was {
			t.Errorf("no checkpoint since batch %d", was)
		}

		h.comeBack()
		later(10 * time.Minute)
		w.check(w.drives[1:2], w.last())
		if st := s.Status(); st.Seq != w.last() || st.Drives[1].Behind {
			t.Errorf("status %+v", st)
		}
	})
}

// A drive that is brought up more slowly than batches come is so all the same:
// no groups are made meanwhile but those that are due, or it would lack one each
// time.
func TestSlowDriveIsBroughtUp(t *testing.T) {
	away(t, func(w *world, s *Shipper, h *absentee) {
		w.commits(10)
		later(time.Minute)
		h.slow = 3 * time.Second
		h.leave()
		w.commits(3)
		later(20 * time.Second)
		h.comeBack()
		for range 100 {
			w.commit()
			later(time.Second)
		}
		if st := s.Status().Drives[1]; st.Behind {
			t.Errorf("status %+v", st)
		}
		later(time.Minute)
		others(t, w, s)
		w.check(w.drives[1:2], w.last())
	})
}
