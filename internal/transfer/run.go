package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/fsapi"
)

// Source is a tree and where below the destination it goes.
type Source struct {
	Tree Tree
	Into string // "" is the destination itself
}

// Options of Run. Sources and Dest must be set.
type Options struct {
	Sources []Source
	Dest    Tree

	Owner    bool // owners are compared and set
	Delete   bool // what is not in a source goes from the destination
	Checksum bool // content is compared, not size and time
	DryRun   bool // nothing is changed
	Verify   bool // everything is read back and compared at the end
	Workers  int  // 8
	Journal  *Journal
	// Say is told of each thing that is done, or in a DryRun would be. Called
	// by several goroutines, one at a time. May be nil.
	Say func(action, path string)
}

// Counts is what was done. The counters only grow while Run goes on.
type Counts struct {
	Files, Bytes       atomic.Int64 // copied
	Dirs, Links, Other atomic.Int64 // made: directories; names of files that have one; symlinks and special files
	Attrs              atomic.Int64 // of which only the attributes were set
	Same, SameBytes    atomic.Int64 // passed over
	Deleted            atomic.Int64
	Verified           atomic.Int64
	Failed             atomic.Int64
	Found, FoundBytes  atomic.Int64 // files that a source was found to hold
}

// Failure is one thing that could not be copied.
type Failure struct {
	Path string
	Err  error
}

// maxFailures bounds the failures that are kept one by one.
const maxFailures = 1000

// Run is one copy. Its Counts may be read while it goes on.
type Run struct {
	Counts
	o      Options
	places chan struct{} // one token for each further goroutine
	batch  batcher

	mu       sync.Mutex
	failures []Failure         // guarded by mu
	first    map[string]string // by inode of a source: the destination of its first name; guarded by mu
	links    []Op              // guarded by mu
	dirs     []dirJob          // guarded by mu
}

// dirJob is a directory whose attributes are to be set.
type dirJob struct {
	src  Source
	path string // in the source
}

// New prepares a copy.
func New(o Options) (*Run, error) {
	if len(o.Sources) == 0 || o.Dest == nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "a copy needs a source and a destination")
	}
	if o.Workers <= 0 {
		o.Workers = 8
	}
	r := &Run{o: o, places: make(chan struct{}, o.Workers-1), first: map[string]string{}}
	r.batch.r = r
	return r, nil
}

// Do copies. The error is of what ended the copy as a whole; what could not be
// copied is in Failures. After an error, or when ctx ended, running it again
// goes on.
func (r *Run) Do(ctx context.Context) error {
	for _, s := range r.o.Sources {
		if err := r.root(ctx, s); err != nil {
			return errors.Join(err, r.o.Journal.Flush())
		}
	}
	r.batch.flush(ctx)
	r.linkAll(ctx)
	r.finishDirs(ctx)
	if !r.o.DryRun {
		if err := errors.Join(r.o.Dest.Sync(ctx), r.o.Journal.Flush()); err != nil {
			return err
		}
	}
	if r.o.Verify && !r.o.DryRun {
		r.verifyAll(ctx)
	}
	return ctx.Err()
}

// Failures are what could not be copied, at most the first 1,000 of Failed.
func (r *Run) Failures() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Failure(nil), r.failures...)
}

func (r *Run) fail(ctx context.Context, p string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.Failed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failures) < maxFailures {
		r.failures = append(r.failures, Failure{p, err})
	}
}

func (r *Run) say(action, p string) {
	if r.o.Say != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.o.Say(action, p)
	}
}

// root makes the destination of a source, and copies into it.
func (r *Run) root(ctx context.Context, s Source) error {
	e, err := s.Tree.Stat(ctx, "")
	if err != nil {
		return err
	}
	if e.Type != fsapi.TypeDirectory {
		return fsapi.Errorf(fsapi.NotDir, "%s is not a directory: name one, with what it holds", s.Tree)
	}
	for i := range len(s.Into) + 1 { // each directory on the way
		if i < len(s.Into) && s.Into[i] != '/' {
			continue
		}
		if err := r.makeRoot(ctx, s.Into[:i]); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	r.dir(ctx, &wg, s, "")
	wg.Wait()
	return ctx.Err()
}

func (r *Run) makeRoot(ctx context.Context, p string) error {
	d, err := r.o.Dest.Stat(ctx, p)
	switch {
	case err == nil && d.Type != fsapi.TypeDirectory:
		return fsapi.Errorf(fsapi.NotDir, "%s/%s is not a directory", r.o.Dest, p)
	case err == nil || r.o.DryRun && (errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.NotDir)):
		return nil
	case !errors.Is(err, fsapi.NotExist):
		return err
	}
	if p == "" {
		return fsapi.Errorf(fsapi.NotExist, "%s is not there: make it first", r.o.Dest)
	}
	return r.o.Dest.Apply(ctx, []Op{{Entry: &Entry{Path: p, Type: fsapi.TypeDirectory}}})[0]
}

