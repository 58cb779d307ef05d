package fuse

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestRequestContext(t *testing.T) {
	cancel := make(chan struct{})
	var ctx context.Context = once(cancel)
	if ctx.Err() != nil {
		t.Error("done before the interrupt")
	}
	child, stop := context.WithCancel(ctx)
	defer stop()
	close(cancel)
	<-child.Done()
	if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) {
		t.Errorf("after the interrupt: %v, %v", ctx.Err(), child.Err())
	}
	n := testing.AllocsPerRun(100, func() { ctx = once(cancel) })
	if n != 0 {
		t.Errorf("a request's context takes %v allocations", n)
	}
}

func TestRetryUnlessDying(t *testing.T) {
	self := uint32(os.Getpid())
	interrupted := fsapi.Errorf(fsapi.Interrupted, "interrupted")
	if !retry(interrupted, self) || !retry(context.Canceled, self) || !retry(interrupted, 0) {
		t.Error("an interrupted call of a living process is not tried again")
	}
	if retry(nil, self) || retry(fsapi.Errorf(fsapi.NotExist, "none"), self) {
		t.Error("a call that was not interrupted is tried again")
	}
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	if !retry(interrupted, pid) {
		t.Error("a sleeping process counts as dying")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if retry(interrupted, pid) {
		t.Error("a call of a dead process is tried again")
	}
}

func TestCredsAreRemembered(t *testing.T) {
	c := creds{door: "fuse:test"}
	h := &fuse.InHeader{}
	h.Uid, h.Gid = 1001, 2002
	a := c.of(h)
	if a.Uid != 1001 || a.Gid != 2002 || !a.Checked || a.Door != "fuse:test" {
		t.Errorf("%+v", a)
	}
	if c.of(h) != a {
		t.Error("the second request makes new credentials")
	}
	h.Gid = 1
	if b := c.of(h); b == a || b.Gid != 1 {
		t.Errorf("another group has the credentials %+v", b)
	}
	for i := range 2 * maxCreds {
		h.Uid = uint32(i)
		if got := c.of(h); got.Uid != h.Uid {
			t.Fatalf("user %d is taken for %d", h.Uid, got.Uid)
		}
	}
	if n := c.n.Load(); n > maxCreds {
		t.Errorf("%d credentials are remembered", n)
	}
}
