package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

// Defaults of Options.
const (
	DefaultGroupBytes      = 4 << 20
	DefaultGroupAge        = 10 * time.Second
	DefaultCheckpointBytes = 256 << 20
	DefaultPatience        = 10 * time.Second
)

// Pauses after a failure, which double from the first to the last.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// Options of New. Engine, Drives, Key and IsCounter must be set; a zero field
// of the rest takes its default.
type Options struct {
	Engine kv.Engine
	// Drives are the drives there are now. Asked before each write.
	Drives func() []drive.Drive
	// Key is the store key, 32 bytes; copied.
	Key []byte
	// IsCounter tells counters from values: a snapshot shows them alike.
	IsCounter func(key []byte) bool
	// Keyring is the wrapped keyring as it is now, kept on each drive; nil:
	// none is kept.
	Keyring func() []byte

	GroupBytes      int64         // bytes of batches written together; DefaultGroupBytes
	GroupAge        time.Duration // age at which fewer are written; DefaultGroupAge
	CheckpointBytes int64         // bytes of batches, or the size of the last checkpoint if that is more, after which a new one is made; DefaultCheckpointBytes

	// Keep is how far back the drives can restore the metadata as of any moment:
	// checkpoints and groups stay that long; 0: only the newest are kept.
	Keep time.Duration
	// KeepBytes bounds what of the past is kept on each drive; 0: no bound.
	KeepBytes int64
	// Patience is how long a drive may hold up the others, from when one of them
	// is done; DefaultPatience. After it the drive is brought up by itself.
	Patience time.Duration

	Log *slog.Logger // discards
}

