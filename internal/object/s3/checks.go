package s3

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/strakefs/strake/internal/object/provider"
)

// checks are how a body is kept from being changed on its way. Every body goes
// with its CRC32C, which services that know it compare, and say so in their
// answer. Without TLS the client would sign bodies with their SHA-256 besides,
// which costs both sides more than all else they do with the bytes: once a service
// has compared a checksum, bodies are not signed (UNSIGNED-PAYLOAD, as with TLS).
// The header with the checksum is signed always. Some services refuse requests that
// have it: they get none after the first.
//
// See "Checking object integrity" and "Authenticating requests: header based
// auth" of Amazon's S3 manual.
type checks struct {
	signed   bool        // bodies are signed whatever the service says
	compared atomic.Bool // the last answer had the checksum of its body
	refused  atomic.Bool // the service wants none
}

// sum is the checksum of a body; nil where the service wants none.
func (c *checks) sum(body *io.SectionReader) (*string, error) {
	if c.refused.Load() {
		return nil, nil
	}
	sum, err := provider.CRC32C(body)
	return &sum, err
}

// learn looks at the answer to a body that was sent with a checksum.
func (c *checks) learn(sent, answered *string) {
	if sent != nil {
		c.compared.Store(answered != nil && *answered == *sent)
	}
}

// algorithm is what an upload in parts is to be checked by; empty where the service
// wants nothing of it.
func (c *checks) algorithm() types.ChecksumAlgorithm {
	if c.refused.Load() {
		return ""
	}
	return types.ChecksumAlgorithmCrc32c
}

// without makes a request anew, without its checksum, if err, which it ended with, may
// mean that the service takes none. Where that helps none is sent any more.
func (c *checks) without(err error, request func() error) error {
	if !refusal(err) {
		return err
	}
	err = request()
	if err == nil {
		c.refused.Store(true)
	}
	return err
}

// refusal reports whether an error may say that a service takes no checksums:
// Backblaze says InvalidArgument and names the header, Cloudflare NotImplemented.
func refusal(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "InvalidArgument", "InvalidRequest":
		return strings.Contains(strings.ToLower(api.ErrorMessage()), "checksum")
	case "NotImplemented":
		return true
	}
	return false
}

// options are those of a request whose body goes with the checksum sum.
func (c *checks) options(sum *string) []func(*s3.Options) {
	if sum == nil || c.signed || !c.compared.Load() {
		return nil
	}
	return []func(*s3.Options){s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)}
}
