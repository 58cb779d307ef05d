package meta

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/policy"
)

// FileWant is a regular file with data, and the copies that should have.
type FileWant struct {
	Ino    fsapi.Ino
	Copies []fsapi.CopySpec // must not be changed
	Linked bool             // it has several names: the walk may meet it again
	Bytes  int64            // of data
	// Next is where FilesBelow goes on after this file.
	Next []byte
}

// UniformCopies are the copies that all data of a volume should have; ok is
// false where some inode has a policy of its own, so that they may differ.
func (s *Store) UniformCopies(ctx context.Context, vol fsapi.VolumeID) (copies []fsapi.CopySpec, ok bool, err error) {
	err = s.View(ctx, vol, func(tx *Tx) error {
		if err := tx.readVolume(); err != nil {
			return err
		}
		copies, ok = tx.volume.Policy.Or(policy.Default()).Copies, tx.volume.policies == 0
		return nil
	})
	return copies, ok, err
}

// remoteLook bounds the policies that AcksRemote looks at.
const remoteLook = 1 << 16

// AcksRemote reports whether an fsync in a volume may wait for a bucket: whether a
// policy in it has the acknowledgement class remote, or there are too many to look
// at all of them.
func (s *Store) AcksRemote(ctx context.Context, vol fsapi.VolumeID) (remote bool, err error) {
	err = s.View(ctx, vol, func(tx *Tx) error {
		if err := tx.readVolume(); err != nil {
			return err
		}
		remote = tx.volume.Policy.Or(policy.Default()).Ack == policy.AckRemote || tx.volume.policies > remoteLook
		if remote || tx.volume.policies == 0 {
			return nil
		}
		from := volKey(nil, tabPolicy, vol)
		return tx.r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
			p, err := decodePolicy(k, v)
			remote = p.Ack == policy.AckRemote
			return !remote && err == nil, err
		})
	})
	return remote, err
}

// filesPage is how many entries of a directory FilesBelow reads at once, so that
// fn may take its time without holding a snapshot.
const filesPage = 256