// spawn does work in another goroutine if there is a place for one.
func (r *Run) spawn(wg *sync.WaitGroup, fn func()) {
	select {
	case r.places <- struct{}{}:
		wg.Go(func() {
			defer func() { <-r.places }()
			fn()
		})
	default:
		fn()
	}
}

// dir copies what a directory holds, and then what is below.
func (r *Run) dir(ctx context.Context, wg *sync.WaitGroup, s Source, p string) {
	if ctx.Err() != nil {
		return
	}
	list, err := s.Tree.List(ctx, p)
	if err != nil {
		r.fail(ctx, path.Join(s.Tree.String(), p), err)
		return
	}
	old, err := r.oldNames(ctx, path.Join(s.Into, p))
	var dest Entry
	if err == nil && old != nil {
		dest, err = r.o.Dest.Stat(ctx, path.Join(s.Into, p))
	}
	if err != nil {
		r.fail(ctx, path.Join(r.o.Dest.String(), s.Into, p), err)
		return
	}
	r.mu.Lock()
	r.dirs = append(r.dirs, dirJob{s, p})
	r.mu.Unlock()
	if r.o.Delete {
		r.deleteExtra(ctx, s, list, old)
	}
	_, heir := dest.Xattrs[defaultACL]
	below := r.makeDirs(ctx, s, list, old)
	for i := range list {
		if e := &list[i]; e.Type != fsapi.TypeDirectory {
			r.spawn(wg, func() { r.entry(ctx, s, e, old[e.Name()], heir) })
		}
	}
	for _, sub := range below {
		r.spawn(wg, func() { r.dir(ctx, wg, s, sub) })
	}
}

// oldNames is what a directory of the destination holds; what a copy that was
// cut short left there goes.
func (r *Run) oldNames(ctx context.Context, p string) (map[string]*Entry, error) {
	list, err := r.o.Dest.List(ctx, p)
	if r.o.DryRun && (errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.NotDir)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old := make(map[string]*Entry, len(list))
	for i := range list {
		e := &list[i]
		if !strings.HasPrefix(e.Name(), tmpPrefix) {
			old[e.Name()] = e
		} else if !r.o.DryRun {
			if err := r.o.Dest.Remove(ctx, e.Path); err != nil {
				return nil, err
			}
		}
	}
	return old, nil
}

func (r *Run) deleteExtra(ctx context.Context, s Source, list []Entry, old map[string]*Entry) {
	keep := make(map[string]bool, len(list))
	for i := range list {
		keep[list[i].Name()] = true
	}
	for name, e := range old {
		if !keep[name] {
			r.remove(ctx, e)
		}
	}
}

func (r *Run) remove(ctx context.Context, e *Entry) {
	r.say("delete", e.Path)
	if !r.o.DryRun {
		if err := r.o.Dest.Remove(ctx, e.Path); err != nil {
			r.fail(ctx, e.Path, err)
			return
		}
	}
	r.Deleted.Add(1)
}

// makeDirs makes the directories of a directory, and says which to go on with.
func (r *Run) makeDirs(ctx context.Context, s Source, list []Entry, old map[string]*Entry) (below []string) {
	var ops []Op
	for i := range list {
		e := list[i]
		if e.Type != fsapi.TypeDirectory {
			continue
		}
		was := old[e.Name()]
		below = append(below, e.Path)
		if was != nil && was.Type == fsapi.TypeDirectory {
			continue
		}
		to := e
		to.Path = path.Join(s.Into, e.Path)
		r.say("mkdir", to.Path)
		ops = append(ops, Op{Entry: &to, Replace: was != nil})
	}
	if r.o.DryRun {
		r.Dirs.Add(int64(len(ops)))
		return below
	}
	for i, err := range r.o.Dest.Apply(ctx, ops) {
		if err == nil {
			r.Dirs.Add(1)
		}
		r.fail(ctx, ops[i].Entry.Path, err)
	}
	return below
}

// small is the size up to which files travel together, in bytes.
const small = 256 << 10

