package vfs

import (
	"context"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// move is one rename, with the nodes it concerns, held.
type move struct {
	fs       *Local
	c        *fsapi.Cred
	flags    RenameFlags
	from, to *node
	fromName string
	toName   string
	n        *node // what moves
	victim   *node // what is replaced or exchanged; nil: none
}

// Rename implements FS.
func (fs *Local) Rename(ctx context.Context, c *fsapi.Cred, fromDir fsapi.Ino, from string, toDir fsapi.Ino, to string, flags RenameFlags) error {
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return fsapi.Errorf(fsapi.Invalid, "rename flags %#x", uint32(flags))
	}
	d, err := fs.enter(ctx, c, fromDir, from)
	if err != nil {
		return err
	}
	defer d.release()
	t, err := fs.enter(ctx, c, toDir, to)
	if err != nil {
		return err
	}
	defer t.release()
	m := &move{fs: fs, c: c, flags: flags, from: d, to: t, fromName: from, toName: to}
	for {
		flush, err := m.try(ctx)
		if flush != nil && err == nil {
			err = fs.flushNode(flush)
			flush.release()
			if err == nil {
				continue
			}
		}
		return err
	}
}

// try renames, unless the source has data to be stored first (D2): then that
// is flush, held for the caller, who stores it and tries again.
func (m *move) try(ctx context.Context) (flush *node, err error) {
	fs := m.fs
	fs.gate.RLock()
	defer fs.gate.RUnlock()
	if m.from != m.to {
		fs.moves.Lock()
		defer fs.moves.Unlock()
	}
	unlock, err := m.lockDirs(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer m.release()
	dirty, err := m.prepare(ctx)
	switch {
	case err != nil || m.same():
		return nil, err
	case dirty:
		m.n.hold()
		return m.n, nil
	}
	return nil, m.commit()
}

// same reports whether there is nothing to do: both names are of one inode.
func (m *move) same() bool { return m.victim == m.n }

func (m *move) release() {
	if m.n != nil {
		m.n.release()
	}
	if m.victim != nil {
		m.victim.release()
	}
	m.n, m.victim = nil, nil
}

// lockDirs takes ns of both directories, the upper one first, else the lower
// number.
func (m *move) lockDirs(ctx context.Context) (unlock func(), err error) {
	a, b := m.from, m.to
	if a == b {
		a.ns.Lock()
		return a.ns.Unlock, nil
	}
	var aboveB, aboveA bool
	err = m.fs.view(ctx, func(tx *meta.Tx) (err error) {
		if aboveB, err = tx.IsAncestor(a.ino, b.ino); err != nil {
			return err
		}
		aboveA, err = tx.IsAncestor(b.ino, a.ino)
		return err
	})
	if err != nil {
		return nil, staleIsNotExist(err)
	}
	if aboveA || !aboveB && b.ino < a.ino {
		a, b = b, a
	}
	a.ns.Lock()
	b.ns.Lock()
	return func() { b.ns.Unlock(); a.ns.Unlock() }, nil
}

// staleIsNotExist is err as of a directory that was removed.
func staleIsNotExist(err error) error {
	if kindOf(err) == fsapi.Stale {
		return fsapi.Wrap(fsapi.NotExist, err, "the directory was removed")
	}
	return err
}

// prepare finds what moves and what is replaced and checks it all, in the
// order of Linux's vfs_rename; flush says that the source must be stored
// before.
func (m *move) prepare(ctx context.Context) (flush bool, err error) {
	fs := m.fs
	if m.n, err = fs.childLocked(ctx, m.from, m.fromName); err != nil {
		return false, err
	}
	m.victim, err = fs.childLocked(ctx, m.to, m.toName)
	if err != nil && fsapi.KindOf(err) != fsapi.NotExist {
		return false, err
	}
	switch {
	case m.victim != nil && m.flags&RenameNoReplace != 0:
		return false, errExist(m.toName)
	case m.victim == nil && m.flags&RenameExchange != 0:
		return false, err
	}
	if err := m.checkLoop(ctx); err != nil || m.same() {
		return false, err
	}
	if err := m.permit(ctx); err != nil {
		return false, err
	}
	return m.mustFlush()
}

func (n *node) isDir() bool { return n.typ == fsapi.TypeDirectory }

// checkLoop refuses to move a directory below itself, or to replace one above
// the source.
func (m *move) checkLoop(ctx context.Context) error {
	if m.from == m.to {
		return nil
	}
	return m.fs.view(ctx, func(tx *meta.Tx) error {
		if m.n.isDir() {
			if above, err := tx.IsAncestor(m.n.ino, m.to.ino); err != nil || above {
				return cmpErr(err, fsapi.Errorf(fsapi.Invalid, "%q would move below itself", m.fromName))
			}
		}
		if m.victim != nil && m.victim.isDir() {
			if above, err := tx.IsAncestor(m.victim.ino, m.from.ino); err != nil || above {
				kind := fsapi.NotEmpty
				if m.flags&RenameExchange != 0 {
					kind = fsapi.Invalid
				}
				return cmpErr(err, fsapi.Errorf(kind, "%q holds the source", m.toName))
			}
		}
		return nil
	})
}

// permit checks permissions, and between them whether one type may replace the
// other, where Linux does.
func (m *move) permit(ctx context.Context) error {
	fs, c := m.fs, m.c
	if err := fs.mayDelete(ctx, c, m.from, m.n); err != nil {
		return err
	}
	if m.victim != nil {
		if err := fs.mayDelete(ctx, c, m.to, m.victim); err != nil {
			return err
		}
		if err := m.checkTypes(); err != nil {
			return err
		}
	} else if err := fs.permit(ctx, c, m.to, mayWrite|mayExec); err != nil {
		return err
	}
	if m.from == m.to {
		return nil
	}
	// A directory that changes its place has its .. changed.
	if m.n.isDir() {
		if err := fs.permit(ctx, c, m.n, mayWrite); err != nil {
			return err
		}
	}
	if m.flags&RenameExchange != 0 && m.victim.isDir() {
		return fs.permit(ctx, c, m.victim, mayWrite)
	}
	return nil
}

func (m *move) checkTypes() error {
	if m.victim == nil || m.flags&RenameExchange != 0 {
		return nil
	}
	switch {
	case m.n.isDir() && !m.victim.isDir():
		return fsapi.Errorf(fsapi.NotDir, "%q is not a directory, but %q is", m.toName, m.fromName)
	case !m.n.isDir() && m.victim.isDir():
		return fsapi.Errorf(fsapi.IsDir, "%q is a directory, but %q is not", m.toName, m.fromName)
	}
	return nil
}

// mustFlush reports whether the source has data that must be stored before it
// replaces another file. The log keeps the order, so that after a crash either
// the old file is there or the new one with its data.
func (m *move) mustFlush() (bool, error) {
	if m.victim == nil || m.flags&RenameExchange != 0 || m.n.typ != fsapi.TypeRegular {
		return false, nil
	}
	class, err := m.fs.effective(m.fs.ctx, m.n)
	if err != nil || class.Ack == policy.AckAsync {
		return false, err
	}
	m.n.mu.RLock()
	defer m.n.mu.RUnlock()
	return m.n.pend&fSize != 0 || m.n.data != nil && !m.n.data.clean() || len(m.n.flights) > 0, nil
}

// commit makes the move. REQUIRES ns of both directories.
func (m *move) commit() error {
	fs := m.fs
	unlock := m.lockChildren()
	defer unlock()
	keep := meta.KeepNone
	if m.victim != nil && m.flags&RenameExchange == 0 {
		var err error
		if keep, err = fs.keepOf(m.victim); err != nil {
			return err
		}
	}
	var from, to, in, victim *meta.Inode
	seq, err := fs.update(func(tx *meta.Tx) (err error) {
		tx.SetDoor(m.c.Door)
		if from, err = tx.Inode(m.from.ino); err != nil {
			return err
		}
		if to, err = tx.Inode(m.to.ino); err != nil {
			return err
		}
		if in, err = m.n.inTx(tx); err != nil {
			return err
		}
		if m.victim != nil {
			if victim, err = m.victim.inTx(tx); err != nil {
				return err
			}
		}
		if m.from != m.to {
			fs.moved.Add(1)
		}
		return tx.Rename(from, m.fromName, in, to, m.toName, victim, m.flags&RenameExchange != 0, keep)
	})
	if err != nil {
		return err
	}
	m.from.install(from, seq)
	m.to.install(to, seq)
	m.n.install(in, seq)
	switch {
	case m.victim == nil:
	case m.flags&RenameExchange != 0:
		m.victim.install(victim, seq)
	default:
		fs.unnamed(m.victim, victim, keep, seq)
	}
	m.names()
	m.tell()
	return nil
}

// lockChildren takes ns of what moves and what is replaced. Neither is above
// the other: checkLoop saw to that.
func (m *move) lockChildren() (unlock func()) {
	a, b := m.n, m.victim
	if b == nil {
		a.ns.Lock()
		return a.ns.Unlock
	}
	if b.ino < a.ino {
		a, b = b, a
	}
	a.ns.Lock()
	b.ns.Lock()
	return func() { b.ns.Unlock(); a.ns.Unlock() }
}

// names moves cached names, and forgets what was inherited from the old place.
func (m *move) names() {
	fs := m.fs
	if m.flags&RenameExchange != 0 {
		fs.setName(m.from, m.fromName, m.victim.ino)
	} else {
		fs.dropName(m.from, m.fromName)
	}
	fs.setName(m.to, m.toName, m.n.ino)
	if m.from == m.to {
		return
	}
	for _, n := range []*node{m.n, m.victim} {
		if n == nil {
			continue
		}
		n.mu.Lock()
		n.pol, n.quota = nil, nil
		n.mu.Unlock()
		if n.isDir() {
			fs.policies.gen.Add(1)
			fs.quotas.gen.Add(1)
		}
	}
}

// Moves counts how often a file or directory got another parent since the volume
// was opened, or was about to. Who sees two equal counts has missed no move in
// between: those counted before the first can be seen then.
func (fs *Local) Moves() uint64 {
	fs.gate.Lock() // no change is under way
	defer fs.gate.Unlock()
	return fs.moved.Load()
}

func (m *move) tell() {
	c := fsapi.Change{
		Kind: fsapi.ChangeRename, Ino: m.n.ino, Dir: m.to.ino, Name: m.toName,
		FromDir: m.from.ino, From: m.fromName, Type: m.n.typ, Door: m.c.Door,
	}
	exchange := m.flags&RenameExchange != 0
	if m.victim != nil && !exchange {
		m.fs.tell(fsapi.Change{Kind: fsapi.ChangeRemove, Ino: m.victim.ino, Dir: m.to.ino, Name: m.toName, Type: m.victim.typ, Door: m.c.Door})
	}
	m.fs.tell(c)
	if exchange {
		c.Ino, c.Type = m.victim.ino, m.victim.typ
		c.Dir, c.Name, c.FromDir, c.From = c.FromDir, c.From, c.Dir, c.Name
		m.fs.tell(c)
	}
}
