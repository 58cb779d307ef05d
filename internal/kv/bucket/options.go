package bucket

import (
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/osfs"
)

// Defaults of Options.
const (
	DefaultDiskBytes         = 4 << 30
	DefaultCacheBytes        = 64 << 20
	DefaultMemTableBytes     = 32 << 20
	DefaultPendingBytes      = 128 << 20
	DefaultObjectBytes       = 16 << 20
	DefaultCheckpointBytes   = 64 << 20
	DefaultCheckpointObjects = 1000
	DefaultReadTimeout       = 20 * time.Second
	DefaultCloseWait         = 30 * time.Second
	DefaultFenceCheck        = time.Minute
	DefaultGarbageAge        = time.Hour
	DefaultPollMin           = 200 * time.Millisecond
	DefaultPollMax           = 10 * time.Second
)

// Options of an engine. Objects, Key, FS and Dir are required; what is zero is the
// default of its name.
type Options struct {
	// Objects hold the state. Nothing else is kept in them. The engine does not
	// close them.
	Objects object.Store
	// Key seals what goes into the bucket: 32 bytes.
	Key []byte
	// FS holds Dir, a directory of the engine's own for what is cached of the
	// bucket. It may be removed whenever no engine runs.
	FS  osfs.FS
	Dir string
	// Holder names this writer to people, in the bucket.
	Holder string
	// Lease makes up for a store that keeps no conditions: see Lease. Nil: such
	// a store is refused.
	Lease *Lease

	// DiskBytes bounds the tables cached in Dir; those that are not yet in the
	// bucket come on top.
	DiskBytes int64
	// CacheBytes and MemTableBytes are as in pebble.Options.
	CacheBytes, MemTableBytes int64
	// TailBytes is as in kv.Config.
	TailBytes int64
	// PendingBytes is how much may wait for the bucket before Update is held up.
	PendingBytes int64
	// ObjectBytes is the size of a journal object, before it is compressed, from
	// which another is begun. One batch is never split.
	ObjectBytes int64
	// CheckpointBytes and CheckpointObjects of journal since the last checkpoint
	// are what it takes for the next. They bound what a start reads.
	CheckpointBytes, CheckpointObjects int64
	// ReadTimeout is how long a read of what is not cached waits for the bucket.
	ReadTimeout time.Duration
	// CloseWait is how long Close waits for a bucket that does not answer.
	CloseWait time.Duration
	// FenceCheck is how often a writer that writes nothing looks whether another
	// took over: one request each. Negative: never.
	FenceCheck time.Duration
	// GarbageAge is how long objects stay that the newest manifest does not need,
	// for followers and machines that are just starting. Negative: for ever.
	GarbageAge time.Duration
	// PollMin and PollMax are how often a follower looks for new batches: the
	// first while there are some, the second after a time without.
	PollMin, PollMax time.Duration

	// still keeps tables from being compacted, so that a test knows where they are.
	still bool

	// Clock stamps batches and waits; nil is clock.Real.
	Clock clock.Clock
	// Rand jitters retries: a number below n. Nil is the runtime's source.
	Rand func(n int64) int64
	// Random fills p with random bytes that make keys and names unique; nil is
	// crypto/rand. Concurrent.
	Random func(p []byte)
	// Log takes what people should know; nil is slog.Default.
	Log *slog.Logger
}

func orDefault[T int64 | time.Duration](p *T, d T) {
	if *p == 0 {
		*p = d
	}
}

func (o *Options) setDefaults() {
	orDefault(&o.DiskBytes, DefaultDiskBytes)
	orDefault(&o.CacheBytes, DefaultCacheBytes)
	orDefault(&o.MemTableBytes, DefaultMemTableBytes)
	orDefault(&o.TailBytes, kv.DefaultTailBytes)
	orDefault(&o.PendingBytes, DefaultPendingBytes)
	orDefault(&o.ObjectBytes, DefaultObjectBytes)
	orDefault(&o.CheckpointBytes, DefaultCheckpointBytes)
	orDefault(&o.CheckpointObjects, DefaultCheckpointObjects)
	orDefault(&o.ReadTimeout, DefaultReadTimeout)
	orDefault(&o.CloseWait, DefaultCloseWait)
	orDefault(&o.FenceCheck, DefaultFenceCheck)
	orDefault(&o.GarbageAge, DefaultGarbageAge)
	orDefault(&o.PollMin, DefaultPollMin)
	orDefault(&o.PollMax, DefaultPollMax)
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Random == nil {
		o.Random = func(p []byte) { rand.Read(p) }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// waits are between attempts to write to a bucket that does not answer.
func (o *Options) waits() backoff.Policy {
	p := backoff.Policy{Base: 200 * time.Millisecond, Max: 10 * time.Second, Clock: o.Clock}
	if o.Rand != nil {
		p.Random = func() float64 { return float64(o.Rand(1<<20)) / (1 << 20) }
	}
	return p
}
