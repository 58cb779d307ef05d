package osfs

import "golang.org/x/sys/unix"

// DirectIO is the flag of OpenFile that bypasses the page cache: O_DIRECT of
// open(2). Memory, offsets and lengths must then be multiples of DirectAlign.
// A file system that has none refuses the open with EINVAL. Zero where the
// host knows no such flag.
const DirectIO = unix.O_DIRECT

// SyncData is fdatasync(2).
func (f *osFile) SyncData() error { return f.control("fdatasync", unix.Fdatasync) }

func syncRange(fd int, off, n int64) error {
	err := unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

func preallocate(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func dropCache(fd int, off, n int64) error {
	return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED)
}

func statFS(name string) (Capacity, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Capacity{}, err
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return Capacity{Total: int64(st.Blocks) * unit, Free: int64(st.Bfree) * unit, Avail: int64(st.Bavail) * unit}, nil
}
