package daemon

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
)

// boundMemory has Go's runtime keep the process to limit bytes, softly. The pages of
// the program itself are resident as well, which the runtime does not count: it gets
// the rest, and half at least. GOMEMLIMIT, where it is set, wins.
func boundMemory(limit int64) {
	if limit <= 0 || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		maps = nil // not Linux
	}
	debug.SetMemoryLimit(max(limit-programSize(maps), limit/2))
}

// programSize is the bytes that are mapped of the program's own file, where maps is
// /proc/self/maps (proc_pid_maps(5)): the first mapping is of that file. 0: not known.
func programSize(maps []byte) (size int64) {
	inode := ""
	for line := range bytes.Lines(maps) {
		f := bytes.Fields(line)
		if len(f) < 6 {
			continue
		}
		from, to, ok := bytes.Cut(f[0], []byte("-"))
		first, err1 := strconv.ParseInt(string(from), 16, 64)
		end, err2 := strconv.ParseInt(string(to), 16, 64)
		if !ok || err1 != nil || err2 != nil {
			continue
		}
		file := string(f[3]) + " " + string(f[4]) // device and inode
		if inode == "" {
			inode = file
		}
		if file == inode {
			size += end - first
		}
	}
	return size
}
