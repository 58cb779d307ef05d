// Package vfstest is the conformance suite of vfs.FS: what a door relies on,
// one behaviour a case, from POSIX.1-2017 and the Linux manual pages.
//
// It owns: the cases. It must not know an implementation; what one may do
// differently it says in Caps.
package vfstest

import (
	"testing"

	"github.com/strakefs/strake/internal/vfs"
)

// Caps says what an implementation does where the seam leaves a choice.
type Caps struct {
	// Tick returns when the clock that stamps inodes has moved; nil waits for
	// the machine's.
	Tick func()
	// Skip names cases that do not apply, each with the reason.
	Skip map[string]string
}

// test is one behaviour. It gets a volume of its own.
type test struct {
	name string
	run  func(e *env)
}

// Run runs every case, each on what open returns: an empty volume whose root
// belongs to root with mode 0755, with relatime and without trash. open must
// clean up after itself with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) vfs.FS, caps Caps) {
	for _, tc := range tests() {
		t.Run(tc.name, func(t *testing.T) {
			if why := caps.Skip[tc.name]; why != "" {
				t.Skip(why)
			}
			tc.run(newEnv(t, open(t), caps))
		})
	}
}

func tests() []test {
	var all []test
	for _, some := range [][]test{
		nameTests(), makeTests(), linkTests(), renameTests(), attrTests(), timeTests(), permTests(), modeTests(),
		aclTests(), fileTests(), allocTests(), seekTests(), copyTests(), orphanTests(), dirTests(), lockTests(),
		xattrTests(), batchTests(), watchTests(), walkTests(), statTests(), concurrentTests(),
	} {
		all = append(all, some...)
	}
	return all
}
