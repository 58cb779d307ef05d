package kv

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// An encoded batch, for shipping to drives, buckets and peers. Integers are
// little-endian; uvarint is as in encoding/binary, in its shortest form.
//
//	offset size
//	0      4    magic "SKB1": the last byte is the version
//	4      4    CRC-32C of everything from offset 8 to the end
//	8      4    length of the operations in bytes
//	12     8    seq
//	20     8    stamp
//	28     n    operations, one after another:
//	            1 byte kind: 1 put, 2 delete, 3 add
//	            uvarint length of key (1 to 16 KiB), key
//	            put: uvarint length of value (0 to 32 MiB), value
//	            add: 8 bytes delta, two's complement
//
// Operations apply in order. Encoded batches may be concatenated.
const (
	batchMagic  = "SKB1"
	batchHeader = 28
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// AppendBatch appends the encoding of b to dst.
func AppendBatch(dst []byte, b Batch) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, batchHeader)...)
	for i := range b.Ops {
		dst = appendOp(dst, &b.Ops[i])
	}
	sealBatch(dst[start:], b.Seq, b.Stamp)
	return dst
}

// AppendCommit appends the encoding of the batch that c is, without the operation
// that sets StateKey: DecodeCommit adds it again.
func AppendCommit(dst []byte, c Commit) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, batchHeader)...)
	dst = append(dst, c.Ops[:len(c.Ops)-stateOp]...)
	sealBatch(dst[start:], c.Seq, c.Stamp)
	return dst
}

// DecodeCommit reads the batch at the start of src for a Store to apply, and
// returns what follows it. The Commit does not alias src. Errors are those of
// DecodeBatch.
func DecodeCommit(src []byte) (c Commit, rest []byte, err error) {
	b, ops, rest, err := cutBatch(src)
	if err != nil {
		return c, src, err
	}
	r := ReadOps(ops)
	for r.Next() { //nolint:revive // it is the check that all of them read
	}
	if r.Err() != nil {
		return c, src, r.Err()
	}
	p := Position{Seq: b.Seq, Stamp: b.Stamp}
	enc := append(make([]byte, 0, len(ops)+stateOp), ops...)
	return Commit{Seq: b.Seq, Stamp: b.Stamp, Ops: appendState(enc, p)}, rest, nil
}

// appendState appends the operation that ends every Commit.
func appendState(enc []byte, p Position) []byte {
	enc = appendKey(enc, OpPut, []byte(stateKey))
	enc = append(enc, stateSize)
	return appendPosition(enc, p)
}

// sealBatch fills the header of a batch whose operations are in place.
func sealBatch(b []byte, seq Seq, stamp clock.Stamp) {
	copy(b, batchMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-batchHeader))
	binary.LittleEndian.PutUint64(b[12:], uint64(seq))
	binary.LittleEndian.PutUint64(b[20:], uint64(stamp))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli()))
}

func appendOp(dst []byte, op *Op) []byte {
	dst = appendKey(dst, op.Kind, op.Key)
	switch op.Kind {
	case OpPut:
		dst = binary.AppendUvarint(dst, uint64(len(op.Value)))
		dst = append(dst, op.Value...)
	case OpAdd:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(op.Delta))
	}
	return dst
}

func appendKey(dst []byte, kind OpKind, key []byte) []byte {
	dst = append(dst, byte(kind))
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	return append(dst, key...)
}

// DecodeBatch reads the batch at the start of src and returns what follows it.
// Keys and values alias src. A batch cut short, changed or of an unknown
// version is fsapi.Corrupt.
func DecodeBatch(src []byte) (b Batch, rest []byte, err error) {
	b, ops, rest, err := cutBatch(src)
	if err == nil {
		b.Ops, err = decodeOps(ops)
	}
	if err != nil {
		return Batch{}, src, err
	}
	return b, rest, nil
}

// cutBatch checks the frame of the batch at the start of src: b has no
// operations yet, ops are they as encoded.
func cutBatch(src []byte) (b Batch, ops, rest []byte, err error) {
	if len(src) < batchHeader {
		return b, nil, src, fsapi.Errorf(fsapi.Corrupt, "kv: batch header of %d bytes cut short to %d", batchHeader, len(src))
	}
	if string(src[:4]) != batchMagic {
		return b, nil, src, fsapi.Errorf(fsapi.Corrupt, "kv: batch starts with %q instead of %q", src[:4], batchMagic)
	}
	n := int64(binary.LittleEndian.Uint32(src[8:]))
	if n > int64(len(src)-batchHeader) {
		return b, nil, src, fsapi.Errorf(fsapi.Corrupt, "kv: batch of %d bytes cut short to %d", n, len(src)-batchHeader)
	}
	end := batchHeader + int(n)
	if sum := crc32.Checksum(src[8:end], castagnoli()); sum != binary.LittleEndian.Uint32(src[4:]) {
		return b, nil, src, fsapi.Errorf(fsapi.Corrupt, "kv: batch checksum mismatch")
	}
	b.Seq = Seq(binary.LittleEndian.Uint64(src[12:]))
	b.Stamp = clock.Stamp(binary.LittleEndian.Uint64(src[20:]))
	return b, src[batchHeader:end:end], src[end:], nil
}

func decodeOps(enc []byte) ([]Op, error) {
	n := 0
	r := OpReader{rest: enc}
	for r.Next() {
		n++
	}
	if r.Err() != nil || n == 0 {
		return nil, r.Err()
	}
	ops := make([]Op, 0, n)
	for r = (OpReader{rest: enc}); r.Next(); {
		ops = append(ops, r.Op)
	}
	return ops, nil
}

// OpReader walks encoded operations without allocating.
type OpReader struct {
	// Op is the current operation. It aliases the encoding.
	Op   Op
	rest []byte
	err  error
}

// ReadOps walks the operations of a Commit or of the body of a batch.
func ReadOps(enc []byte) OpReader { return OpReader{rest: enc} }

// Err is why Next returned false before the end: fsapi.Corrupt, or nil.
func (r *OpReader) Err() error { return r.err }

// Next moves to the next operation.
func (r *OpReader) Next() bool {
	if len(r.rest) == 0 {
		return false
	}
	kind := OpKind(r.rest[0])
	key, rest, ok := cutBytes(r.rest[1:], MaxKey)
	if !ok || len(key) == 0 {
		return r.corrupt("key")
	}
	r.Op = Op{Kind: kind, Key: key}
	switch kind {
	case OpPut:
		if r.Op.Value, rest, ok = cutBytes(rest, MaxValue); !ok {
			return r.corrupt("value")
		}
	case OpDelete:
	case OpAdd:
		if len(rest) < 8 {
			return r.corrupt("delta")
		}
		r.Op.Delta = int64(binary.LittleEndian.Uint64(rest))
		rest = rest[8:]
	default:
		return r.corrupt("kind")
	}
	r.rest = rest
	return true
}

func (r *OpReader) corrupt(what string) bool {
	r.err = fsapi.Errorf(fsapi.Corrupt, "kv: bad %s in a batch, %d bytes before its end", what, len(r.rest))
	r.rest, r.Op = nil, Op{}
	return false
}

// cutBytes takes a length-prefixed string of at most limit bytes off b.
func cutBytes(b []byte, limit uint64) (s, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || w > 1 && b[w-1] == 0 || n > limit || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}
