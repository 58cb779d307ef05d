package transfer

import (
	"context"
	"errors"
	"path"
	"slices"
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
		if err := r.apart(ctx, s); err != nil {
			return err
		}
	}
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

// apart refuses a source that holds the destination, which would be copied into
// itself for ever, and where things are deleted one that lies in it: one of the
// two may be a mount of the other.
func (r *Run) apart(ctx context.Context, s Source) error {
	src, err := s.Tree.Above(ctx)
	if err != nil {
		return err
	}
	dest, err := r.o.Dest.Above(ctx)
	switch {
	case r.o.DryRun && (errors.Is(err, fsapi.NotExist) || errors.Is(err, fsapi.NotDir)):
		return nil
	case err != nil:
		return err
	case slices.Contains(dest, src[0]):
		return fsapi.Errorf(fsapi.Invalid, "%s is the same directory as %s, or holds it: it cannot be copied into itself", s.Tree, r.o.Dest)
	case r.o.Delete && slices.Contains(src, dest[0]):
		return fsapi.Errorf(fsapi.Invalid, "%s lies in %s: with --delete it would be deleted from there", s.Tree, r.o.Dest)
	}
	return nil
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
		if !r.removeDir(ctx, to.Path) {
			return
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

// removeDir removes a directory of the destination, with what it holds, for
// what is no directory in the source. It reports whether it may be made now.
func (r *Run) removeDir(ctx context.Context, p string) bool {
	if !r.o.Delete {
		r.fail(ctx, p, fsapi.Errorf(fsapi.IsDir, "a directory is in its place, whose content only a sync with --delete removes"))
		return false
	}
	if r.say("replace directory", p); !r.o.DryRun {
		if err := r.o.Dest.Remove(ctx, p); err != nil {
			r.fail(ctx, p, err)
			return false
		}
	}
	return true
}

// done notes a file that is now as its source.
func (r *Run) done(ctx context.Context, e *Entry) {
	if e.Type == fsapi.TypeRegular && !r.o.DryRun {
		r.fail(ctx, e.Path, r.o.Journal.add(e))
	}
}
