package s3

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/strakefs/strake/internal/object/provider"
)

// checks are how a body is kept from being changed on its way. Every body goes
// with its CRC32C, which services that know it compare, and say so in their
// answer. Without TLS the client would sign bodies with their SHA-256 besides,
// which costs both sides more than all else they do with the bytes: once a service
// has compared a checksum, bodies are not signed (UNSIGNED-PAYLOAD, as with TLS).
// The header with the checksum is signed always.
//
// See "Checking object integrity" and "Authenticating requests: header based
// auth" of Amazon's S3 manual.
type checks struct {
	signed   bool        // bodies are signed whatever the service says
	compared atomic.Bool // the last answer had the checksum of its body
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC32C of a whole body, as S3 writes it: base64 of its
// big-endian bytes. It leaves the body where it is.
func checksum(body *io.SectionReader) (*string, error) {
	h := crc32.New(castagnoli)
	if err := provider.WriteBody(h, body); err != nil {
		return nil, err
	}
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32()))), nil
}

// learn looks at the answer to a body that was sent with a checksum.
func (c *checks) learn(sent, answered *string) {
	c.compared.Store(answered != nil && *answered == *sent)
}

// options are those of a request whose body goes with its checksum.
func (c *checks) options() []func(*s3.Options) {
	if c.signed || !c.compared.Load() {
		return nil
	}
	return []func(*s3.Options){s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)}
}
