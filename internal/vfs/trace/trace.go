// Package trace is a decorator of vfs.FS that counts and times every call and
// writes them to an access log while somebody reads it.
//
// It owns: the figures and lines about calls. It must not know what a call
// does; it passes the vfs conformance suite unchanged.
package trace

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// op numbers the calls, for tables without locks.
type op uint8

const (
	opLookup op = iota
	opGetattr
	opSetattr
	opAccess
	opReadlink
	opMknod
	opCreate
	opLink
	opUnlink
	opRmdir
	opRename
	opOpen
	opOpendir
	opGetxattr
	opSetxattr
	opListxattr
	opRemovexattr
	opStatfs
	opBatch
	opSyncfs
	opRead
	opWrite
	opTruncate
	opFlush
	opFsync
	opFallocate
	opSeek
	opCopyRange
	opGetlk
	opSetlk
	opReaddir
	opFsyncdir
	opCount
)

var opNames = [opCount]string{
	"lookup", "getattr", "setattr", "access", "readlink", "mknod", "create", "link", "unlink", "rmdir", "rename",
	"open", "opendir", "getxattr", "setxattr", "listxattr", "removexattr", "statfs", "batch", "syncfs", "read", "write",
	"truncate", "flush", "fsync", "fallocate", "lseek", "copy_file_range", "getlk", "setlk", "readdir", "fsyncdir",
}

// bounds of the latency histogram, in seconds.
var bounds = [...]float64{20e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 5}

// figures of one call. All atomic.
type figures struct {
	errs    atomic.Uint64
	sum     atomic.Int64 // nanoseconds
	bytes   atomic.Uint64
	buckets [len(bounds) + 1]atomic.Uint64
}

// Log is where traced calls of all volumes are counted and logged. Safe for
// concurrent use. It is a prometheus.Collector.
type Log struct {
	ops     [opCount]figures
	readers atomic.Int32
	mu      sync.Mutex
	subs    map[chan string]struct{} // guarded by mu
}

// NewLog makes an empty log.
func NewLog() *Log { return &Log{subs: map[chan string]struct{}{}} }

// Subscribe gets a line for every call from now on; lines that a slow reader
// does not take are dropped. stop ends it.
func (l *Log) Subscribe() (lines <-chan string, stop func()) {
	ch := make(chan string, 4096)
	l.mu.Lock()
	l.subs[ch] = struct{}{}
	l.mu.Unlock()
	l.readers.Add(1)
	return ch, sync.OnceFunc(func() {
		l.mu.Lock()
		delete(l.subs, ch)
		l.mu.Unlock()
		l.readers.Add(-1)
	})
}

// done counts a call that began at start.
func (l *Log) done(o op, start time.Time, c *fsapi.Cred, ino fsapi.Ino, detail string, n int, err error) {
	took := time.Since(start)
	f := &l.ops[o]
	f.sum.Add(int64(took))
	f.bytes.Add(uint64(n))
	s := took.Seconds()
	i := 0
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	f.buckets[i].Add(1)
	if err != nil && fsapi.KindOf(err) != fsapi.NotExist {
		f.errs.Add(1)
	}
	if l.readers.Load() > 0 {
		l.write(o, start, took, c, ino, detail, n, err)
	}
}

func (l *Log) write(o op, start time.Time, took time.Duration, c *fsapi.Cred, ino fsapi.Ino, detail string, n int, err error) {
	result := "ok"
	if err != nil {
		result = fsapi.KindOf(err).Error()
	}
	who := "-"
	if c != nil {
		who = fmt.Sprintf("%s:%d:%d", c.Door, c.Uid, c.Gid)
	}
	line := fmt.Sprintf("%s [%s] %s(%d,%q,%d): %s <%.6f>\n", start.Format("2006-01-02T15:04:05.000000"), who, opNames[o], ino, detail, n, result, took.Seconds())
	l.mu.Lock()
	defer l.mu.Unlock()
	for ch := range l.subs {
		select {
		case ch <- line:
		default:
		}
	}
}

var (
	durationDesc = prometheus.NewDesc("strake_vfs_op_seconds", "Time that file system calls took.", []string{"op"}, nil)
	errorsDesc   = prometheus.NewDesc("strake_vfs_op_errors_total", "File system calls that failed, but for names not found.", []string{"op"}, nil)
	bytesDesc    = prometheus.NewDesc("strake_vfs_op_bytes_total", "Bytes that reads and writes moved.", []string{"op"}, nil)
)

// Describe is of prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) {
	ch <- durationDesc
	ch <- errorsDesc
	ch <- bytesDesc
}

// Collect is of prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	for o := range opCount {
		f := &l.ops[o]
		buckets, total := map[float64]uint64{}, uint64(0)
		for i, b := range bounds {
			total += f.buckets[i].Load()
			buckets[b] = total
		}
		total += f.buckets[len(bounds)].Load()
		sum := time.Duration(f.sum.Load()).Seconds()
		ch <- prometheus.MustNewConstHistogram(durationDesc, total, sum, buckets, opNames[o])
		ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(f.errs.Load()), opNames[o])
		if o == opRead || o == opWrite {
			ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(f.bytes.Load()), opNames[o])
		}
	}
}