// entry copies one name that is no directory. heir says that a new file
// inherits an ACL from its directory.
func (r *Run) entry(ctx context.Context, s Source, e, old *Entry, heir bool) {
	if ctx.Err() != nil {
		return
	}
	if e.Type == fsapi.TypeRegular {
		r.Found.Add(1)
		r.FoundBytes.Add(e.Size)
	}
	to := *e
	to.Path = path.Join(s.Into, e.Path)
	if e.Nlink > 1 && !r.firstName(s, e, &to, old) {
		return
	}
	if old != nil && old.Type == fsapi.TypeDirectory {
		if r.say("replace directory", to.Path); !r.o.DryRun {
			if err := r.o.Dest.Remove(ctx, to.Path); err != nil {
				r.fail(ctx, to.Path, err)
				return
			}
		}
		old = nil
	}
	op := Op{Entry: &to, Replace: old != nil && (old.Type != e.Type || old.Nlink > 1 || e.Type != fsapi.TypeRegular)}
	if old != nil {
		op.Drop = dropped(e, old)
	}
	if _, has := e.Xattrs[accessACL]; heir && !has {
		op.Drop = append(op.Drop, accessACL)
	}
	same, err := r.sameContent(ctx, s, e, old)
	switch {
	case err != nil:
		r.fail(ctx, to.Path, err)
	case !same && e.Type == fsapi.TypeRegular:
		r.file(ctx, s, e, op)
	case !same:
		r.say("make", to.Path)
		r.batch.add(ctx, op, func() { r.Other.Add(1) })
	case !r.sameAttrs(e, old):
		r.say("attributes", to.Path)
		r.batch.add(ctx, Op{Kind: OpAttr, Entry: &to, Drop: dropped(e, old)}, func() {
			r.Attrs.Add(1)
			r.done(ctx, e)
		})
	default:
		r.Same.Add(1)
		r.SameBytes.Add(e.Size)
		r.done(ctx, e)
	}
}

// firstName reports whether e is the first name of its inode that was found, to
// be copied. Others become links.
func (r *Run) firstName(s Source, e, to, old *Entry) bool {
	id := s.Tree.String() + "\x00" + e.ID
	if _, local := s.Tree.(*Local); local {
		id = e.ID // the same in all local sources
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	first, ok := r.first[id]
	if !ok {
		r.first[id] = to.Path
		return true
	}
	r.links = append(r.links, Op{Kind: OpLink, Entry: to, First: first, Replace: old != nil})
	return false
}

// linkAll makes the further names of files, unless they are that already.
func (r *Run) linkAll(ctx context.Context) {
	for i := range r.links {
		op := &r.links[i]
		if ctx.Err() != nil {
			return
		}
		a, err := r.o.Dest.Stat(ctx, op.First)
		b, berr := r.o.Dest.Stat(ctx, op.Entry.Path)
		if err == nil && berr == nil && a.ID == b.ID {
			r.Same.Add(1)
			continue
		}
		r.say("link", op.Entry.Path)
		if !r.o.DryRun {
			if berr == nil && b.Type == fsapi.TypeDirectory {
				r.fail(ctx, op.Entry.Path, r.o.Dest.Remove(ctx, op.Entry.Path))
				op.Replace = false
			}
			if err := r.o.Dest.Apply(ctx, []Op{*op})[0]; err != nil {
				r.fail(ctx, op.Entry.Path, err)
				continue
			}
		}
		r.Links.Add(1)
	}
}

// finishDirs sets the attributes of directories.
func (r *Run) finishDirs(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range r.dirs {
		r.spawn(&wg, func() { r.finishDir(ctx, &r.dirs[i]) })
	}
	wg.Wait()
	r.batch.flush(ctx)
}

func (r *Run) finishDir(ctx context.Context, j *dirJob) {
	e, err := j.src.Tree.Stat(ctx, j.path)
	to := e
	to.Path = path.Join(j.src.Into, j.path)
	if err != nil {
		r.fail(ctx, to.Path, err)
		return
	}
	old, err := r.o.Dest.Stat(ctx, to.Path)
	if r.o.DryRun && (errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.NotDir)) {
		return
	}
	if err != nil {
		r.fail(ctx, to.Path, err)
		return
	}
	if r.sameAttrs(&e, &old) && e.Mtime.Equal(old.Mtime) {
		return
	}
	r.batch.add(ctx, Op{Kind: OpAttr, Entry: &to, Drop: dropped(&e, &old)}, func() {})
}

// sameContent reports whether what is there need not be written.
func (r *Run) sameContent(ctx context.Context, s Source, e, old *Entry) (bool, error) {
	if old == nil || old.Type != e.Type {
		return false, nil
	}
	switch e.Type {
	case fsapi.TypeSymlink:
		return e.Target == old.Target, nil
	case fsapi.TypeRegular:
	default:
		return e.Rdev == old.Rdev, nil
	}
	if e.Size != old.Size {
		return false, nil
	}
	if !r.o.Checksum {
		return e.Mtime.Equal(old.Mtime) && r.o.Journal.knows(e), nil
	}
	a, err := hashOf(ctx, s.Tree, e.Path)
	if err != nil {
		return false, err
	}
	b, err := hashOf(ctx, r.o.Dest, old.Path)
	return err == nil && a == b, nil // what cannot be read there is written anew
}

