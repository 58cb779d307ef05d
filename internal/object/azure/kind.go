package azure

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/provider"
)

// code is Azure's code of an error ("Blob Storage error codes").
func code(err error) string {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.ErrorCode
	}
	return ""
}

// kinded gives an error its kind. nil stays nil.
func kinded(err error) error {
	if err == nil {
		return nil
	}
	var answer *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	switch {
	case errors.As(err, &login):
		return fsapi.Wrap(fsapi.Unauthorized, err, "credentials")
	case errors.As(err, &answer):
		return fsapi.Wrap(kindOfCode(answer), err, answer.ErrorCode)
	}
	return fsapi.Wrap(provider.KindOfFailure(err), err, "no answer")
}

func kindOfCode(answer *azcore.ResponseError) fsapi.Kind {
	switch bloberror.Code(answer.ErrorCode) {
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return fsapi.NoDevice
	case bloberror.BlobNotFound, bloberror.InvalidBlockList: // the list's blocks are gone, or were never sent
		return fsapi.NotExist
	case bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet:
		return fsapi.Precondition
	case bloberror.AuthenticationFailed, bloberror.NoAuthenticationInformation, bloberror.InvalidAuthenticationInfo:
		return fsapi.Unauthorized
	case bloberror.ServerBusy:
		return fsapi.Busy
	case bloberror.OperationTimedOut:
		return fsapi.TimedOut
	case bloberror.BlobArchived, bloberror.BlobImmutableDueToPolicy, bloberror.AccountIsDisabled:
		return fsapi.Access
	case bloberror.RequestBodyTooLarge, bloberror.BlockCountExceedsLimit:
		return fsapi.TooBig
	case bloberror.MD5Mismatch, bloberror.InternalError:
		return fsapi.IO
	}
	return provider.KindOfStatus(answer.StatusCode)
}

// kindedWrite is kinded for a write: a blob that is not there does not have the
// version wanted, and under no condition it is the container that is not there.
func kindedWrite(err error, c object.Condition) error {
	if code(err) != string(bloberror.BlobNotFound) {
		return kinded(err)
	}
	if c.Version() != "" {
		return fsapi.Wrap(fsapi.Precondition, err, "there is no object")
	}
	return fsapi.Wrap(fsapi.NoDevice, err, "there is no such container")
}
