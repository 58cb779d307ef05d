package identity

import (
	"bytes"
	"context"
	"crypto/rand"
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

// Incarnation tells the copies of one store apart, which have the same id: it is
// drawn anew whenever a store is opened for writing. All zero: not known, as in what
// earlier releases wrote.
type Incarnation [16]byte

// NewIncarnation draws one.
func NewIncarnation() (i Incarnation) {
	rand.Read(i[:])
	return i
}

// String is the incarnation in 32 hexadecimal digits.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// ParseIncarnation reads what String writes: fsapi.Corrupt.
func ParseIncarnation(s string) (i Incarnation, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(i) || hex.EncodeToString(b) != s {
		return i, fsapi.Errorf(fsapi.Corrupt, "drive identity: malformed incarnation")
	}
	return Incarnation(b), nil
}

// Owner is the store that a place belongs to. It is text, as an Identity is:
//
//	strake owner 2
//	store 0123456789abcdef0123456789abcdef
//	incarnation 0123456789abcdef0123456789abcdef
//	host "name"
//	since 2026-01-02T03:04:05Z
//	crc32c 89abcdef
//
// store is 32 lower-case hexadecimal digits, not all zero, and so is incarnation.
// host is a Go string literal in double quotes, as strconv.Quote makes it. Where no
// incarnation is known, the version is 1 and there is no line for it.
type Owner struct {
	Store       StoreID
	Incarnation Incarnation // of the store that claimed the place last
	Host        string      // of the machine that did, for people
	Since       time.Time   // when it did, to the second
}

// ownerVersion is the newest version of the text of an Owner.
const ownerVersion = 2

// AppendOwner appends the text form.
func AppendOwner(dst []byte, o Owner) []byte {
	start := len(dst)
	if o.Incarnation == (Incarnation{}) {
		dst = fmt.Appendf(dst, "strake owner %d\nstore %s\n", version, o.Store)
	} else {
		dst = fmt.Appendf(dst, "strake owner %d\nstore %s\nincarnation %s\n", ownerVersion, o.Store, o.Incarnation)
	}
	dst = fmt.Appendf(dst, "host %s\nsince %s\n", strconv.Quote(o.Host), o.Since.UTC().Truncate(time.Second).Format(time.RFC3339))
	return seal(dst, start)
}

// ParseOwner reads the text form; errors as Parse.
func ParseOwner(b []byte) (Owner, error) {
	var o Owner
	lines, v, err := parseVersions(b, ownerVersion, "owner")
	if err != nil {
		return o, err
	}
	if len(lines) != 3+v {
		return o, fsapi.Errorf(fsapi.Corrupt, "drive identity: %d lines of an owner, want %d", len(lines), 3+v)
	}
	store, err := hex.DecodeString(strings.TrimPrefix(lines[1], "store "))
	rest := lines[2:]
	if copy(o.Store[:], store); err == nil && v > 1 {
		o.Incarnation, err = ParseIncarnation(strings.TrimPrefix(lines[2], "incarnation "))
		rest = lines[3:]
	}
	if err == nil {
		o.Host, err = strconv.Unquote(strings.TrimPrefix(rest[0], "host "))
	}
	if err == nil {
		o.Since, err = time.Parse(time.RFC3339, strings.TrimPrefix(rest[1], "since "))
	}
	// There is one text for each owner.
	if err != nil || o.Store == (StoreID{}) || !bytes.Equal(AppendOwner(nil, o), b) {
		return Owner{}, fsapi.Errorf(fsapi.Corrupt, "drive identity: malformed owner")
	}
	return o, nil
}

// is reports whether o and p are one incarnation of one store.
func (o Owner) is(p Owner) bool { return o.Store == p.Store && o.Incarnation == p.Incarnation }

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

// Opening is how a store opens a place that must belong to it.
type Opening struct {
	Owner    *Owner // the store
	Role     Role   // of the place
	Where    string // names it
	TakeOver bool   // whichever store it belongs to
	ReadOnly bool   // another process writes to it: nothing is changed there
	Claiming Claiming
}

// Claiming is asked before a place is marked with an owner, and is told whose it was
// found to be: the same store's, nobody's (the zero Owner), or, where it is taken
// over, anybody's. It makes durable what the store must know to find the place its
// own afterwards, whether or not the mark comes to be written; or refuses the place,
// which then stays as it is.
type Claiming func(ctx context.Context, found Owner) error

// Admit lets a store open a place, or refuses it: fsapi.Busy where it is another's,
// fsapi.NotExist where it is nobody's and only to be read. found and err are what
// was read of its owner. mark says that the place is to be marked with Owner.
func (o Opening) Admit(ctx context.Context, found Owner, err error) (mark bool, _ error) {
	switch {
	case errors.Is(err, fsapi.NotExist) && o.ReadOnly:
		return false, fsapi.Errorf(fsapi.NotExist, "%s belongs to no store yet", o.Where)
	case errors.Is(err, fsapi.NotExist) || o.TakeOver && !o.ReadOnly:
	case err != nil:
		return false, err
	default:
		if err := o.Owner.Refuse(found, o.Role, o.Where); err != nil {
			return false, err
		}
	}
	if o.ReadOnly || err == nil && found.is(*o.Owner) {
		return false, nil
	}
	if err != nil {
		found = Owner{}
	}
	if o.Claiming != nil {
		if err := o.Claiming(ctx, found); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Won refuses a place that was marked, when it is read back and is found to be
// another's: of two that mark it at one moment one is refused so (fsapi.Busy).
func (o Opening) Won(found Owner) error {
	if err := o.Owner.Refuse(found, o.Role, o.Where); err != nil || found.is(*o.Owner) {
		return err
	}
	return fsapi.Errorf(fsapi.Busy, "%s was opened by another copy of this store at the same moment (from host %s): see that only one runs", o.Where, found.Host)
}

// Claim is one store's right to a place that it has open: it ends when another
// store, or another copy of this one, takes the place over, which is noticed before
// anything is changed there.
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
// ago. fsapi.NoDevice: it is another store's or copy's, once and for all, or
// nobody's; otherwise what kept it from being read.
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
	case found.is(c.owner):
		c.mu.Lock()
		c.seen = now
		c.mu.Unlock()
		return nil
	}
	lost := c.lostTo(found)
	c.lost.Store(&lost)
	return lost
}

func (c *Claim) lostTo(found Owner) error {
	by, advice := "taken over by another store", ""
	if found.Store == c.owner.Store {
		by = "opened by another copy of this store"
		advice = ". The data directory or the machine was copied, or set back while it ran: see that only one of them runs; 'strake drive set --take-over' gets the drive back"
	}
	return fsapi.Errorf(fsapi.NoDevice, "%s was %s (%s, from host %s on %s): this one does nothing there any more%s",
		c.where, by, found.Store, found.Host, found.Since.UTC().Format(time.DateOnly), advice)
}
