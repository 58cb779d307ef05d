package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskRate is bytes a second of each disk, reading and writing, as of a fast hard
// disk. The one below, which all share, must do as much for all of them at once.
const diskRate = 200 << 20

// throttle is where the kernel's limits of block devices are
// (Documentation/admin-guide/cgroup-v1/blkio-controller.rst). Those of the root
// group hold for what the kernel writes back, too.
const throttle = "/sys/fs/cgroup/blkio/blkio.throttle."

// disk is a block device with a file system of its own, mounted.
type disk struct {
	at  string // mount point
	dev string // /dev/loopN
	num string // MAJOR:MINOR
}

// disks makes the first n drives of the machine disks of size bytes each, which
// end with the turn. They are as fast as the disk below them until limited.
func (m *machine) disks(n int, size int64) (all []*disk, err error) {
	for i := range n {
		d, err := m.disk(i+1, size)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (m *machine) disk(n int, size int64) (*disk, error) {
	image := filepath.Join(m.dir, fmt.Sprintf("disk%d", n))
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, size); err != nil {
		return nil, err
	}
	dev, err := m.tool("losetup", "--show", "-f", image)
	if err != nil {
		return nil, err
	}
	d := &disk{at: m.driveDir(n), dev: strings.TrimSpace(dev)}
	m.beside = append(m.beside, func() error { return errors.Join(d.limit(0), d.unmount(), exec.Command("losetup", "-d", d.dev).Run()) })
	var st unix.Stat_t
	if err := unix.Stat(d.dev, &st); err != nil {
		return nil, err
	}
	d.num = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if _, err := m.tool("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.dev); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.at, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount(d.dev, d.at, "ext4", 0, ""); err != nil {
		return nil, fmt.Errorf("mount %s: %w", d.dev, err)
	}
	return d, os.Remove(filepath.Join(d.at, "lost+found")) // a drive begins empty
}

// tool runs a program of the system.
func (m *machine) tool(name string, args ...string) (string, error) {
	out, err := exec.CommandContext(m.ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// limit bounds reading and writing, each, to so many bytes a second; 0: not.
func (d *disk) limit(rate int64) error {
	if d.num == "" {
		return nil
	}
	for _, way := range []string{"read", "write"} {
		if err := os.WriteFile(throttle+way+"_bps_device", fmt.Appendf(nil, "%s %d", d.num, rate), 0); err != nil {
			return fmt.Errorf("limit a disk, which needs the blkio controller of cgroup v1: %w", err)
		}
	}
	return nil
}

// unmount takes the disk away.
func (d *disk) unmount() error {
	err := unix.Unmount(d.at, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // it is not mounted
		return nil
	}
	return err
}
