package provider

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/strakefs/strake/internal/fsapi"
)

// KindOfStatus is the kind of an error that a provider told by an HTTP status
// (RFC 9110, section 15) and nothing more exact.
func KindOfStatus(status int) fsapi.Kind {
	switch status {
	case http.StatusUnauthorized:
		return fsapi.Unauthorized
	case http.StatusForbidden:
		return fsapi.Access
	case http.StatusNotFound, http.StatusGone:
		return fsapi.NotExist
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return fsapi.TimedOut
	case http.StatusConflict:
		return fsapi.Conflict
	case http.StatusPreconditionFailed:
		return fsapi.Precondition
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fsapi.Busy
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return fsapi.NotSupported
	case http.StatusInsufficientStorage:
		return fsapi.NoSpace
	}
	if status >= 300 && status < 500 { // a redirection tells of a wrong region or endpoint
		return fsapi.Invalid
	}
	return fsapi.IO
}

// KindOfFailure is the kind of an error that came without an answer.
func KindOfFailure(err error) fsapi.Kind {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return fsapi.Interrupted
	case errors.As(err, &timeout) && timeout.Timeout():
		return fsapi.TimedOut
	}
	return fsapi.IO
}
