package identity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// StoreID tells a store from any other. All zero: not known.
type StoreID [16]byte

// String is the id in 32 hexadecimal digits.
func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// Owner is the store that a place belongs to. It is text, as an Identity is:
//
//	strake owner 1
//	store 0123456789abcdef0123456789abcdef
//	host "name"
//	since 2026-01-02T03:04:05Z
//	crc32c 89abcdef
//
// store is 32 lower-case hexadecimal digits, not all zero. host is a Go string
// literal in double quotes, as strconv.Quote makes it.
type Owner struct {
	Store StoreID
	Host  string    // of the machine that claimed the place, for people
	Since time.Time // when it did, to the second
}

// AppendOwner appends the text form.
func AppendOwner(dst []byte, o Owner) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "strake owner %d\nstore %s\nhost %s\nsince %s\n", version, o.Store, strconv.Quote(o.Host),
		o.Since.UTC().Truncate(time.Second).Format(time.RFC3339))
	return seal(dst, start)
}

// ParseOwner reads the text form; errors as Parse.
func ParseOwner(b []byte) (Owner, error) {
	var o Owner
	lines, err := parseLines(b, "owner")
	if err != nil {
		return o, err
	}
	if len(lines) != 4 {
		return o, fsapi.Errorf(fsapi.Corrupt, "drive identity: %d lines of an owner, want 4", len(lines))
	}
	store, err := hex.DecodeString(strings.TrimPrefix(lines[1], "store "))
	if copy(o.Store[:], store); err == nil {
		o.Host, err = strconv.Unquote(strings.TrimPrefix(lines[2], "host "))
	}
	if err == nil {
		o.Since, err = time.Parse(time.RFC3339, strings.TrimPrefix(lines[3], "since "))
	}
	// There is one text for each owner.
	if err != nil || o.Store == (StoreID{}) || !bytes.Equal(AppendOwner(nil, o), b) {
		return Owner{}, fsapi.Errorf(fsapi.Corrupt, "drive identity: malformed owner")
	}
	return o, nil
}

// Refuse refuses a place of a role that belongs to another store than one's own:
// fsapi.Busy, with what to do. where names it.
func (o Owner) Refuse(found Owner, role Role, where string) error {
	if found.Store == o.Store {
		return nil
	}
	advice := "If that store is gone for good, 'strake drive add --take-over' claims the place, and removes nothing from it"
	if role == Backup {
		advice = "If that store is gone for good, remove what is there"
	}
	return fsapi.Errorf(fsapi.Busy,
		"%s belongs to another store (%s, claimed from host %s on %s), and two stores in one place destroy each other's data: give another directory, bucket or prefix. %s",
		where, found.Store, found.Host, found.Since.UTC().Format(time.DateOnly), advice)
}

// Claim is one store's right to a place that it has open: it ends when another
// store takes the place over, which is noticed before anything is changed there.
// Safe for concurrent use; a nil Claim always holds.
type Claim struct {
	owner Owner
	where string
	now   func() time.Time
	read  func(context.Context) (Owner, error)

	lost atomic.Pointer[error] // that it was found to be another's

	mu   sync.Mutex // never held during I/O
	seen time.Time  // when the place was last found to be owner's; guarded by mu
}

// NewClaim is owner's right to a place that was found to be its own just now.
// where names the place; read reads whose it is: fsapi.NotExist for nobody's. nil
// where owner is nil.
func NewClaim(owner *Owner, where string, now func() time.Time, read func(context.Context) (Owner, error)) *Claim {
	if owner == nil {
		return nil
	}
	return &Claim{owner: *owner, where: where, now: now, read: read, seen: now()}
}

// Lost is why nothing may be done there any more, or nil: fsapi.NoDevice. It does
// no I/O.
func (c *Claim) Lost() error {
	if c == nil {
		return nil
	}
	if lost := c.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// Holds is nil where the place is the owner's: as of now, or of no more than age
// ago. fsapi.NoDevice: it is another store's, once and for all, or nobody's;
// otherwise what kept it from being read.
func (c *Claim) Holds(ctx context.Context, age time.Duration) error {
	if c == nil {
		return nil
	}
	now := c.now()
	c.mu.Lock()
	fresh := now.Sub(c.seen) < age && !now.Before(c.seen)
	c.mu.Unlock()
	if lost := c.Lost(); lost != nil || fresh {
		return lost
	}
	found, err := c.read(ctx)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return fsapi.Errorf(fsapi.NoDevice, "%s belongs to no store any more", c.where)
	case err != nil:
		return err
	case found.Store == c.owner.Store:
		c.mu.Lock()
		c.seen = now
		c.mu.Unlock()
		return nil
	}
	lost := fsapi.Errorf(fsapi.NoDevice, "%s was taken over by another store (%s, from host %s on %s): this one does nothing there any more",
		c.where, found.Store, found.Host, found.Since.UTC().Format(time.DateOnly))
	c.lost.Store(&lost)
	return lost
}
