package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// load is what the processors did up to a moment.
type load struct {
	at   time.Time
	busy float64 // seconds of all processors, for anybody
	own  float64 // of these, for this process and the programs it ran that have ended
}

// loadNow reads the processors' times (proc(5), stat) and the bench's own.
func loadNow() load {
	l := load{at: time.Now()}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l
	}
	line, _, _ := strings.Cut(string(b), "\n")
	const idle, iowait, steal, ticks = 3, 4, 7, 100 // fields after the name; USER_HZ
	for i, f := range strings.Fields(line)[1:] {
		if n, err := strconv.ParseFloat(f, 64); err == nil && i != idle && i != iowait && i <= steal {
			l.busy += n / ticks
		}
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			l.own += time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
		}
	}
	return l
}

// others is the part of the processors' time since then that went to others than
// the programs measured, the kernel's own threads among them.
func (l load) others() float64 {
	now := loadNow()
	all := now.at.Sub(l.at).Seconds() * float64(runtime.NumCPU())
	return max(now.busy-l.busy-(now.own-l.own), 0) / all
}
