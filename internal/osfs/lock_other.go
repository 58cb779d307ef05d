//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package osfs

import (
	"errors"
	"os"
)

// flockExclusive refuses: a lock that may be silently absent is worse than none.
func flockExclusive(*os.File) error { return errors.ErrUnsupported }
