package posix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setgroups is setgroups(2) of the calling thread only.
func setgroups(gs []uint32) error {
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gs)), uintptr(unsafe.Pointer(&gs[0])), 0)
	if e != 0 {
		return e
	}
	return nil
}

const saRestart = 0x10000000

// sigaction is the kernel's struct sigaction on 64-bit Linux.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// interrupts makes a signal with a handler end a waiting call with EINTR: Go's
// own handlers ask the kernel to restart it.
func interrupts(sig unix.Signal) error {
	var a sigaction
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&a)), 8, 0, 0)
	if e != 0 {
		return e
	}
	a.flags &^= saRestart
	_, _, e = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&a)), 0, 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
