package transfer

import (
	"context"
	"path"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// verifyAll reads everything of the sources and of the destination again and
// compares it.
func (r *Run) verifyAll(ctx context.Context) {
	for _, s := range r.o.Sources {
		var wg sync.WaitGroup
		r.verifyDir(ctx, &wg, s, "")
		wg.Wait()
	}
}

func (r *Run) verifyDir(ctx context.Context, wg *sync.WaitGroup, s Source, p string) {
	list, err := s.Tree.List(ctx, p)
	if err != nil {
		r.fail(ctx, path.Join(s.Tree.String(), p), err)
		return
	}
	to := path.Join(s.Into, p)
	there, err := r.o.Dest.List(ctx, to)
	if err != nil {
		r.fail(ctx, to, err)
		return
	}
	have := make(map[string]*Entry, len(there))
	for i := range there {
		have[there[i].Name()] = &there[i]
	}
	for i := range list {
		e := &list[i]
		r.spawn(wg, func() { r.fail(ctx, path.Join(s.Into, e.Path), r.verify(ctx, s, e, have[e.Name()])) })
	}
	for i := range list {
		if e := &list[i]; e.Type == fsapi.TypeDirectory && ctx.Err() == nil {
			r.spawn(wg, func() { r.verifyDir(ctx, wg, s, e.Path) })
		}
	}
}

// verify says in what the copy of one name differs.
func (r *Run) verify(ctx context.Context, s Source, e, got *Entry) error {
	differs := func(what string) error {
		return fsapi.Errorf(fsapi.Corrupt, "the copy of %s/%s differs: %s", s.Tree, e.Path, what)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case got == nil:
		return differs("it is not there")
	case got.Type != e.Type || got.Size != e.Size || got.Target != e.Target || got.Rdev != e.Rdev:
		return differs("type, size, target or device")
	case !r.sameAttrs(e, got) || !e.Mtime.Equal(got.Mtime):
		return differs("owner, mode, time or extended attributes")
	}
	if e.Type == fsapi.TypeRegular {
		a, err := hashOf(ctx, s.Tree, e.Path)
		if err != nil {
			return err
		}
		b, err := hashOf(ctx, r.o.Dest, got.Path)
		if err != nil {
			return err
		}
		if a != b {
			return differs("its bytes")
		}
	}
	r.Verified.Add(1)
	return nil
}
