package fsapi

import (
	"context"
	"errors"
	"fmt"
)

// Kind is the class of an error. Kinds are themselves errors, so that
// errors.Is(err, fsapi.NotExist) asks for the class of a wrapped error. The
// numbers cross the wire: append only, never renumber.
type Kind uint8

// The kinds. Each comment names the errno(3) a POSIX door answers.
const (
	Other        Kind = 0  // EIO: nothing better is known
	NotExist     Kind = 1  // ENOENT
	Exist        Kind = 2  // EEXIST
	NotEmpty     Kind = 3  // ENOTEMPTY
	NotDir       Kind = 4  // ENOTDIR
	IsDir        Kind = 5  // EISDIR
	Access       Kind = 6  // EACCES: mode bits or ACL refuse
	NotPermitted Kind = 7  // EPERM: only the owner or root may
	Stale        Kind = 8  // ESTALE: the inode or handle is gone
	NoSpace      Kind = 9  // ENOSPC
	Quota        Kind = 10 // EDQUOT
	Corrupt      Kind = 11 // EIO: stored bytes failed verification
	IO           Kind = 12 // EIO: a drive failed
	Fenced       Kind = 13 // EIO: the caller's fence token is old
	Busy         Kind = 14 // EBUSY
	Invalid      Kind = 15 // EINVAL
	NameTooLong  Kind = 16 // ENAMETOOLONG: over 255 bytes
	Loop         Kind = 17 // ELOOP
	TooManyLinks Kind = 18 // EMLINK
	CrossDevice  Kind = 19 // EXDEV
	NotSupported Kind = 20 // EOPNOTSUPP
	NoAttr       Kind = 21 // ENODATA: no such extended attribute
	Range        Kind = 22 // ERANGE: the caller's buffer is too small
	FileTooBig   Kind = 23 // EFBIG
	WouldBlock   Kind = 24 // EAGAIN: a lock is held by another
	Deadlock     Kind = 25 // EDEADLK
	Interrupted  Kind = 26 // EINTR: the context ended
	BadHandle    Kind = 27 // EBADF
	ReadOnly     Kind = 28 // EROFS
	TimedOut     Kind = 29 // ETIMEDOUT
	NoDevice     Kind = 30 // ENXIO; also SEEK_DATA past the last data
	Conflict     Kind = 31 // EAGAIN: a transaction lost against another; retry
	Lost         Kind = 32 // EIO: unsynced writes were lost (D6)
	Immutable    Kind = 33 // EPERM: under retention
	TooBig       Kind = 34 // E2BIG: value over its bound
	Closed       Kind = 35 // EIO: the store is shutting down
	Unauthorized Kind = 36 // EACCES: no or wrong credentials of a door
	Precondition Kind = 37 // EAGAIN: a condition given with the request does not hold

	// KindCount is one past the last kind. Tests of door tables range over it.
	KindCount = 38
)

var kindText = [KindCount]string{
	"error", "no such file or directory", "file exists", "directory not empty", "not a directory",
	"is a directory", "permission denied", "operation not permitted", "stale file handle",
	"no space left on device", "disk quota exceeded", "stored data is corrupt", "input/output error",
	"fenced: another writer has taken over", "device or resource busy", "invalid argument",
	"file name too long", "too many levels of symbolic links", "too many links", "invalid cross-device link",
	"operation not supported", "no such attribute", "result too large for the buffer", "file too large",
	"resource temporarily unavailable", "resource deadlock avoided", "interrupted", "bad file handle",
	"read-only file system", "timed out", "no such device or address", "transaction conflict",
	"unsynced writes were lost", "under retention", "argument too long", "shutting down",
	"not authorized", "precondition failed",
}

// Error is the text of the kind, as strerror(3) would say it.
func (k Kind) Error() string {
	if int(k) < len(kindText) {
		return kindText[k]
	}
	return fmt.Sprintf("error kind %d", uint8(k))
}

// Error is an error with a kind, a message that names the thing concerned, and
// a cause (nil where there is none).
type Error struct {
	Kind Kind
	Msg  string
	Err  error

	said bool // Msg holds Err's text
}

// Error is "message: cause", or the kind's text where there is no message.
func (e *Error) Error() string {
	msg := e.Msg
	if msg == "" {
		msg = e.Kind.Error()
	}
	if e.Err != nil && !e.said {
		return msg + ": " + e.Err.Error()
	}
	return msg
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is e's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Errorf makes an error of kind k. A %w in the format becomes its cause.
func Errorf(k Kind, format string, args ...any) error {
	w := fmt.Errorf(format, args...)
	return &Error{Kind: k, Msg: w.Error(), Err: errors.Unwrap(w), said: true}
}

// Wrap gives err the kind k and a leading verb phrase. A nil err stays nil.
func Wrap(k Kind, err error, msg string) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Msg: msg, Err: err}
}

// Transient reports whether another attempt of a drive or an object store may do
// better, by the kind that the layer which knows has given the error: no answer
// in time, a failure of the place, too many requests, a race left undecided.
func Transient(err error) bool {
	switch KindOf(err) {
	case TimedOut, IO, Busy, Conflict:
		return true
	}
	return false
}

// KindOf is the kind of the outermost error in err's chain that has one.
// Context errors are Interrupted and TimedOut; anything else is Other. It
// must not be called with nil.
func KindOf(err error) Kind {
	var k Kind
	var e *Error
	for x := err; x != nil; x = errors.Unwrap(x) { // the outermost, of either type
		switch x := x.(type) { //nolint:errorlint // the loop unwraps
		case Kind:
			return x
		case *Error:
			return x.Kind
		}
	}
	switch {
	case errors.As(err, &e): // joined errors
		return e.Kind
	case errors.As(err, &k):
		return k
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	}
	return Other
}
