package s3

import (
	"errors"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// code is S3's code of an error ("Error Responses", Amazon S3 API Reference).
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// kindOfCode is the kind of a code and of the HTTP status beside it, 0 where
// there is none.
func kindOfCode(code string, status int) fsapi.Kind {
	switch code {
	case "NoSuchKey", "NoSuchUpload", "NotFound":
		return fsapi.NotExist
	case "NoSuchBucket":
		return fsapi.NoDevice
	case "PreconditionFailed":
		return fsapi.Precondition
	case "ConditionalRequestConflict", "OperationAborted":
		return fsapi.Conflict
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed":
		return fsapi.Unauthorized
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState":
		return fsapi.Access
	case "SlowDown", "ServiceUnavailable", "Throttling", "TooManyRequests":
		return fsapi.Busy
	case "RequestTimeout":
		return fsapi.TimedOut
	case "InternalError", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch":
		return fsapi.IO
	case "EntityTooLarge":
		return fsapi.TooBig
	case "NotImplemented", "MethodNotAllowed":
		return fsapi.NotSupported
	case "QuotaExceeded", "StorageFull", "XMinioStorageFull":
		return fsapi.NoSpace
	}
	return provider.KindOfStatus(status)
}

// kinded gives an error its kind. nil stays nil.
func kinded(err error) error {
	if err == nil {
		return nil
	}
	var answer *smithyhttp.ResponseError
	var signing *smithy.CanceledError
	switch {
	case errors.As(err, &signing):
		return fsapi.Wrap(fsapi.Interrupted, err, "cancelled")
	case errors.As(err, &answer) && answer.HTTPStatusCode() != 0:
		return fsapi.Wrap(kindOfCode(code(err), answer.HTTPStatusCode()), err, http.StatusText(answer.HTTPStatusCode()))
	case code(err) != "":
		return fsapi.Wrap(kindOfCode(code(err), 0), err, code(err))
	}
	return fsapi.Wrap(provider.KindOfFailure(err), err, "no answer")
}

// kindedWrite is kinded for a write under a condition: an object that is not
// there does not have the version wanted.
func kindedWrite(err error, c object.Condition) error {
	if c.Version() != "" && (code(err) == "NoSuchKey" || code(err) == "NotFound") {
		return fsapi.Wrap(fsapi.Precondition, err, "there is no object")
	}
	return kinded(err)
}
