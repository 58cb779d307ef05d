package transfer

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
)

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
		if berr == nil && b.Type == fsapi.TypeDirectory {
			if !r.removeDir(ctx, op.Entry.Path) {
				continue
			}
			op.Replace = false
		}
		r.say("link", op.Entry.Path)
		if !r.o.DryRun {
			if err := r.o.Dest.Apply(ctx, []Op{*op})[0]; err != nil {
				r.fail(ctx, op.Entry.Path, err)
				continue
			}
		}
		r.Links.Add(1)
	}
}
