package checkpoint

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

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
	d     drive.Drive
	aead  cipher.AEAD
	raw   []byte // the header as it is stored
	size  int64
	off   int64 // of the next block
	index uint64
	ahead []byte // what was read from off on; in buf
	buf   []byte // scratch
	plain []byte // scratch
	keep  bool   // plaintexts stay valid
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
	if err := r.readAhead(ctx, blockHeader); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(r.ahead))
	end := r.off + blockHeader + n
	if end > r.size || n > maxPlain+maxPlain/4 {
		return nil, r.corrupt("block %d is cut short", r.index)
	}
	if err := r.readAhead(ctx, blockHeader+n); err != nil {
		return nil, err
	}
	body := r.ahead[blockHeader : blockHeader+n]
	r.ahead = r.ahead[blockHeader+n:]
	packed, err := r.aead.Open(body[:0], sealed.Nonce(r.index, end == r.size), body, r.raw)
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

// aheadBytes is how much is read at once: a bucket answers it about as soon as a
// single block.
const aheadBytes = 4 << 20

// readAhead has at least n bytes in ahead.
func (r *opener) readAhead(ctx context.Context, n int64) error {
	have := int64(len(r.ahead))
	if have >= n {
		return nil
	}
	if n > r.size-r.off {
		return r.corrupt("block %d is cut short", r.index)
	}
	want := int(min(max(n, aheadBytes), r.size-r.off))
	buf := slices.Grow(r.buf[:0], want)[:want]
	copy(buf, r.ahead) // which may be in it
	r.buf = buf
	if err := r.read(ctx, r.buf[have:], r.off+have); err != nil {
		return err
	}
	r.ahead = r.buf
	return nil
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
