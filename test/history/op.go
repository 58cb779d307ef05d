package history

import (
	"fmt"
	"math/rand/v2"
)

// kind is what an operation does.
type kind uint8

const (
	opCreate kind = iota
	opMknod
	opMkdir
	opSymlink
	opLink
	opUnlink
	opRmdir
	opRename
	opLookup
	opGetattr
	opChmod
	opChown
	opTruncate
	opUtimes
	opAccess
	opReadlink
	opOpen
	opClose
	opRead
	opWrite
	opAppend
	opFtruncate
	opAllocate
	opSeek
	opCopy
	opSync
	opFlush
	opLock
	opGetlk
	opGetxattr
	opSetxattr
	opListxattr
	opRemovexattr
	opSetACL
	opReaddir
	opParent
	opBatch
	opSyncfs
	opDropCaches
	opUpkeep
	opRestart
	opCompare
	kinds
)

// weights says how often each kind comes.
var weights = [kinds]struct {
	name   string
	weight int
}{
	opCreate: {"create", 70}, opMknod: {"mknod", 20}, opMkdir: {"mkdir", 25}, opSymlink: {"symlink", 10},
	opLink: {"link", 15}, opUnlink: {"unlink", 30}, opRmdir: {"rmdir", 12}, opRename: {"rename", 40},
	opLookup: {"lookup", 15}, opGetattr: {"getattr", 20}, opChmod: {"chmod", 12}, opChown: {"chown", 8},
	opTruncate: {"truncate", 15}, opUtimes: {"utimes", 10}, opAccess: {"access", 8}, opReadlink: {"readlink", 4},
	opOpen: {"open", 50}, opClose: {"close", 25}, opRead: {"read", 80}, opWrite: {"write", 160},
	opAppend: {"append", 20}, opFtruncate: {"ftruncate", 30}, opAllocate: {"allocate", 30}, opSeek: {"seek", 20},
	opCopy: {"copy", 25}, opSync: {"sync", 30}, opFlush: {"flush", 5}, opLock: {"lock", 15}, opGetlk: {"getlk", 5},
	opGetxattr: {"getxattr", 6}, opSetxattr: {"setxattr", 10}, opListxattr: {"listxattr", 4},
	opRemovexattr: {"removexattr", 4}, opSetACL: {"setacl", 8}, opReaddir: {"readdir", 15}, opParent: {"parent", 6},
	opBatch: {"batch", 12}, opSyncfs: {"syncfs", 8}, opDropCaches: {"drop caches", 6}, opUpkeep: {"upkeep", 5},
	opRestart: {"restart", 1}, opCompare: {"compare", 2},
}

func (k kind) String() string { return weights[k].name }

// op is one operation: its numbers choose from what is there when it runs.
type op struct {
	kind kind
	r    [8]uint32
}

// String is the operation's numbers, for repeating it.
func (o op) String() string { return fmt.Sprintf("%s%v", o.kind, o.r) }

// generate draws n operations. Kinds in without do not come.
func generate(seed uint64, n int, without ...kind) []op {
	rnd := rand.New(rand.NewPCG(seed, 0x5742a4e))
	w := weights
	for _, k := range without {
		w[k].weight = 0
	}
	total := 0
	for _, x := range w {
		total += x.weight
	}
	ops := make([]op, n)
	for i := range ops {
		at := rnd.IntN(total)
		for k := range kinds {
			if at -= w[k].weight; at < 0 {
				ops[i].kind = k
				break
			}
		}
		for j := range ops[i].r {
			ops[i].r[j] = rnd.Uint32()
		}
	}
	return ops
}
