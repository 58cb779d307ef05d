package fuse

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/strakefs/strake/internal/fsapi"
)

func TestErrnoOfEveryKind(t *testing.T) {
	for k := fsapi.Kind(0); k < fsapi.KindCount; k++ {
		got := errno(fmt.Errorf("while testing: %w", fsapi.Errorf(k, "no %s", "reason")))
		if got <= 0 {
			t.Errorf("kind %d (%v) has no errno", k, k)
		}
		if got == fuse.ENOSYS {
			t.Errorf("kind %d (%v) is ENOSYS, which turns an operation off for good", k, k)
		}
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{fsapi.NotExist, syscall.ENOENT},
		{fsapi.Errorf(fsapi.Quota, "over"), syscall.EDQUOT},
		{fsapi.Wrap(fsapi.NoSpace, errors.New("disk full"), "writing"), syscall.ENOSPC},
		{context.Canceled, syscall.EINTR},
		{errors.New("unknown"), syscall.EIO},
		{fsapi.Kind(fsapi.KindCount + 5), syscall.EIO},
	} {
		if got := errno(c.err); got != fuse.Status(c.want) {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
}
