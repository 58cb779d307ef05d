package frame

import (
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Codec is how a body is compressed. The numbers are stored: append only.
type Codec uint8

// The codecs.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1 // one S2 block (github.com/klauspost/compress/s2), a superset of Snappy's
	CodecZstd Codec = 2 // one Zstandard frame (RFC 8878) with its content size
)

var codecText = [...]string{"none", "s2", "zstd"}

// String is the codec's name.
func (c Codec) String() string {
	if int(c) < len(codecText) {
		return codecText[c]
	}
	return "unknown"
}

// probeSize is how much of a large chunk is tried before all of it: probes
// pieces spread over it.
const (
	probeSize = 4 << 10
	probes    = 3
)

// Codecs compresses and decompresses. Safe for concurrent use. Close it.
type Codecs struct {
	mu   sync.Mutex
	enc  map[zstd.EncoderLevel]*zstd.Encoder // guarded by mu
	dec  *zstd.Decoder
	conc int
}

// NewCodecs makes coders for up to workers goroutines at a time.
func NewCodecs(workers int) (*Codecs, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(policy.MaxChunk),
		zstd.WithDecoderMaxWindow(2*policy.MaxChunk), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "make a zstd decoder")
	}
	return &Codecs{enc: make(map[zstd.EncoderLevel]*zstd.Encoder), dec: dec, conc: workers}, nil
}

// Close ends the coders.
func (c *Codecs) Close() { c.dec.Close() }

// Compressor compresses in one way. Safe for concurrent use.
type Compressor struct {
	codec Codec
	zstd  *zstd.Encoder
}

// Compressor makes the compressor of a policy. cold says that the data is
// being rewritten in the background: auto is then zstd.
func (c *Codecs) Compressor(p policy.Compression, cold bool) (*Compressor, error) {
	name, level, ok := p.Level()
	switch {
	case !ok:
		return nil, fsapi.Errorf(fsapi.Invalid, "compression %q: want auto, none, s2 or zstd-1 to zstd-19", p)
	case name == "none":
		return &Compressor{codec: CodecNone}, nil
	case name == "s2" || name == "auto" && !cold:
		return &Compressor{codec: CodecS2}, nil
	case name == "auto":
		level = 3
	}
	enc, err := c.encoder(level)
	if err != nil {
		return nil, err
	}
	return &Compressor{codec: CodecZstd, zstd: enc}, nil
}

// encoder is the shared encoder of a level. The library has four speeds; its
// slowest has been reported to corrupt data, so "better" is the most there is.
func (c *Codecs) encoder(level int) (*zstd.Encoder, error) {
	l := min(zstd.EncoderLevelFromZstd(level), zstd.SpeedBetterCompression)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.enc[l]; e != nil {
		return e, nil
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(c.conc),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fsapi.Wrap(fsapi.Invalid, err, "make a zstd encoder")
	}
	c.enc[l] = e
	return e, nil
}

// Bound is how long the scratch buffer of Compress must be for n bytes.
func (c *Compressor) Bound(n int) int {
	if c.codec == CodecNone {
		return 0
	}
	return max(s2.MaxEncodedLen(n), n+n/128+64)
}

// Compress compresses src using scratch, of Bound(len(src)) bytes. Where that
// saves too little (1/32), body is src itself and the codec CodecNone. Data
// that cannot be compressed costs a few samples only.
func (c *Compressor) Compress(scratch, src []byte) (body []byte, codec Codec) {
	if c.codec == CodecNone || len(src) < 32 || !c.promising(scratch, src) {
		return src, CodecNone
	}
	var out []byte
	if c.codec == CodecS2 {
		out = s2.Encode(scratch, src)
	} else {
		out = c.zstd.EncodeAll(src, scratch[:0])
	}
	if len(out) > len(src)-len(src)/32 || len(out) >= len(src) {
		return src, CodecNone
	}
	return out, c.codec
}

// promising tries samples of a large chunk. Of a small one it says whether the
// slower codec is worth trying: where the fast one finds repetitions, or the
// bytes are not equally frequent.
func (c *Compressor) promising(scratch, src []byte) bool {
	if len(src) < 8*probeSize {
		return c.codec == CodecS2 || skewed(src) || len(s2.Encode(scratch, src)) < len(src)-len(src)/32
	}
	step := (len(src) - probeSize) / (probes - 1)
	for i := range probes {
		sample := src[i*step : i*step+probeSize]
		if len(s2.Encode(scratch, sample)) < probeSize-probeSize/32 {
			return true
		}
	}
	return false
}

// skewed reports whether some byte values are clearly more frequent than they
// would be in random data: then an entropy coder saves something. The sum of
// the squared counts of n random bytes is about n²/256 + n.
func skewed(src []byte) bool {
	if len(src) < 1024 {
		return true // too few to tell
	}
	var count [256]int
	for _, b := range src {
		count[b]++
	}
	sum, n := 0, len(src)
	for _, c := range count {
		sum += c * c
	}
	return sum > (n*n/256+n)*17/16
}

// Decompress fills dst, of the chunk's length exactly, from a body. The error
// is fsapi.Corrupt. Nothing is allocated by what the body claims.
func (c *Codecs) Decompress(dst, body []byte, codec Codec) error {
	switch codec {
	case CodecNone:
		if len(body) != len(dst) {
			return fsapi.Errorf(fsapi.Corrupt, "body of %d bytes for a chunk of %d", len(body), len(dst))
		}
		copy(dst, body)
		return nil
	case CodecS2:
		n, err := s2.DecodedLen(body)
		if err != nil || n != len(dst) {
			return fsapi.Errorf(fsapi.Corrupt, "s2 body of %d bytes for a chunk of %d", n, len(dst))
		}
		if _, err = s2.Decode(dst, body); err != nil {
			return fsapi.Wrap(fsapi.Corrupt, err, "decompress s2")
		}
		return nil
	case CodecZstd:
		out, err := c.dec.DecodeAll(body, dst[:0:len(dst)])
		if err != nil {
			return fsapi.Wrap(fsapi.Corrupt, err, "decompress zstd")
		}
		if len(out) != len(dst) {
			return fsapi.Errorf(fsapi.Corrupt, "zstd body of %d bytes for a chunk of %d", len(out), len(dst))
		}
		return nil
	}
	return fsapi.Errorf(fsapi.Corrupt, "compression %d is not known", codec)
}
