package checkpoint

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/sealed"
)

// maxPlain bounds a block's plaintext in bytes: a group and the largest batch
// fit.
const maxPlain = 512 << 20

// aeadOf derives a blob's cipher.
func aeadOf(storeKey []byte, h *header) cipher.AEAD {
	return sealed.Cipher(storeKey, h.salt[:], "strake metadata v1")
}

// sealer makes the bytes of a blob, block by block.
type sealer struct {
	aead   cipher.AEAD
	header []byte
	index  uint64
	packed []byte // scratch
}

func newSealer(storeKey []byte, h *header) *sealer {
	return &sealer{aead: aeadOf(storeKey, h), header: h.encode()}
}

// appendBlock appends a block, and before the first one the header, to dst.
func (s *sealer) appendBlock(dst, plain []byte, final bool) []byte {
	if s.index == 0 {
		dst = append(dst, s.header...)
	}
	s.packed = s2.Encode(s.packed[:cap(s.packed)], plain)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.packed)+s.aead.Overhead()))
	dst = s.aead.Seal(dst, sealed.Nonce(s.index, final), s.packed, s.header)
	s.index++
	return dst
}

// opener reads a blob of a drive, block by block, verifying all of it (D8).
type opener struct {
	header
	d      drive.Drive
	aead   cipher.AEAD
	raw    []byte // the header as it is stored
	size   int64
	off    int64
	index  uint64
	sealed []byte // scratch
	plain  []byte // scratch
	keep   bool   // plaintexts stay valid
}

// open reads a blob's header. Errors name drive and blob.
func open(ctx context.Context, d drive.Drive, o object, storeKey []byte) (*opener, error) {
	b, err := d.Stat(ctx, o.name())
	if err != nil {
		return nil, err
	}
	r := &opener{d: d, raw: make([]byte, headerLen), size: b.Size, off: headerLen}
	r.object = o
	if err := r.read(ctx, r.raw, 0); err != nil {
		return nil, err
	}
	h, err := decodeHeader(r.raw)
	if err != nil {
		return nil, r.failed(err)
	}
	if h.object != o {
		return nil, r.corrupt("its header belongs to %s", h.name())
	}
	r.header, r.aead = h, aeadOf(storeKey, &h)
	return r, nil
}

func (r *opener) read(ctx context.Context, p []byte, off int64) error {
	n, err := r.d.ReadAt(ctx, r.name(), off, p)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) || err == nil {
		return r.corrupt("it ends within its first %d bytes", off+int64(len(p)))
	}
	return err
}

func (r *opener) corrupt(format string, args ...any) error {
	return r.failed(fsapi.Errorf(fsapi.Corrupt, format, args...))
}

func (r *opener) failed(err error) error {
	return fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("drive %s: %s", r.d.Info().Name, r.name()))
}

// block returns the next block's plaintext, valid until the next call, or
// io.EOF after the last.
func (r *opener) block(ctx context.Context) ([]byte, error) {
	if r.off == r.size && r.index > 0 {
		return nil, io.EOF
	}
	var head [blockHeader]byte
	if err := r.read(ctx, head[:], r.off); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	end := r.off + blockHeader + n
	if end > r.size || n > maxPlain+maxPlain/4 {
		return nil, r.corrupt("block %d is cut short", r.index)
	}
	r.sealed = resize(r.sealed, int(n))
	if err := r.read(ctx, r.sealed, r.off+blockHeader); err != nil {
		return nil, err
	}
	packed, err := r.aead.Open(r.sealed[:0], sealed.Nonce(r.index, end == r.size), r.sealed, r.raw)
	if err != nil {
		return nil, r.corrupt("block %d does not verify", r.index)
	}
	if size, err := s2.DecodedLen(packed); err != nil || size > maxPlain {
		return nil, r.corrupt("block %d does not decompress", r.index)
	}
	if r.keep {
		r.plain = nil
	}
	if r.plain, err = s2.Decode(r.plain[:cap(r.plain)], packed); err != nil {
		return nil, r.corrupt("block %d does not decompress: %v", r.index, err)
	}
	r.off, r.index = end, r.index+1
	return r.plain, nil
}

func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// batches calls fn for every batch to the blob's end, checking their numbers.
// A batch is valid during the call only.
func (r *opener) batches(ctx context.Context, fn func(kv.Batch) error) error {
	next := r.first
	for {
		plain, err := r.block(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for len(plain) > 0 {
			var b kv.Batch
			if b, plain, err = kv.DecodeBatch(plain); err != nil {
				return r.failed(err)
			}
			if b.Seq != next {
				return r.corrupt("it holds batch %d where %d should be", b.Seq, next)
			}
			if r.kind == kindGroup {
				next++
			}
			if err := fn(b); err != nil {
				return err
			}
		}
	}
	if r.kind == kindGroup && next != r.last+1 {
		return r.corrupt("it ends before batch %d", next)
	}
	return nil
}

// verify reads a blob from its start to its end.
func verify(ctx context.Context, d drive.Drive, o object, storeKey []byte) error {
	r, err := open(ctx, d, o, storeKey)
	if err != nil {
		return err
	}
	return r.batches(ctx, func(kv.Batch) error { return nil })
}