// FS is a traced FS.
type FS struct {
	vfs.FS
	log *Log
}

// Wrap traces fs into log.
func Wrap(fs vfs.FS, log *Log) *FS { return &FS{fs, log} }

var (
	_ vfs.FS   = (*FS)(nil)
	_ vfs.File = (*file)(nil)
	_ vfs.Dir  = (*dir)(nil)
)

// Lookup and the methods below are those of vfs.FS.
func (t *FS) Lookup(ctx context.Context, c *fsapi.Cred, d fsapi.Ino, name string) (a fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Lookup(ctx, c, d, name)
	t.log.done(opLookup, start, c, d, name, 0, err)
	return a, err
}

// Getattr is of vfs.FS.
func (t *FS) Getattr(ctx context.Context, ino fsapi.Ino) (a fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Getattr(ctx, ino)
	t.log.done(opGetattr, start, nil, ino, "", 0, err)
	return a, err
}

// Setattr is of vfs.FS.
func (t *FS) Setattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, s vfs.SetAttr) (a fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Setattr(ctx, c, ino, s)
	t.log.done(opSetattr, start, c, ino, "", 0, err)
	return a, err
}

// Access is of vfs.FS.
func (t *FS) Access(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, want uint32) error {
	start := time.Now()
	err := t.FS.Access(ctx, c, ino, want)
	t.log.done(opAccess, start, c, ino, "", int(want), err)
	return err
}

// Readlink is of vfs.FS.
func (t *FS) Readlink(ctx context.Context, ino fsapi.Ino) (s string, err error) {
	start := time.Now()
	s, err = t.FS.Readlink(ctx, ino)
	t.log.done(opReadlink, start, nil, ino, s, 0, err)
	return s, err
}

// Mknod is of vfs.FS.
func (t *FS) Mknod(ctx context.Context, c *fsapi.Cred, d fsapi.Ino, name string, n vfs.NewNode) (a fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Mknod(ctx, c, d, name, n)
	t.log.done(opMknod, start, c, d, name, 0, err)
	return a, err
}

// Create is of vfs.FS.
func (t *FS) Create(ctx context.Context, c *fsapi.Cred, d fsapi.Ino, name string, n vfs.NewNode, flags vfs.OpenFlags) (fsapi.Attr, vfs.File, error) {
	start := time.Now()
	a, f, err := t.FS.Create(ctx, c, d, name, n, flags)
	t.log.done(opCreate, start, c, d, name, 0, err)
	if err != nil {
		return a, nil, err
	}
	return a, &file{f, t.log}, nil
}

// Link is of vfs.FS.
func (t *FS) Link(ctx context.Context, c *fsapi.Cred, ino, d fsapi.Ino, name string) (a fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Link(ctx, c, ino, d, name)
	t.log.done(opLink, start, c, d, name, 0, err)
	return a, err
}

// Unlink is of vfs.FS.
func (t *FS) Unlink(ctx context.Context, c *fsapi.Cred, d fsapi.Ino, name string) error {
	start := time.Now()
	err := t.FS.Unlink(ctx, c, d, name)
	t.log.done(opUnlink, start, c, d, name, 0, err)
	return err
}

// Rmdir is of vfs.FS.
func (t *FS) Rmdir(ctx context.Context, c *fsapi.Cred, d fsapi.Ino, name string) error {
	start := time.Now()
	err := t.FS.Rmdir(ctx, c, d, name)
	t.log.done(opRmdir, start, c, d, name, 0, err)
	return err
}

// Rename is of vfs.FS.
func (t *FS) Rename(ctx context.Context, c *fsapi.Cred, fromDir fsapi.Ino, from string, toDir fsapi.Ino, to string, flags vfs.RenameFlags) error {
	start := time.Now()
	err := t.FS.Rename(ctx, c, fromDir, from, toDir, to, flags)
	t.log.done(opRename, start, c, fromDir, from, 0, err)
	return err
}

// Open is of vfs.FS.
func (t *FS) Open(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, flags vfs.OpenFlags) (vfs.File, error) {
	start := time.Now()
	f, err := t.FS.Open(ctx, c, ino, flags)
	t.log.done(opOpen, start, c, ino, "", 0, err)
	if err != nil {
		return nil, err
	}
	return &file{f, t.log}, nil
}

// OpenDir is of vfs.FS.
func (t *FS) OpenDir(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (vfs.Dir, error) {
	start := time.Now()
	d, err := t.FS.OpenDir(ctx, c, ino)
	t.log.done(opOpendir, start, c, ino, "", 0, err)
	if err != nil {
		return nil, err
	}
	return &dir{d, ino, t.log}, nil
}

// Getxattr is of vfs.FS.
func (t *FS) Getxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) (v []byte, err error) {
	start := time.Now()
	v, err = t.FS.Getxattr(ctx, c, ino, name)
	t.log.done(opGetxattr, start, c, ino, name, len(v), err)
	return v, err
}

