package meta

import (
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
)

const changesForm = 1

// Note adds a change to the batch's events. Volume, and Door where it is
// empty, are filled in.
func (tx *Tx) Note(c fsapi.Change) {
	c.Volume = tx.vol
	if c.Door == "" {
		c.Door = tx.door
	}
	tx.changes = append(tx.changes, c)
}

func (tx *Tx) note(kind fsapi.ChangeKind, in *Inode, dir fsapi.Ino, name string) {
	tx.Note(fsapi.Change{Kind: kind, Ino: in.Ino, Type: in.Type, Dir: dir, Name: name})
}

func (tx *Tx) noteRename(in *Inode, from fsapi.Ino, fromName string, to fsapi.Ino, toName string) {
	tx.Note(fsapi.Change{
		Kind: fsapi.ChangeRename, Ino: in.Ino, Type: in.Type,
		Dir: to, Name: toName, FromDir: from, From: fromName,
	})
}

// putChanges writes the events into the batch: one key, which every batch
// overwrites, so that they travel with the log and take no other room.
func (tx *Tx) putChanges() {
	if len(tx.changes) == 0 {
		return
	}
	b := append(tx.val[:0], changesForm)
	for i := range tx.changes {
		b = appendChange(b, &tx.changes[i])
	}
	tx.val = b
	tx.w.Put(changesKey(), b)
}

func changesKey() []byte { return []byte{tabChanges} }

func appendChange(b []byte, c *fsapi.Change) []byte {
	b = append(b, byte(c.Kind), byte(c.Type))
	b = putUint(b, uint64(c.Volume))
	b = putUint(b, uint64(c.Ino))
	b = putUint(b, uint64(c.Dir))
	b = putStr(b, c.Name)
	b = putUint(b, uint64(c.FromDir))
	b = putStr(b, c.From)
	b = putInt(b, c.Off)
	b = putInt(b, c.Len)
	return putStr(b, c.Door)
}

func decodeChanges(key, v []byte) ([]fsapi.Change, error) {
	d := dec{b: v}
	if d.byte() != changesForm {
		return nil, corrupt(key, "unknown form")
	}
	var list []fsapi.Change
	for len(d.b) > 0 {
		list = append(list, fsapi.Change{
			Kind: fsapi.ChangeKind(d.byte()), Type: fsapi.FileType(d.byte()), Volume: fsapi.VolumeID(d.u32()),
			Ino: fsapi.Ino(d.uint()), Dir: fsapi.Ino(d.uint()), Name: d.str(),
			FromDir: fsapi.Ino(d.uint()), From: d.str(), Off: d.int(), Len: d.int(), Door: d.str(),
		})
	}
	if !d.done() {
		return nil, corrupt(key, "bad change")
	}
	return list, nil
}

// Changes reads the events of a tailed batch, in order; none where it has
// none.
func Changes(b kv.Batch) ([]fsapi.Change, error) {
	for i := range b.Ops {
		op := &b.Ops[i]
		if op.Kind == kv.OpPut && len(op.Key) == 1 && op.Key[0] == tabChanges {
			return decodeChanges(op.Key, op.Value)
		}
	}
	return nil, nil
}
