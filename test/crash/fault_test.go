package crash

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// deadline ends the program, with all goroutines, where a test hangs.
func deadline(t *testing.T, d time.Duration) {
	timer := time.AfterFunc(d, func() {
		buf := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s hangs:\n%s", t.Name(), buf[:runtime.Stack(buf, true)]))
	})
	t.Cleanup(func() { timer.Stop() })
}

// TestDriveFaults lets calls of drives fail, in turns, with power cuts on the
// way: what fails says so with the right error and does nothing, what was
// acknowledged is kept, and when the faults end everything works.
func TestDriveFaults(t *testing.T) {
	runs := 3
	if long() {
		runs = 40
	}
	if *flagRuns > 0 {
		runs = *flagRuns
	}
	failed := 0
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, atTop := range []bool{false, true} {
			for seed := *flagSeed; seed < *flagSeed+uint64(runs); seed++ {
				name := fmt.Sprintf("%s-top=%v-%d", map[syscall.Errno]string{syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC"}[errno], atTop, seed)
				t.Run(name, func(t *testing.T) {
					deadline(t, 5*time.Minute)
					again := fmt.Sprintf("\nrepeat with\n\tgo test ./test/crash -run '^TestDriveFaults$/^%s$' -seed %d -histories 1 -count 20 -failfast", name, seed)
					f := newFaults(seed, errno, atTop)
					h, err := play(t.Context(), seed, 4, f)
					if err != nil {
						t.Errorf("%v%s", err, again)
					}
					failed += f.count
					if h == nil {
						return
					}
					h.options.Drive = nil
					for i := range h.points {
						if err := h.judge(t.Context(), &h.points[i]); err != nil {
							t.Errorf("crash %d: %v%s", i, err, again)
						}
					}
				})
			}
		}
	}
	if failed == 0 {
		t.Errorf("no call failed")
	}
	t.Logf("%d calls failed", failed)
}

// TestLogFaults lets the log of metadata fail for good while clients write.
func TestLogFaults(t *testing.T) {
	runs := 8
	if long() {
		runs = 150
	}
	if *flagRuns > 0 {
		runs = *flagRuns
	}
	for seed := *flagSeed; seed < *flagSeed+uint64(runs); seed++ {
		errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[seed/2%2]
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			deadline(t, 5*time.Minute)
			if err := failLog(t.Context(), seed, errno); err != nil {
				t.Errorf("%v\nrepeat with\n\tgo test ./test/crash -run '^TestLogFaults$' -seed %d -histories 1 -count 20 -failfast", err, seed)
			}
		})
	}
}