// sameAttrs compares what chown, chmod, setxattr and utimes set. The times of
// directories and symlinks say nothing of their content.
func (r *Run) sameAttrs(e, old *Entry) bool {
	owner := !r.o.Owner || e.Uid == old.Uid && e.Gid == old.Gid
	mode := e.Mode == old.Mode || e.Type == fsapi.TypeSymlink
	return owner && mode && sameXattrs(e.Xattrs, old.Xattrs) && (e.Type == fsapi.TypeDirectory || e.Mtime.Equal(old.Mtime))
}

// attempts is how often a file is copied that changes meanwhile.
const attempts = 3

// file copies a regular file.
func (r *Run) file(ctx context.Context, s Source, e *Entry, op Op) {
	r.say("copy", op.Entry.Path)
	if r.o.DryRun {
		r.Files.Add(1)
		r.Bytes.Add(e.Size)
		return
	}
	for try := 1; ; try++ {
		changed, err := r.fileOnce(ctx, s, e, op)
		if err != nil {
			r.fail(ctx, op.Entry.Path, err)
			return
		}
		if !changed {
			return
		}
		if try == attempts {
			r.fail(ctx, op.Entry.Path, fsapi.Errorf(fsapi.Stale, "%s/%s changed while it was copied, %d times: copy it again when nobody writes it", s.Tree, e.Path, attempts))
			return
		}
		now, err := s.Tree.Stat(ctx, e.Path)
		if err != nil {
			r.fail(ctx, op.Entry.Path, err)
			return
		}
		to := now
		to.Path = op.Entry.Path
		e, op.Entry = &now, &to
	}
}

// fileOnce copies a file and reports whether it changed meanwhile.
func (r *Run) fileOnce(ctx context.Context, s Source, e *Entry, op Op) (changed bool, err error) {
	f, err := s.Tree.Open(ctx, e.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if f.Size() != e.Size {
		return true, nil
	}
	data, whole, err := readSmall(ctx, f)
	if err != nil {
		return false, err
	}
	if !whole {
		err := r.o.Dest.Store(ctx, op.Entry, op.Drop, f, func(n int64) { r.Bytes.Add(n) })
		if changed, cerr := f.Changed(ctx); changed || cerr != nil {
			return changed, cerr
		}
		if err == nil {
			r.Files.Add(1)
			r.done(ctx, e)
		}
		return false, err
	}
	if changed, err := f.Changed(ctx); changed || err != nil {
		return changed, err
	}
	op.Data = data
	r.batch.add(ctx, op, func() {
		r.Files.Add(1)
		r.Bytes.Add(int64(len(data)))
		r.done(ctx, e)
	})
	return false, nil
}

// readSmall reads a small file that has no holes.
func readSmall(ctx context.Context, f Reader) (data []byte, whole bool, err error) {
	if f.Size() > small {
		return nil, false, nil
	}
	data = make([]byte, f.Size())
	got := int64(0)
	err = f.Ranges(ctx, func(off, n int64) error {
		s, err := f.Section(ctx, off, n)
		if err != nil {
			return err
		}
		defer s.Close()
		m, err := io.ReadFull(s, data[off:off+n])
		got += int64(m)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil // Changed will say
		}
		return fsapi.Wrap(kindOf(err), err, "read")
	})
	return data, got == f.Size(), err
}

// done notes a file that is now as its source.
func (r *Run) done(ctx context.Context, e *Entry) {
	if e.Type == fsapi.TypeRegular && !r.o.DryRun {
		r.fail(ctx, e.Path, r.o.Journal.add(e))
	}
}

// hashOf reads a file and hashes its bytes, holes as zeros.
func hashOf(ctx context.Context, t Tree, p string) (sum [sha256.Size]byte, err error) {
	f, err := t.Open(ctx, p)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	at := int64(0)
	err = f.Ranges(ctx, func(off, n int64) error {
		if err := zeros(h, off-at); err != nil {
			return err
		}
		s, err := f.Section(ctx, off, n)
		if err != nil {
			return err
		}
		defer s.Close()
		m, err := io.Copy(h, s)
		if err == nil && m != n {
			err = fmt.Errorf("%d bytes instead of %d", m, n)
		}
		at = off + n
		return fsapi.Wrap(kindOf(err), err, "read "+p)
	})
	if err == nil {
		err = zeros(h, f.Size()-at)
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

var zeroBlock [64 << 10]byte

func zeros(w io.Writer, n int64) error {
	for ; n > 0; n -= int64(len(zeroBlock)) {
		if _, err := w.Write(zeroBlock[:min(n, int64(len(zeroBlock)))]); err != nil {
			return err
		}
	}
	return nil
}
