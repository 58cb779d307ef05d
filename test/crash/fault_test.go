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
	testFaults(t, "TestDriveFaults", []string{inDrives, inFiles}, 3, 40)
}

// TestLogFaults does the same to the metadata engine, which goes on by itself
// when the faults end.
func TestLogFaults(t *testing.T) {
	testFaults(t, "TestLogFaults", []string{inLog}, 5, 80)
}

func testFaults(t *testing.T, test string, places []string, short, campaign int) {
	runs := short
	if long() {
		runs = campaign
	}
	if *flagRuns > 0 {
		runs = *flagRuns
	}
	failed := 0
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, where := range places {
			for seed := *flagSeed; seed < *flagSeed+uint64(runs); seed++ {
				name := fmt.Sprintf("%s-%s-%d", map[syscall.Errno]string{syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC"}[errno], where, seed)
				t.Run(name, func(t *testing.T) {
					deadline(t, 5*time.Minute)
					again := fmt.Sprintf("\nrepeat with\n\tgo test ./test/crash -run '^%s$/^%s$' -seed %d -histories 1 -count 20 -failfast", test, name, seed)
					f := newFaults(seed, errno, where)
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
