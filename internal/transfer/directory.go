package transfer

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

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
		r.deleteExtra(ctx, list, old)
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

func (r *Run) deleteExtra(ctx context.Context, list []Entry, old map[string]*Entry) {
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
