// Package pebble is the kv engine of one machine: a Pebble database whose
// write-ahead log is the log of batches.
//
// It owns: the directory of the database, the kv.Store over Pebble, the adapter
// from osfs to Pebble's file seam and the guard that freezes a failed disk. It
// must not know transactions, nor what keys mean.
//
// Goroutines: only Pebble's own; Close waits for them.
//
// Failure. Pebble answers a failed write of its log or manifest by panicking or
// by ending the process, with locks held. So the guard never lets it see one:
// at the first such error it freezes the directory as it is (as a crash at that
// moment would leave it) and lets every later change vanish, while the store
// answers Apply and Sync with the error. Views go on from memory and from the
// files that are there.
package pebble

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/osfs"
)

// Defaults of Options, in bytes.
const (
	DefaultCacheBytes    = 64 << 20
	DefaultMemTableBytes = 32 << 20
)

// Options of an engine. FS and Dir are required.
type Options struct {
	// FS holds Dir, a directory of the engine's own, made if it is not there.
	FS  osfs.FS
	Dir string
	// Clock stamps batches and waits; nil is clock.Real.
	Clock clock.Clock
	// Rand jitters retries: a number below n. Nil is the runtime's source.
	Rand func(n int64) int64
	// CacheBytes bounds the cache of uncompressed blocks.
	CacheBytes int64
	// MemTableBytes is the size of one memtable. Up to memTables of them are
	// in memory while the disk is slower than the writers.
	MemTableBytes int64
	// TailBytes is as in kv.Config.
	TailBytes int64
	// Log takes what people should know; nil is slog.Default.
	Log *slog.Logger
}

// memTables is how many memtables may wait before Update is held up: the one
// written, one being flushed, one more.
const memTables = 3

// maxSublevels is the read amplification of level 0 at which Update is held up.
const maxSublevels = 24

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.TailBytes == 0 {
		o.TailBytes = kv.DefaultTailBytes
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// Open opens the engine in o.Dir, with everything that was durable there. A
// directory open elsewhere is fsapi.Busy, one that does not read is Corrupt.
func Open(o Options) (kv.Engine, error) {
	o.setDefaults()
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, fsapi.Wrap(errKind(err), err, "kv: make directory "+o.Dir)
	}
	return open(o, adapter{o.FS})
}

// makeDir makes dir, and its name durable, even where an earlier process made
// it and ended before it could.
func makeDir(fs osfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d, up := dir, path.Dir(dir); up != d; d, up = up, path.Dir(up) {
		if err := fs.SyncDir(up); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

// open is Open over Pebble's own seam.
func open(o Options, fs vfs.FS) (kv.Engine, error) {
	lock, err := pebble.LockDirectory(o.Dir, fs)
	if err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EAGAIN) {
			return nil, fsapi.Errorf(fsapi.Busy, "kv: %s is in use by another process: %w", o.Dir, err)
		}
		return nil, openError(o.Dir, err)
	}
	defer lock.Close() // the database holds a reference of its own
	if err := checkMarker(fs, o.Dir); err != nil {
		return nil, err
	}
	recovered, err := readLogs(fs, o.Dir, o.TailBytes)
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	s := newStore(o, fs)
	s.db, err = pebble.Open(o.Dir, s.options(o, lock))
	if err != nil {
		return nil, openError(o.Dir, cmp.Or(s.guard.failure(), err))
	}
	s.counters = newCounters(s.db)
	s.guard.opened.Store(true)
	if err := s.guard.failure(); err != nil {
		return nil, openError(o.Dir, cmp.Or(s.Close(), err))
	}
	e, err := s.engine(o, recovered)
	if err != nil {
		return nil, errors.Join(openError(o.Dir, err), s.Close())
	}
	return e, nil
}

// markerPrefix begins the names of Pebble's markers, empty files whose names say
// what is current; manifestMarker that of the one that names the manifest.
const (
	markerPrefix   = "marker."
	manifestMarker = "marker.manifest."
)

// checkMarker refuses a directory with tables but nothing that says which of
// them count: Pebble would begin anew, and remove them.
func checkMarker(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return openError(dir, err)
	}
	table := ""
	for _, name := range names {
		if strings.HasPrefix(name, manifestMarker) {
			return nil
		}
		if isTable(name) {
			table = name
		}
	}
	if table == "" {
		return nil
	}
	return fsapi.Errorf(fsapi.Corrupt, "kv: %s holds %s but no %s* file, without which nothing tells what is current: restore the directory, or rebuild it from the drives", dir, table, manifestMarker)
}

