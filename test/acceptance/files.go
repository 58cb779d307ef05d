package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// goroot is the real input: the toolchain's own tree.
var goroot = sync.OnceValue(func() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		panic(fmt.Sprintf("go env GOROOT: %v", err))
	}
	return strings.TrimSpace(string(out))
})

// copyTree copies a tree, calling each (where set) after every file; it stops
// with ctx.
func copyTree(ctx context.Context, from, to string, each func(rel string) error) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			t, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(t, dst)
		}
		if err := copyFile(name, dst); err != nil {
			return err
		}
		if each != nil {
			return each(rel)
		}
		return nil
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// sameFile compares every byte and the permission bits.
func sameFile(a, b string) error {
	x, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	y, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return fmt.Errorf("%s differs from %s (%d and %d bytes)", b, a, len(y), len(x))
	}
	return nil
}

// sameTree compares every byte of every file below from with to.
func sameTree(from, to string) (files int, err error) {
	err = filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			_, err := os.Stat(dst)
			return err
		case d.Type()&fs.ModeSymlink != 0:
			x, _ := os.Readlink(name)
			y, err := os.Readlink(dst)
			if err == nil && x != y {
				err = fmt.Errorf("%s points to %s, want %s", dst, y, x)
			}
			return err
		}
		files++
		return sameFile(name, dst)
	})
	return files, err
}

// dropCaches makes the kernel ask the server again.
func dropCaches() error { return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) }

// syncfs is syncfs(2) of the file system that holds dir.
func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func copyWhole(r *rig) error {
	d, err := r.dir("copy")
	if err != nil {
		return err
	}
	if err := copyTree(r.ctx, goroot(), d, nil); err != nil {
		return err
	}
	if err := syncfs(d); err != nil {
		return err
	}
	if err := dropCaches(); err != nil {
		return err
	}
	n, err := sameTree(goroot(), d)
	fmt.Printf("  copied and compared %d files\n", n)
	return err
}

// acknowledged gathers names and moves them to the acknowledged ones at each
// successful sync.
type acknowledged struct {
	dir     string
	pending []string
	done    []string
}

// add notes a file; every 100 files it syncs.
func (a *acknowledged) add(rel string) error {
	a.pending = append(a.pending, rel)
	if len(a.pending) < 100 {
		return nil
	}
	return a.sync()
}

// sync fsyncs each pending file and its directory: the promise POSIX gives.
func (a *acknowledged) sync() error {
	for _, rel := range a.pending {
		if err := fsync(filepath.Join(a.dir, rel)); err != nil {
			return err
		}
	}
	a.done = append(a.done, a.pending...)
	a.pending = nil
	return nil
}

func fsync(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func copyInterrupted(ctx context.Context, r *rig) (func() error, error) {
	d, err := r.dir("copy-killed")
	if err != nil {
		return nil, err
	}
	ack := &acknowledged{dir: d}
	if err := copyTree(ctx, goroot(), d, ack.add); err == nil {
		return nil, fmt.Errorf("the copy ended before the kill: nothing was tested")
	}
	return func() error {
		fmt.Printf("  %d files were acknowledged before the kill\n", len(ack.done))
		if len(ack.done) == 0 {
			return fmt.Errorf("nothing was acknowledged: nothing was tested")
		}
		for _, rel := range ack.done {
			if err := sameFile(filepath.Join(goroot(), rel), filepath.Join(d, rel)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// kernelTar makes, beside the mount, a tar file of about as many files as a
// kernel's source: the toolchain's source five times over.
func (r *rig) kernelTar() (string, error) {
	name := filepath.Join(r.out, "kernel.tar")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	for i := range 6 {
		mode := "-rf"
		if i == 0 {
			mode = "-cf"
		}
		transform := fmt.Sprintf("--transform=s,^,part%d/,", i)
		if _, err := cmd(r.ctx, goroot(), nil, "tar", mode, name, transform, "src", "test"); err != nil {
			return "", err
		}
	}
	return name, nil
}

func tarWhole(r *rig) error {
	tar, err := r.kernelTar()
	if err != nil {
		return err
	}
	d, err := r.dir("tar")
	if err != nil {
		return err
	}
	if _, err := cmd(r.ctx, d, nil, "tar", "-xf", tar); err != nil {
		return err
	}
	if err := syncfs(d); err != nil {
		return err
	}
	if err := dropCaches(); err != nil {
		return err
	}
	out, err := cmd(r.ctx, d, nil, "tar", "-df", tar)
	if err != nil {
		return fmt.Errorf("the unpacked tree differs: %s", strings.SplitN(out, "\n", 2)[0])
	}
	count, err := cmd(r.ctx, d, nil, "sh", "-c", "find . -type f | wc -l")
	fmt.Printf("  unpacked and compared %s files\n", strings.TrimSpace(count))
	return err
}

// tarInterrupted unpacks part after part, with a sync of the file system after
// each archive member group; parts that were synced must be whole.
func tarInterrupted(ctx context.Context, r *rig) (func() error, error) {
	tar, err := r.kernelTar()
	if err != nil {
		return nil, err
	}
	d, err := r.dir("tar-killed")
	if err != nil {
		return nil, err
	}
	var synced []string
	var last error
	for _, part := range tarParts() {
		if _, last = cmd(ctx, d, nil, "tar", "-xf", tar, part); last != nil {
			break
		}
		if last = fsyncAll(d, part); last != nil {
			break
		}
		synced = append(synced, part)
	}
	if last == nil {
		return nil, fmt.Errorf("unpacking ended before the kill: nothing was tested")
	}
	return func() error {
		fmt.Printf("  %d parts of the tree were synced before the kill\n", len(synced))
		if len(synced) == 0 {
			return fmt.Errorf("nothing was synced: nothing was tested")
		}
		for _, part := range synced {
			rel := part[strings.IndexByte(part, '/')+1:]
			if _, err := sameTree(filepath.Join(goroot(), rel), filepath.Join(d, part)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// tarParts are directories of the archive, small enough to be unpacked a few
// in a second.
func tarParts() []string {
	var parts []string
	entries, err := os.ReadDir(filepath.Join(goroot(), "src"))
	if err != nil {
		return nil
	}
	for i := range 6 {
		for _, e := range entries {
			if e.IsDir() {
				parts = append(parts, fmt.Sprintf("part%d/src/%s", i, e.Name()))
			}
		}
	}
	return parts
}

// fsyncAll makes a tree durable: every file and directory of it.
func fsyncAll(d, part string) error {
	return filepath.WalkDir(filepath.Join(d, part), func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return fsync(name)
	})
}
