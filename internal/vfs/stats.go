package vfs

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// counters are since New, but for handles.
type counters struct {
	handles   atomic.Int64
	read      atomic.Int64
	written   atomic.Int64
	syncs     atomic.Int64
	syncNanos atomic.Int64
	flights   atomic.Int64
	legs      atomic.Int64
	flown     atomic.Int64
	failures  atomic.Int64
}

// Stats of a volume since it was opened.
type Stats struct {
	Inodes     int64         // in memory now
	Handles    int64         // open now
	Locks      int64         // held now
	DirtyBytes int64         // memory that holds dirty data now
	Read       int64         // bytes given to readers
	Written    int64         // bytes taken from writers
	Syncs      int64         // calls of fsync
	SyncTime   time.Duration // all of them took
	Flushes    int64         // transactions of write-back
	Flushed    int64         // files written back, each time counted
	Stored     int64         // bytes written back
	Failures   int64         // write-backs that failed
}

// Stats implements Admin.
func (fs *Local) Stats() Stats {
	s := &fs.stats
	return Stats{
		Inodes: int64(fs.nodes.count()), Handles: s.handles.Load(), Locks: int64(fs.locks.count()),
		DirtyBytes: fs.pages.inUse.Load(), Read: s.read.Load(), Written: s.written.Load(),
		Syncs: s.syncs.Load(), SyncTime: time.Duration(s.syncNanos.Load()),
		Flushes: s.flights.Load(), Flushed: s.legs.Load(), Stored: s.flown.Load(), Failures: s.failures.Load(),
	}
}

// statsText is the content of .strake/stats.
func (fs *Local) statsText(ctx context.Context) ([]byte, error) {
	u, err := fs.usage(ctx)
	if err != nil {
		return nil, err
	}
	s := fs.Stats()
	var b strings.Builder
	line := func(name string, v int64) { fmt.Fprintf(&b, "%-22s %d\n", name, v) }
	line("usage_bytes", u.Bytes)
	line("usage_inodes", u.Inodes)
	line("cached_inodes", s.Inodes)
	line("open_handles", s.Handles)
	line("locks", s.Locks)
	line("dirty_bytes", s.DirtyBytes)
	line("read_bytes", s.Read)
	line("written_bytes", s.Written)
	line("fsyncs", s.Syncs)
	line("fsync_nanoseconds", int64(s.SyncTime))
	line("flushes", s.Flushes)
	line("flushed_files", s.Flushed)
	line("flushed_bytes", s.Stored)
	line("flush_failures", s.Failures)
	return []byte(b.String()), nil
}
