//go:build unix

package daemon

import (
	"fmt"
	"os"
	"syscall"
)

// deviceOf names the file system that holds path.
func deviceOf(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return path
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return path
	}
	return fmt.Sprint(st.Dev)
}
