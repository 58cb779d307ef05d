package meta

import "github.com/strakefs/strake/internal/fsapi"

// Rename moves from/fromName (in) to to/toName; from and to may be the same
// *Inode. victim is what to/toName names now, or nil; it is replaced (keep as
// in Unlink/Rmdir) or, with exchange, takes in's old name. The caller has
// checked types and cycles. fsapi.CrossDevice where a directory would cross a
// quota boundary; NotEmpty where victim is a directory with names; Quota.
// Where in and victim are one inode, or the names are the same, nothing
// happens, as POSIX says.
func (tx *Tx) Rename(from *Inode, fromName string, in *Inode, to *Inode, toName string, victim *Inode, exchange bool, keep Keep) error {
	if from.Ino == to.Ino {
		to = from
	}
	if victim != nil && victim.Ino == in.Ino || from == to && fromName == toName {
		return nil
	}
	if err := tx.checkRename(from, fromName, in, to, toName, victim, exchange); err != nil {
		return err
	}
	if victim != nil && !exchange {
		if err := tx.dropName(to, toName, victim, keep); err != nil {
			return err
		}
		tx.note(fsapi.ChangeRemove, victim, to.Ino, toName)
	}
	if err := tx.affordMove(from, in, to); err != nil {
		return err
	}
	if exchange {
		if err := tx.affordMove(to, victim, from); err != nil {
			return err
		}
		if err := tx.moveName(to, toName, victim, from, fromName); err != nil {
			return err
		}
	} else {
		tx.deleteDentry(from.Ino, fromName)
	}
	if err := tx.moveName(from, fromName, in, to, toName); err != nil {
		return err
	}
	if from != to {
		tx.touchDir(from)
	}
	tx.touchDir(to)
	tx.noteRename(in, from.Ino, fromName, to.Ino, toName)
	if exchange {
		tx.noteRename(victim, to.Ino, toName, from.Ino, fromName)
	}
	return nil
}

func (tx *Tx) checkRename(from *Inode, fromName string, in, to *Inode, toName string, victim *Inode, exchange bool) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := tx.checkName(from.Ino, fromName, in); err != nil {
		return err
	}
	if err := tx.Mutable(in); err != nil {
		return err
	}
	if victim != nil {
		if err := tx.Mutable(victim); err != nil {
			return err
		}
	}
	switch {
	case victim != nil:
		if err := tx.checkName(to.Ino, toName, victim); err != nil {
			return err
		}
	case exchange:
		return &missing{to.Ino, toName}
	default:
		if err := tx.checkNew(to, toName); err != nil {
			return err
		}
	}
	grows := in.Type == fsapi.TypeDirectory && (victim == nil || victim.Type != fsapi.TypeDirectory)
	if grows && from != to && to.Nlink >= fsapi.MaxLinks {
		return fsapi.Errorf(fsapi.TooManyLinks, "directory %d holds %d directories already", to.Ino, to.Nlink-2)
	}
	if err := tx.sameQuota(from, in, to); err != nil || !exchange {
		return err
	}
	return tx.sameQuota(to, victim, from)
}

// sameQuota fails where a directory would cross a quota boundary, as XFS
// project quotas do: its subtree would have to be counted anew.
func (tx *Tx) sameQuota(from, in, to *Inode) error {
	if in.Type != fsapi.TypeDirectory || from == to {
		return nil
	}
	a, err := tx.nearest(from.Ino)
	if err != nil {
		return err
	}
	b, err := tx.nearest(to.Ino)
	if err == nil && a != b {
		err = fsapi.Errorf(fsapi.CrossDevice, "directory %d cannot move to another quota; copy it", in.Ino)
	}
	return err
}

// affordMove asks whether the quotas above to admit what moves there.
func (tx *Tx) affordMove(from, in, to *Inode) error {
	if from == to || in.Type == fsapi.TypeDirectory || in.Parent != from.Ino {
		return nil
	}
	a, err := tx.nearest(from.Ino)
	if err != nil {
		return err
	}
	b, err := tx.nearest(to.Ino)
	if err != nil || a == b {
		return err
	}
	return tx.affordDir(to.Ino, in.Used, 1)
}

// moveName makes from/fromName of in to/toName. The old dentry is left to the
// caller, and so is storing the directories.
func (tx *Tx) moveName(from *Inode, fromName string, in, to *Inode, toName string) error {
	cookie, err := tx.number()
	if err != nil {
		return err
	}
	tx.changed(in)
	if in.Type == fsapi.TypeDirectory && from != to {
		tx.dropSubdir(from, in)
		tx.putSubdir(to, in)
		tx.moves = true
	}
	primary := in.Parent == from.Ino && in.Name == fromName
	if in.embedded {
		tx.embed(in, to.Ino, toName, cookie)
	} else {
		tx.deleteLink(in.Ino, from.Ino, fromName)
		tx.putLink(in.Ino, to.Ino, toName)
		tx.putRef(to.Ino, toName, in, cookie)
		if primary {
			in.Parent, in.Name = to.Ino, toName
		}
		tx.store(in)
	}
	if !primary || from == to {
		return nil
	}
	if err := tx.chargeDir(from.Ino, -in.Used, -1); err != nil {
		return err
	}
	return tx.chargeDir(to.Ino, in.Used, 1)
}
