// Package pebble is the kv engine of one machine: a Pebble database whose
// write-ahead log is the log of batches.
//
// It owns: the directory of the database, the kv.Store over Pebble, the adapter
// from osfs to Pebble's file seam and the guard that freezes a failed disk. It
// must not know transactions, nor what keys mean.
//
// Goroutines: Pebble's own, and one that waits for the readers of a database
// that another has replaced; Close waits for them.
//
// Failure. Pebble answers a failed write of its log or manifest by panicking or
// by ending the process, with locks held. So the guard never lets it see one:
// at the first such error it freezes the directory as it is (as a crash at that
// moment would leave it) and lets every later change vanish, while the store
// answers Apply and Sync with the error. Views go on from memory and from the
// files that are there.
//
// Recovery is what follows a crash, without one: the directory is opened once
// more beside the frozen database, which writes all that its logs hold into new
// tables; the batches that they lack are applied; and when all is durable the
// new database takes the place of the old, which ends with its last reader.
// Files of the old one that the new one has no use for are kept until then.
package pebble

import (
	"errors"
	"io"
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
	base, err := newStore(o, fs)
	if err != nil {
		return nil, err
	}
	s := &logged{store: base}
	e, err := s.engine()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return e, nil
}

// engine opens the directory, reads where its log ended and starts the
// transaction layer.
func (s *logged) engine() (kv.Engine, error) {
	o := &s.o
	if err := checkMarker(s.fs, o.Dir); err != nil {
		return nil, err
	}
	recovered, err := readLogs(s.fs, o.Dir, o.TailBytes)
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	c := kv.Config{TailBytes: o.TailBytes, Clock: o.Clock, Rand: o.Rand}
	if c.Last, err = s.cur.Load().position(); err != nil {
		return nil, openError(o.Dir, err)
	}
	// Pebble may have dropped a torn end that the reading of the logs accepted,
	// or know of batches whose log is gone.
	for len(recovered) > 0 && recovered[len(recovered)-1].Seq > c.Last.Seq {
		recovered = recovered[:len(recovered)-1]
	}
	if n := len(recovered); n > 0 && recovered[n-1].Seq == c.Last.Seq {
		c.Recovered = recovered
	}
	e, err := kv.NewEngine(s, c)
	return e, fsapi.Wrap(errKind2(err), err, "kv: open "+o.Dir)
}

// lockDir takes the lock of a directory.
func lockDir(dir string, fs vfs.FS) (io.Closer, error) {
	lock, err := fs.Lock(fs.PathJoin(dir, lockName))
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EAGAIN) {
		return nil, fsapi.Errorf(fsapi.Busy, "kv: %s is in use by another process: %w", dir, err)
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	return lock, nil
}

// lockName is the file that Pebble locks, in its directory.
const lockName = "LOCK"

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

// options of the database: two cores, bounded memory, metadata-sized values
// with now and then a journal frame.
func (d *database) options(o Options, cache *pebble.Cache) *pebble.Options {
	po := &pebble.Options{
		FS:                 d.guard,
		FormatMajorVersion: pebble.FormatValueSeparation,
		Merger:             counterMerger(),
		Logger:             logger{d},
		Cache:              cache,
		MemTableSize:       uint64(o.MemTableBytes),
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
	po.EventListener = d.listener()
	return po
}

// logger passes Pebble's messages on. Pebble reports to it what it cannot go on
// from and expects not to return; here that closes the store for writing.
type logger struct{ d *database }

var _ pebble.Logger = logger{}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.d.log.Warn("metadata store", "dir", l.d.dir, "msg", fsapi.Errorf(fsapi.IO, format, args...).Error())
}

func (l logger) Fatalf(format string, args ...any) {
	l.d.guard.fail(fsapi.Errorf(fsapi.IO, "kv: "+format, args...))
}