func openError(dir string, err error) error {
	return fsapi.Wrap(errKind(err), err, "kv: open "+dir)
}

// errKind classifies an error of the file system or of Pebble.
func errKind(err error) fsapi.Kind {
	switch {
	case fsapi.KindOf(err) != fsapi.Other:
		return fsapi.KindOf(err)
	case pebble.IsCorruptionError(err):
		return fsapi.Corrupt
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fsapi.NoSpace
	}
	return fsapi.IO
}

// engine reads where the log ended and starts the transaction layer.
func (s *store) engine(o Options, recovered []kv.Batch) (kv.Engine, error) {
	c := kv.Config{TailBytes: o.TailBytes, Clock: o.Clock, Rand: o.Rand}
	var err error
	if c.Last, err = s.position(); err != nil {
		return nil, err
	}
	// Pebble may have dropped a torn end that the reading of the logs accepted,
	// or know of batches whose log is gone.
	for len(recovered) > 0 && recovered[len(recovered)-1].Seq > c.Last.Seq {
		recovered = recovered[:len(recovered)-1]
	}
	if n := len(recovered); n > 0 && recovered[n-1].Seq == c.Last.Seq {
		c.Recovered = recovered
	}
	return kv.NewEngine(s, c)
}

// position is that of the newest batch in the database.
func (s *store) position() (p kv.Position, err error) {
	r, err := s.NewReader()
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v, ok, err := r.Get(kv.StateKey())
	if err != nil || !ok {
		return p, err
	}
	return kv.DecodePosition(v)
}

// options of the database: two cores, bounded memory, metadata-sized values
// with now and then a journal frame.
func (s *store) options(o Options, lock *pebble.Lock) *pebble.Options {
	po := &pebble.Options{
		FS:                 s.guard,
		Lock:               lock,
		FormatMajorVersion: pebble.FormatValueSeparation,
		Merger:             counterMerger(),
		Logger:             logger{s},
		// Pebble takes what memtables occupy out of the cache.
		CacheSize:    o.CacheBytes + memTables*o.MemTableBytes,
		MemTableSize: uint64(o.MemTableBytes),
		// Writers are held up by Admit, where they can be told why and give up.
		MemTableStopWritesThreshold: 64,
		L0StopWritesThreshold:       1 << 20,
		L0CompactionThreshold:       4,
		LBaseMaxBytes:               max(64<<20, 2*o.MemTableBytes),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		MaxOpenFiles:                1000,
		BytesPerSync:                512 << 10,
		// Keeps the flush at a log's end short; that one runs under locks.
		WALBytesPerSync: 512 << 10,
	}
	po.TargetFileSizes[0] = 4 << 20
	for i := range po.Levels {
		po.Levels[i].BlockSize = 8 << 10
		po.Levels[i].IndexBlockSize = 32 << 10
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	po.EventListener = s.listener()
	return po
}

// logger passes Pebble's messages on. Pebble reports to it what it cannot go on
// from and expects not to return; here that closes the store for writing.
type logger struct{ s *store }

var _ pebble.Logger = logger{}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.s.log.Warn("metadata store", "dir", l.s.dir, "msg", fsapi.Errorf(fsapi.IO, format, args...).Error())
}

func (l logger) Fatalf(format string, args ...any) {
	l.s.guard.fail(fsapi.Errorf(fsapi.IO, "kv: "+format, args...))
}

var _ kv.Store = (*store)(nil)

// Stats implements kv.Store.
func (s *store) Stats() kv.Stats {
	m := s.db.Metrics()
	return kv.Stats{DiskBytes: int64(m.DiskSpaceUsage()), LogBytes: int64(m.WAL.Size)}
}

// Admit implements kv.Store.
func (s *store) Admit(ctx context.Context) error {
	for {
		changed, err := s.pressure()
		if changed == nil || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.guard.frozen:
			return nil // Apply says why
		case <-ctx.Done():
			return fsapi.Errorf(fsapi.Interrupted, "kv: waiting for the disk: %w", context.Cause(ctx))
		}
	}
}