// FilesBelow calls fn for the regular files with data in a directory and
// everywhere below it, or for a file itself, until fn returns an error, which it
// returns. after is the Next of the file to go on after, or nil. What moves
// meanwhile may be met twice or not at all. fsapi.Stale where top is gone.
func (s *Store) FilesBelow(ctx context.Context, vol fsapi.VolumeID, top fsapi.Ino, after []byte, fn func(FileWant) error) error {
	w := &fileWalk{s: s, vol: vol, fn: fn}
	if len(after) > 0 {
		if err := w.parse(after); err != nil {
			return err
		}
	} else if done, err := w.begin(ctx, top); done || err != nil {
		return err
	}
	for len(w.stack) > 0 {
		if err := w.files(ctx); err != nil {
			return err
		}
		if err := w.descend(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fileWalk is where FilesBelow is: in the directory at the end of stack, after
// name; every directory's files come before those below it.
type fileWalk struct {
	s     *Store
	vol   fsapi.VolumeID
	fn    func(FileWant) error
	stack []walkLevel
	name  string
}

// walkLevel is a directory and the last one within it that was entered.
type walkLevel struct{ dir, last fsapi.Ino }

// begin puts the top on the stack; a file is all there is to do.
func (w *fileWalk) begin(ctx context.Context, top fsapi.Ino) (done bool, err error) {
	var f *FileWant
	err = w.s.View(ctx, w.vol, func(tx *Tx) error {
		in, err := tx.Inode(top)
		if err == nil && in.Type != fsapi.TypeDirectory {
			f, err = fileWant(tx, top)
			done = true
		}
		return err
	})
	if err == nil && f != nil {
		return true, w.fn(*f)
	}
	w.stack = []walkLevel{{dir: top}}
	return done, err
}

// files calls fn for the files in the directory at hand.
func (w *fileWalk) files(ctx context.Context) error {
	for {
		page, more, err := w.page(ctx)
		if err != nil {
			return err
		}
		for _, f := range page {
			if err := w.fn(f); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// page reads the next entries of the directory at hand.
func (w *fileWalk) page(ctx context.Context) (page []FileWant, more bool, err error) {
	at := w.name
	err = w.s.View(ctx, w.vol, func(tx *Tx) error {
		page, w.name = nil, at
		list, err := tx.ReadDir(w.stack[len(w.stack)-1].dir, at, filesPage)
		if err != nil {
			return err
		}
		for _, e := range list {
			w.name = e.Name
			if e.Type != fsapi.TypeRegular || e.Attr.Used == 0 {
				continue
			}
			f, err := fileWant(tx, e.Ino)
			if err != nil {
				return err
			}
			f.Next = w.place()
			page = append(page, *f)
		}
		more = len(list) == filesPage
		return nil
	})
	return page, more, err
}

func fileWant(tx *Tx, ino fsapi.Ino) (*FileWant, error) {
	in, err := tx.Inode(ino)
	if err != nil {
		return nil, err
	}
	p, err := tx.EffectivePolicy(in)
	return &FileWant{Ino: ino, Copies: p.Or(policy.Default()).Copies, Linked: in.Nlink > 1, Bytes: in.Used}, err
}

// descend goes to the next directory in the order of the walk.
func (w *fileWalk) descend(ctx context.Context) error {
	return w.s.View(ctx, w.vol, func(tx *Tx) error {
		for len(w.stack) > 0 {
			top := &w.stack[len(w.stack)-1]
			child, err := tx.nextSubdir(top.dir, top.last)
			if err != nil {
				return err
			}
			if child != 0 {
				top.last = child
				if len(w.stack) == maxWalk {
					return fsapi.Errorf(fsapi.TooBig, "directory %d lies more than %d levels deep", child, maxWalk)
				}
				w.stack, w.name = append(w.stack, walkLevel{dir: child}), ""
				return nil
			}
			w.stack = w.stack[:len(w.stack)-1]
		}
		return nil
	})
}

// maxWalk bounds how deep a walk that can be interrupted goes: its place must
// remain small.
const maxWalk = 1024

// place is where the walk is, as bytes: the directories from the top, each with
// the last one within it that was entered (8 bytes each, big-endian), their
// number before them and the name of the last file after them.
func (w *fileWalk) place() []byte {
	b := binary.AppendUvarint(nil, uint64(len(w.stack)))
	for _, l := range w.stack {
		b = be64(be64(b, uint64(l.dir)), uint64(l.last))
	}
	return append(b, w.name...)
}

func (w *fileWalk) parse(b []byte) error {
	n, size := binary.Uvarint(b)
	if size <= 0 || n == 0 || n > maxWalk || uint64(len(b)-size) < 16*n {
		return fsapi.Errorf(fsapi.Corrupt, "%d bytes are no place in a walk", len(b))
	}
	b = b[size:]
	for range n {
		w.stack = append(w.stack, walkLevel{fsapi.Ino(binary.BigEndian.Uint64(b)), fsapi.Ino(binary.BigEndian.Uint64(b[8:]))})
		b = b[16:]
	}
	w.name = string(b)
	return nil
}

// ChunkRefs is a chunk's record and how many extents refer to it, of files as
// they are now.
type ChunkRefs struct {
	fsapi.Chunk
	Refs int64
}

// ChunkRefs reads the records of chunks; one that has none has the zero Loc.
func (s *Store) ChunkRefs(ctx context.Context, vol fsapi.VolumeID, ids []fsapi.ChunkID) ([]ChunkRefs, error) {
	list := make([]ChunkRefs, len(ids))
	err := s.e.View(ctx, func(r kv.Reader) error {
		var key []byte
		for i := range ids {
			list[i] = ChunkRefs{Chunk: fsapi.Chunk{ID: ids[i]}}
			key = chunkKey(key, tabChunk, vol, &ids[i])
			c, ok, err := getChunk(r, key)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			key = chunkKey(key, tabRefs, vol, &ids[i])
			refs, err := r.Counter(key)
			if err != nil {
				return err
			}
			list[i] = ChunkRefs{Chunk: c, Refs: refs}
		}
		return nil
	})
	return list, err
}

// extentPage is how many extents FileExtents reads at once.
const extentPage = 4096

// FileExtents calls fn for the data extents of a file in pages, in order. A file
// that is gone has none.
func (s *Store) FileExtents(ctx context.Context, vol fsapi.VolumeID, ino fsapi.Ino, fn func([]fsapi.Extent) error) error {
	off := int64(0)
	for {
		var page []fsapi.Extent
		var all bool
		err := s.View(ctx, vol, func(tx *Tx) error {
			list, whole, err := tx.extentsAfter(ino, off, extentPage)
			page, all = slices.Clone(list), whole // list is the transaction's
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		off = page[len(page)-1].End()
		data := page[:0]
		for _, e := range page {
			if e.Kind == fsapi.ExtentData {
				data = append(data, e)
			}
		}
		if err := fn(data); err != nil || all {
			return err
		}
	}
}