// Setxattr is of vfs.FS.
func (t *FS) Setxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string, value []byte, flags vfs.XattrFlags) error {
	start := time.Now()
	err := t.FS.Setxattr(ctx, c, ino, name, value, flags)
	t.log.done(opSetxattr, start, c, ino, name, len(value), err)
	return err
}

// Listxattr is of vfs.FS.
func (t *FS) Listxattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino) (l []string, err error) {
	start := time.Now()
	l, err = t.FS.Listxattr(ctx, c, ino)
	t.log.done(opListxattr, start, c, ino, "", len(l), err)
	return l, err
}

// Removexattr is of vfs.FS.
func (t *FS) Removexattr(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, name string) error {
	start := time.Now()
	err := t.FS.Removexattr(ctx, c, ino, name)
	t.log.done(opRemovexattr, start, c, ino, name, 0, err)
	return err
}

// Statfs is of vfs.FS.
func (t *FS) Statfs(ctx context.Context, ino fsapi.Ino) (s fsapi.StatFS, err error) {
	start := time.Now()
	s, err = t.FS.Statfs(ctx, ino)
	t.log.done(opStatfs, start, nil, ino, "", 0, err)
	return s, err
}

// Batch is of vfs.FS.
func (t *FS) Batch(ctx context.Context, c *fsapi.Cred, ops []vfs.Op) (a []fsapi.Attr, err error) {
	start := time.Now()
	a, err = t.FS.Batch(ctx, c, ops)
	t.log.done(opBatch, start, c, 0, "", len(ops), err)
	return a, err
}

// Syncfs is of vfs.FS.
func (t *FS) Syncfs(ctx context.Context) error {
	start := time.Now()
	err := t.FS.Syncfs(ctx)
	t.log.done(opSyncfs, start, nil, 0, "", 0, err)
	return err
}

// file is a traced File.
type file struct {
	vfs.File
	log *Log
}

func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	start := time.Now()
	n, err = f.File.ReadAt(ctx, p, off)
	f.log.done(opRead, start, nil, f.Ino(), "", n, err)
	return n, err
}

func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	start := time.Now()
	n, err = f.File.WriteAt(ctx, p, off)
	f.log.done(opWrite, start, nil, f.Ino(), "", n, err)
	return n, err
}

func (f *file) Truncate(ctx context.Context, size int64) error {
	start := time.Now()
	err := f.File.Truncate(ctx, size)
	f.log.done(opTruncate, start, nil, f.Ino(), "", 0, err)
	return err
}

func (f *file) Flush(ctx context.Context, owner vfs.LockOwner) error {
	start := time.Now()
	err := f.File.Flush(ctx, owner)
	f.log.done(opFlush, start, nil, f.Ino(), "", 0, err)
	return err
}

func (f *file) Sync(ctx context.Context, dataOnly bool) error {
	start := time.Now()
	err := f.File.Sync(ctx, dataOnly)
	f.log.done(opFsync, start, nil, f.Ino(), "", 0, err)
	return err
}

func (f *file) Allocate(ctx context.Context, mode vfs.AllocMode, off, n int64) error {
	start := time.Now()
	err := f.File.Allocate(ctx, mode, off, n)
	f.log.done(opFallocate, start, nil, f.Ino(), "", 0, err)
	return err
}

func (f *file) Seek(ctx context.Context, off int64, hole bool) (int64, error) {
	start := time.Now()
	at, err := f.File.Seek(ctx, off, hole)
	f.log.done(opSeek, start, nil, f.Ino(), "", 0, err)
	return at, err
}

// CopyRange hands the FS below its own kind of file.
func (f *file) CopyRange(ctx context.Context, off int64, dst vfs.File, dstOff, n int64) (int64, error) {
	start := time.Now()
	if d, ok := dst.(*file); ok {
		dst = d.File
	}
	n, err := f.File.CopyRange(ctx, off, dst, dstOff, n)
	f.log.done(opCopyRange, start, nil, f.Ino(), "", int(n), err)
	return n, err
}

func (f *file) GetLock(ctx context.Context, l vfs.Lock) (vfs.Lock, error) {
	start := time.Now()
	l, err := f.File.GetLock(ctx, l)
	f.log.done(opGetlk, start, nil, f.Ino(), "", 0, err)
	return l, err
}

func (f *file) SetLock(ctx context.Context, l vfs.Lock, wait bool) error {
	start := time.Now()
	err := f.File.SetLock(ctx, l, wait)
	f.log.done(opSetlk, start, nil, f.Ino(), "", 0, err)
	return err
}

// dir is a traced Dir.
type dir struct {
	vfs.Dir
	ino fsapi.Ino
	log *Log
}

func (d *dir) Read(ctx context.Context, cookie uint64, attrs bool, fn func(fsapi.Dirent) bool) error {
	start := time.Now()
	n := 0
	err := d.Dir.Read(ctx, cookie, attrs, func(e fsapi.Dirent) bool { n++; return fn(e) })
	d.log.done(opReaddir, start, nil, d.ino, "", n, err)
	return err
}

func (d *dir) Sync(ctx context.Context) error {
	start := time.Now()
	err := d.Dir.Sync(ctx)
	d.log.done(opFsyncdir, start, nil, d.ino, "", 0, err)
	return err
}
