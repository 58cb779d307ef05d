package fuse

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

// requestCtx is the context of one request: it is done when the channel is
// closed. Being one pointer, it becomes a context.Context without allocation.
//
// The kernel sends INTERRUPT for any signal, which no disk file system lets its
// callers see: a Go program is signalled all the time by its own scheduler, git
// by its progress timer. So only calls that wait for other processes (locks)
// take the request's own channel. Calls that merely read take it too but are
// tried again unless the caller dies (see retry); calls that change something
// take the server's, which closes when the mount is given up.
type requestCtx struct{ done <-chan struct{} }

var _ context.Context = requestCtx{}

// Deadline implements context.Context: there is none.
func (requestCtx) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c requestCtx) Done() <-chan struct{} { return c.done }

// Err implements context.Context.
func (c requestCtx) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements context.Context: there is none.
func (requestCtx) Value(any) any { return nil }

// retry reports whether a call that failed with err because of an INTERRUPT
// should be made again, patiently: it should unless process pid is dying, for
// then nobody waits for the answer and the kernel waits only to reap it.
func retry(err error, pid uint32) bool {
	return err != nil && fsapi.KindOf(err) == fsapi.Interrupted && !dying(pid)
}

// dying reports whether a thread has SIGKILL pending, has become a zombie, or
// is gone (proc(5)). pid 0 is the kernel itself, which does not die.
func dying(pid uint32) bool {
	if pid == 0 {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return true
	}
	const kill = uint64(1) << (syscall.SIGKILL - 1)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		key, value, _ := bytes.Cut(s.Bytes(), []byte(":"))
		switch string(key) {
		case "State":
			if v := bytes.TrimSpace(value); len(v) > 0 && (v[0] == 'Z' || v[0] == 'X') {
				return true
			}
		case "SigPnd", "ShdPnd":
			set, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			if err == nil && set&kill != 0 {
				return true
			}
		}
	}
	return false
}

// maxCreds bounds the credentials remembered: pairs of uid and gid.
const maxCreds = 4096

// creds remembers the credentials of callers, so that a request needs no new
// ones. Safe for concurrent use.
type creds struct {
	door string
	m    sync.Map // uint64 of uid and gid to *fsapi.Cred
	n    atomic.Int64
}

// of is who asks by h. The kernel has checked permissions already.
func (c *creds) of(h *fuse.InHeader) *fsapi.Cred {
	key := uint64(h.Uid)<<32 | uint64(h.Gid)
	if v, ok := c.m.Load(key); ok {
		return v.(*fsapi.Cred)
	}
	cred := &fsapi.Cred{Uid: h.Uid, Gid: h.Gid, Checked: true, Door: c.door}
	if c.n.Load() < maxCreds {
		if _, loaded := c.m.LoadOrStore(key, cred); !loaded {
			c.n.Add(1)
		}
	}
	return cred
}

// String names the caller for the log.
func caller(h *fuse.InHeader) string {
	return fmt.Sprintf("uid=%d gid=%d pid=%d", h.Uid, h.Gid, h.Pid)
}
