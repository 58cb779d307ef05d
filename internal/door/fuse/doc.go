// Package fuse is the door through which the Linux kernel mounts a volume: it
// answers the requests of /dev/fuse (linux/fuse.h, protocol 7.28 and up) from a
// vfs.FS.
//
// It owns: the mount and its life, the table of open handles, the errno of
// every error kind, and the promise that the kernel's caches agree with what
// other doors do. It must not know what lies below vfs, or another door.
//
// # Caching
//
// A NodeId is the inode number; numbers are never reused, so FORGET has nothing
// to do and generations stay 0. The kernel checks permissions
// (default_permissions, POSIX ACLs), caches names that exist and names that do
// not, attributes, pages, directories and symlinks for long, and is told
// precisely what another door changed:
//
//   - K1: after a change by another door, each thing the kernel may hold of it
//     is invalidated once the change has happened; a reply that was under way
//     meanwhile is invalidated again after it.
//   - K2: OPEN of an inode with an invalidation outstanding waits for it a
//     moment, and lets the kernel keep its pages only if there is none left:
//     close-to-open holds between doors.
//   - K3: where more changed than the queue holds, nothing is trusted that
//     might have been among them.
//
// Virtual inodes (fsapi.VirtualIno) are neither cached nor mapped; those of
// snapshots, which never change, are, until their snapshot is deleted.
//
// # Goroutines
//
// go-fuse's readers serve requests, each on its own goroutine, and end when the
// mount ends. One goroutine per Server, started by Mount and waited for by
// Unmount, sends invalidations: never from a handler, as the kernel may hold
// locks until the handler answers.
//
// # Locks
//
// None is held while calling vfs or the kernel, but dirHandle.mu, which makes
// readers of one open directory take turns. invalidator.mu and table.mu are
// leaves.
package fuse
