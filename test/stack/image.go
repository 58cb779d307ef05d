package stack

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/vfs"
)

// Image is everything a user sees of a tree, as a line for each path: types,
// modes, owners, times but that of access, links, targets, extended attributes,
// content by its hash, and which names are of one inode.
func Image(ctx context.Context, fs vfs.FS, root fsapi.Ino) (map[string]string, error) {
	m := &imager{ctx: ctx, fs: fs, out: map[string]string{}, first: map[fsapi.Ino]string{}}
	a, err := fs.Getattr(ctx, root)
	if err != nil {
		return nil, err
	}
	return m.out, m.add("", a)
}

type imager struct {
	ctx   context.Context
	fs    vfs.FS
	out   map[string]string
	first map[fsapi.Ino]string // the first path of an inode with several
}

func (m *imager) add(path string, a fsapi.Attr) error {
	var b strings.Builder
	fmt.Fprintf(&b, "type %d mode %o owner %d:%d links %d rdev %d mtime %d ctime %d btime %d", a.Type, a.Mode, a.Uid, a.Gid, a.Nlink, a.Rdev,
		a.Mtime.UnixNano(), a.Ctime.UnixNano(), a.Btime.UnixNano())
	if err := m.xattrs(&b, a.Ino); err != nil {
		return err
	}
	switch a.Type {
	case fsapi.TypeDirectory:
		m.out[path] = b.String()
		return m.dir(path, a.Ino)
	case fsapi.TypeSymlink:
		target, err := m.fs.Readlink(m.ctx, a.Ino)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, " to %q", target)
	case fsapi.TypeRegular:
		if err := m.content(&b, path, a); err != nil {
			return err
		}
	}
	m.out[path] = b.String()
	return nil
}

func (m *imager) xattrs(b *strings.Builder, ino fsapi.Ino) error {
	names, err := m.fs.Listxattr(m.ctx, fsapi.Root, ino)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		v, err := m.fs.Getxattr(m.ctx, fsapi.Root, ino, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " %s=%x", name, v)
	}
	return nil
}

func (m *imager) content(b *strings.Builder, path string, a fsapi.Attr) error {
	if a.Nlink > 1 {
		if was, ok := m.first[a.Ino]; ok {
			fmt.Fprintf(b, " is %s", was)
			return nil
		}
		m.first[a.Ino] = path
	}
	f, err := m.fs.Open(m.ctx, fsapi.Root, a.Ino, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum, buf := uint64(0xcbf29ce484222325), make([]byte, 1<<20) // FNV-1a of positions and bytes
	// Files may be far larger than what is in them: only data is read.
	for off := int64(0); off < a.Size; {
		at, err := f.Seek(m.ctx, off, false)
		if err != nil && fsapi.KindOf(err) == fsapi.NoDevice {
			break
		}
		if err != nil {
			return err
		}
		end, err := f.Seek(m.ctx, at, true)
		if err != nil {
			return err
		}
		for off = at; off < end; {
			n, err := f.ReadAt(m.ctx, buf[:min(int64(len(buf)), end-off)], off)
			if err != nil || n == 0 {
				return fmt.Errorf("read %s at %d: %d bytes, %w", path, off, n, err)
			}
			// Zeros that are stored are as good as a hole.
			for i, c := range buf[:n] {
				if c != 0 {
					sum = (sum ^ uint64(off+int64(i)) ^ uint64(c)<<56) * 0x100000001b3
				}
			}
			off += int64(n)
		}
	}
	fmt.Fprintf(b, " size %d content %x", a.Size, sum)
	return nil
}

func (m *imager) dir(path string, ino fsapi.Ino) error {
	d, err := m.fs.OpenDir(m.ctx, fsapi.Root, ino)
	if err != nil {
		return err
	}
	var names []string
	err = d.Read(m.ctx, 0, false, func(e fsapi.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		a, err := m.fs.Lookup(m.ctx, fsapi.Root, ino, name)
		if err != nil {
			return err
		}
		if err := m.add(path+"/"+name, a); err != nil {
			return err
		}
	}
	return nil
}
