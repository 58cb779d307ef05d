package dir

import (
	"errors"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

var _ drive.Attached = (*Drive)(nil)

// markEvery is how often the mark of a drive that is written to is renewed: what
// was made durable longer ago than that is no longer at risk.
const markEvery = time.Hour

// attachment is the drive's mark and what it said when the drive was opened.
type attachment struct {
	mu sync.Mutex
	// All below is guarded by mu.
	risk    time.Time // as found: since when what was written is at risk; zero: nothing is
	settled bool      // somebody looks after it
	dirty   bool      // the mark says so
	renewed time.Time // when it was last written by this Drive; zero: never
}

// loadMark reads how the drive was left. A drive without a mark is of an earlier
// release, or was never written to; a mark that cannot be read says nothing good.
func (d *Drive) loadMark() error {
	b, _, err := readPrivate(d.fs, d.opts.Path, markFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.fail(err, "read the mark of", "")
	}
	m, err := identity.ParseAttachment(b)
	a := &d.attached
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		a.dirty, a.risk = true, time.Unix(0, 0)
	case !m.Clean:
		a.dirty, a.risk = true, m.Since
	}
	return nil
}

// touch is called before each write: it marks the drive, durably, as one that is
// not detached cleanly from now on. While what was found at risk is not settled
// the mark stays at that.
func (d *Drive) touch() error {
	now := d.opts.Clock.Now()
	a := &d.attached
	a.mu.Lock()
	defer a.mu.Unlock()
	unsettled := !a.risk.IsZero() && !a.settled
	age := now.Sub(a.renewed)
	if a.dirty && (unsettled || age >= 0 && age < markEvery) {
		return nil
	}
	since := now
	if a.dirty && !a.renewed.IsZero() {
		since = a.renewed
	}
	return d.markLocked(identity.Attachment{Since: since}, now)
}

// markLocked writes the mark. REQUIRES attachment.mu.
func (d *Drive) markLocked(m identity.Attachment, now time.Time) error {
	err := osfs.ReplaceFile(d.fs, path.Join(d.opts.Path, privateDir, markFile), identity.AppendAttachment(nil, m), 0o600)
	if err != nil {
		return fsapi.Wrap(kindOf(err), err, "mark the drive as in use")
	}
	d.attached.dirty, d.attached.renewed = !m.Clean, now
	return nil
}

// detach marks the drive as clean where it is: every commit was durable before it
// returned, and none is under way. A mark that cannot be written stays dirty, which
// costs a verification.
func (d *Drive) detach() {
	a := &d.attached
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.dirty || !a.risk.IsZero() && !a.settled {
		return
	}
	now := d.opts.Clock.Now()
	_ = d.markLocked(identity.Attachment{Clean: true, Since: now}, now)
}

// AtRisk implements drive.Attached.
func (d *Drive) AtRisk() (since time.Time, ok bool) {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	return d.attached.risk, !d.attached.risk.IsZero()
}

// Settled implements drive.Attached.
func (d *Drive) Settled() {
	d.attached.mu.Lock()
	defer d.attached.mu.Unlock()
	d.attached.settled = true
}