func (o *Options) setDefaults() error {
	if o.Engine == nil || o.Drives == nil || o.IsCounter == nil || len(o.Key) != 32 {
		return fsapi.Errorf(fsapi.Invalid, "checkpoint: Engine, Drives, IsCounter and a Key of 32 bytes must be set")
	}
	o.Key = bytes.Clone(o.Key) // its owner may wipe it before the last Flush
	if o.GroupBytes <= 0 {
		o.GroupBytes = DefaultGroupBytes
	}
	if o.GroupAge <= 0 {
		o.GroupAge = DefaultGroupAge
	}
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = DefaultCheckpointBytes
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Shipper brings the metadata of an engine to drives. Flush and Status may be
// called concurrently with Run and with each other.
type Shipper struct {
	o      Options
	making chan struct{} // holds a token while a checkpoint is made
	busy   chan struct{} // holds a token while the fields down to makeRetry are used

	resumed   bool
	epoch     uint64
	base      *object // the newest verified checkpoint of the epoch; nil: one must be made
	size      int64   // bytes of base
	baseStamp clock.Stamp
	floor     *object   // nothing of the past before it is kept; nil: no such
	expiry    time.Time // of the past that is not kept is looked for again then
	groups    []group   // that continue base, or will continue the checkpoint being made
	since     int64     // bytes of groups
	open      []piece   // the newest of groups, still small
	spare     []byte    // for data of pend
	packed    []byte    // scratch of seal
	pend      piece     // batches in no group yet; empty where data is
	last      kv.Seq    // the newest batch in pend or a group
	gap       kv.Seq    // batches before and at it may be in no group
	places    map[fsapi.DriveID]*place
	renew     kv.Seq // a checkpoint before it is too old

	launched  bool // Run has a checkpoint being made
	makePause time.Duration
	makeRetry time.Time // Run starts none before

	jobs sync.WaitGroup     // all goroutines that make calls of drives
	ctx  context.Context    // of those that outlive a call of the Shipper
	stop context.CancelFunc // ends ctx

	mu     sync.Mutex
	status Status // guarded by mu
	anew   string // why a new epoch is to begin; "": none is; guarded by mu
}

// group is a group on the drives.
type group struct {
	object
	size  int64
	stamp clock.Stamp // of its last batch; 0: not known
}

// piece is a run of batches, encoded.
type piece struct {
	first, last kv.Seq
	stamp       clock.Stamp // of last
	data        []byte
	since       time.Time // when the first batch came
}

// place is what is known of one drive.
type place struct {
	d       drive.Drive
	behind  bool   // it may lack blobs, or have some it should not
	keyring string // the copy on it; "" while not known
	seq     kv.Seq // all batches up to it are there
	err     error  // of the last attempt
	pause   time.Duration
	retry   time.Time // no attempt before

	running chan struct{}      // closed when what is being done for it has ended; nil: nothing is
	job     *catchUpJob        // whose outcome was not noted yet
	held    map[object]holding // what it has of the past
}

// Status is how far the drives are.
type Status struct {
	Epoch      uint64
	Seq        kv.Seq // every drive has all batches up to here
	Based      bool   // the drives have a verified checkpoint that can be gone on from
	Checkpoint kv.Seq // the batch of that checkpoint
	Size       int64  // bytes of that checkpoint
	Since      int64  // bytes of groups after it
	Making     bool   // a checkpoint is being written
	Err        error  // why following the engine failed last; nil while all is well
	Drives     []DriveStatus
}

// DriveStatus is how far one drive is.
type DriveStatus struct {
	ID     fsapi.DriveID
	Name   string
	Seq    kv.Seq
	Behind bool
	Err    error // of the last attempt; nil where it went well
}

// New makes a shipper, to be closed. It does no I/O.
func New(o Options) (*Shipper, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Shipper{
		o: o, making: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		places: map[fsapi.DriveID]*place{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close ends what is being done with drives and waits for it, for as long as
// they take to return from a call whose context has ended. Run must have
// returned, and nothing may be called after it but Status.
func (s *Shipper) Close() {
	s.stop()
	s.jobs.Wait()
}

// Status says how far the drives are. It does no I/O.
func (s *Shipper) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Drives = append([]DriveStatus(nil), st.Drives...)
	return st
}

// Flush brings everything that is committed, and the keyring, to every drive.
// It works with and without Run. The error names the drives that lack
// something; the others have all of it.
func (s *Shipper) Flush(ctx context.Context) error {
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	err := s.flush(ctx)
	unlock(s.busy)
	if err == nil {
		err = s.bringUp(ctx)
	}
	if err != nil {
		return err
	}
	for range maxMakes {
		if s.Status().Based {
			return s.behind()
		}
		if err := s.checkpoint(ctx); err != nil {
			return err
		}
		if err := s.bringUp(ctx); err != nil {
			return err
		}
	}
	return fsapi.Errorf(fsapi.Busy, "the metadata changes faster than a checkpoint of it can be written to the drives")
}

// maxRounds is how often bringUp starts anew because the log went on.
const maxRounds = 16

// bringUp waits until the places that are behind are brought up or fail. Others
// can do with the log what they want meanwhile.
func (s *Shipper) bringUp(ctx context.Context) error {
	for range maxRounds {
		if err := lock(ctx, s.busy); err != nil {
			return err
		}
		s.catchUp(ctx)
		var running []<-chan struct{}
		for _, p := range s.sorted() {
			if p.job != nil {
				running = append(running, p.running)
			}
		}
		s.report(nil)
		unlock(s.busy)
		if len(running) == 0 {
			return nil
		}
		for _, done := range running {
			select {
			case <-done:
			case <-ctx.Done():
				return fsapi.Errorf(fsapi.Interrupted, "checkpoint: %w", context.Cause(ctx))
			}
		}
	}
	return nil
}

// Backup is Flush that also makes a checkpoint where one is due, for who calls it
// now and then and does not Run. Errors as Flush.
func (s *Shipper) Backup(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.checkpoint(ctx); err != nil {
		return err
	}
	if err := s.bringUp(ctx); err != nil {
		return err
	}
	return s.behind()
}

// Renew is Flush that also puts a checkpoint of now in the place of the one
// there is, and of the groups after it: so that the drives hold nothing that
// the metadata does not hold any more. A drive that is not there keeps what it
// has. Errors as Flush.
func (s *Shipper) Renew(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := lock(ctx, s.busy); err != nil {
		return err
	}
	want := s.o.Engine.LastSeq()
	s.renew = max(s.renew, want)
	unlock(s.busy)
	for range maxMakes {
		if err := s.checkpoint(ctx); err != nil {
			return err
		}
		if err := s.bringUp(ctx); err != nil {
			return err
		}
		if st := s.Status(); st.Based && st.Checkpoint >= want {
			return s.behind()
		}
	}
	return fsapi.Errorf(fsapi.Busy, "the metadata changes faster than a checkpoint of it can be written to the drives")
}

// maxMakes is how often Flush makes a checkpoint that batches outrun: those
// between it and the engine's oldest retained one are missed.
const maxMakes = 3

// flush writes what the engine has to groups. REQUIRES busy.
func (s *Shipper) flush(ctx context.Context) error {
	defer s.report(nil)
	if err := s.resume(ctx); err != nil {
		return err
	}
	s.collect()
	for _, p := range s.places {
		p.retry = time.Time{}
		if p.job != nil {
			p.job.again = true
		}
	}
	err := s.pull(ctx, s.o.Engine.LastSeq())
	if errors.Is(err, fsapi.NotExist) {
		s.restart("the engine no longer retains the batches to go on from")
		err = nil
	}
	if err != nil {
		return err
	}
	return s.ship(ctx)
}

// pull takes batches up to target out of the engine's tail. REQUIRES busy.
func (s *Shipper) pull(ctx context.Context, target kv.Seq) error {
	if s.last >= target {
		return nil
	}
	tail, err := s.o.Engine.Tail(s.last + 1)
	if err != nil {
		return err
	}
	defer tail.Close()
	for s.last < target {
		b, err := tail.Next(ctx)
		if err != nil {
			return err
		}
		s.add(b)
		if int64(len(s.pend.data)) >= s.o.GroupBytes {
			if err := s.ship(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// add takes one batch, unless it was taken before. REQUIRES busy.
func (s *Shipper) add(b kv.Batch) {
	if b.Seq <= s.last {
		return
	}
	if len(s.pend.data) == 0 {
		s.pend.first, s.pend.since = b.Seq, time.Now()
		s.pend.data, s.spare = s.spare, nil
	}
	// One that has become large will most likely become a whole group.
	if n := len(s.pend.data); n >= cap(s.pend.data)/2 && n >= int(s.o.GroupBytes/8) {
		s.pend.data = slices.Grow(s.pend.data, int(s.o.GroupBytes))
	}
	s.pend.data = kv.AppendBatch(s.pend.data, b)
	s.pend.last, s.pend.stamp = b.Seq, b.Stamp
	s.last = b.Seq
}

// restart gives up following the log where it is, as batches were missed: what
// comes after the gap is of use with a new checkpoint only. REQUIRES busy.
func (s *Shipper) restart(why string) {
	s.o.Log.Info("metadata checkpoint needed", "why", why, "epoch", s.epoch)
	s.base, s.groups, s.open, s.since = nil, nil, nil, 0
	s.pend = piece{}
	s.last = s.o.Engine.LastSeq()
	s.gap = s.last
}

// begin starts a new epoch above another, and at or above the engine's newest
// stamp: so it is also above the epochs that this engine began earlier on
// drives that cannot be seen now, even if the wall clock was set back. Where
// nothing was committed since, such an epoch may get the same number, which
// does no harm: the history is the same. REQUIRES busy.
func (s *Shipper) begin(above uint64, why string) error {
	snap, err := s.o.Engine.Snapshot()
	if err != nil {
		return err
	}
	s.epoch = max(above+1, uint64(snap.Stamp()))
	s.restart(why)
	return snap.Close()
}

// report publishes the status. REQUIRES busy.
func (s *Shipper) report(err error) {
	st := Status{Epoch: s.epoch, Size: s.size, Since: s.since, Seq: s.last, Err: err}
	if len(s.pend.data) > 0 {
		st.Seq = s.pend.first - 1
	}
	if s.base != nil {
		st.Based, st.Checkpoint = true, s.base.last
	} else {
		st.Seq = 0
	}
	for _, p := range s.sorted() {
		in := p.d.Info()
		st.Drives = append(st.Drives, DriveStatus{ID: in.ID, Name: in.Name, Seq: p.seq, Behind: p.behind, Err: p.err})
		st.Seq = min(st.Seq, p.seq)
	}
	if len(st.Drives) == 0 {
		st.Seq = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Making = s.status.Making
	s.status = st
}

// behind is an error that names the drives that lack something.
func (s *Shipper) behind() error {
	var errs []error
	for _, d := range s.Status().Drives {
		if d.Err != nil {
			errs = append(errs, fsapi.Wrap(fsapi.KindOf(d.Err), d.Err, "metadata on drive "+d.Name))
		} else if d.Behind {
			errs = append(errs, fsapi.Errorf(fsapi.Busy, "metadata on drive %s: it is still being brought up", d.Name))
		}
	}
	return errors.Join(errs...)
}

// lock takes the token of a one-place channel.
func lock(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fsapi.Errorf(fsapi.Interrupted, "checkpoint: %w", context.Cause(ctx))
	}
}

func unlock(c chan struct{}) { <-c }
