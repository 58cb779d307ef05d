package vfs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// PolicyXattr is the extended attribute that holds a policy as text.
const PolicyXattr = "user.strake.policy"

// effective is a policy with everything inherited, shared by the nodes it
// holds for.
type effective struct {
	policy.Policy
	class blob.Class
	key   string // text form
	gen   uint64
}

// policies shares effective policies among nodes. A change of any policy
// begins a generation, and makes nodes ask again.
type policies struct {
	gen atomic.Uint64
	mu  sync.Mutex
	all map[string]*effective // of the generation, by text
}

func (ps *policies) share(p policy.Policy, gen uint64) *effective {
	key := p.String()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if e := ps.all[key]; e != nil && e.gen == gen {
		return e
	}
	if ps.all == nil || len(ps.all) > 1000 {
		ps.all = map[string]*effective{}
	}
	e := &effective{
		Policy: p, key: key, gen: gen,
		class: blob.ClassOf(p),
	}
	ps.all[key] = e
	return e
}

// effective is the policy that holds for n.
func (fs *Local) effective(ctx context.Context, n *node) (*effective, error) {
	gen := fs.policies.gen.Load()
	n.mu.RLock()
	e := n.pol
	n.mu.RUnlock()
	if e != nil && e.gen == gen {
		return e, nil
	}
	if up := fs.heir(n, meta.HasPolicy); up != nil {
		defer up.release()
		e, err := fs.effective(ctx, up)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		n.pol = e
		n.mu.Unlock()
		return e, nil
	}
	var p policy.Policy
	err := fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(n.ino)
		if err != nil {
			return err
		}
		p, err = tx.EffectivePolicy(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	e = fs.policies.share(p, gen)
	n.mu.Lock()
	n.pol = e
	n.mu.Unlock()
	return e, nil
}

// heir is the directory from which n inherits what own would say it has
// itself, where that directory is in memory: held; else nil.
func (fs *Local) heir(n *node, own meta.Flags) *node {
	n.mu.RLock()
	parent, flags := n.in.Parent, n.in.Flags
	n.mu.RUnlock()
	if parent == 0 || flags&(own|meta.Trashed|meta.Orphan) != 0 {
		return nil
	}
	return fs.nodes.peek(parent)
}

// EffectivePolicy implements Admin.
func (fs *Local) EffectivePolicy(ctx context.Context, ino fsapi.Ino) (own, effective policy.Policy, err error) {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return own, effective, err
	}
	defer n.release()
	err = fs.view(ctx, func(tx *meta.Tx) error {
		in, err := tx.Inode(ino)
		if err != nil {
			return err
		}
		if own, err = tx.Policy(ino); err != nil {
			return err
		}
		effective, err = tx.EffectivePolicy(in)
		return err
	})
	return own, effective, err
}

// SetPolicy implements Admin.
func (fs *Local) SetPolicy(ctx context.Context, c *fsapi.Cred, ino fsapi.Ino, p policy.Policy) error {
	n, err := fs.node(ctx, ino)
	if err != nil {
		return err
	}
	defer n.release()
	if err := fs.mustOwn(c, n); err != nil {
		return err
	}
	if err := p.Validate(); err != nil {
		return err
	}
	return fs.setPolicy(c, n, p)
}

// possible says what of a policy cannot be done here, once it is n's own.
func (fs *Local) possible(n *node, p policy.Policy) error {
	if fs.o.Possible == nil {
		return nil
	}
	var above policy.Policy
	err := fs.view(context.Background(), func(tx *meta.Tx) error {
		in, err := tx.Inode(n.ino)
		if err != nil {
			return err
		}
		bare := *in
		bare.Flags &^= meta.HasPolicy
		above, err = tx.EffectivePolicy(&bare)
		return err
	})
	if err != nil {
		return err
	}
	return fs.o.Possible(p, p.Or(above))
}

func (fs *Local) setPolicy(c *fsapi.Cred, n *node, p policy.Policy) error {
	if err := fs.possible(n, p); err != nil {
		return err
	}
	var copies bool // others are asked for
	err := fs.change(c, n, func(tx *meta.Tx, in *meta.Inode) error {
		old, err := tx.Policy(in.Ino)
		if err != nil {
			return err
		}
		copies = !slices.Equal(old.Copies, p.Copies)
		in.Ctime = tx.Now()
		return tx.SetPolicy(in, p)
	})
	fs.policies.gen.Add(1)
	if err == nil && copies && fs.o.CopiesChanged != nil {
		fs.o.CopiesChanged(n.ino)
	}
	return err
}
