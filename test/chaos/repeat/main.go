// Command repeat writes an overlay for go build with which a bubble of
// testing/synctest goes the same way each time, in a process of one processor: the
// Go runtime with the little changed that chance and the wall clock have a part in.
//
//	go run ./test/chaos/repeat DIR
//
// puts the changed files and DIR/overlay.json there. Only test binaries are built
// with it.
//
// It owns: what in the runtime depends on anything but the program. It must not
// know what is tested. A change that does not fit the runtime there is, of another
// version of Go, is an error, never left out.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: repeat DIR")
		os.Exit(2)
	}
	src, err := source()
	if err == nil {
		err = write(src, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "repeat:", err)
		os.Exit(1)
	}
}

// source is where the runtime is that the go command builds with.
func source() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src", "runtime"), nil
}

// edit is a change of a file: old is there exactly once.
type edit struct{ file, old, now string }

// edits are all. Where the comments speak of chance they mean the bubble's, a
// stream that begins in the same way in each; nobody but its goroutines draws from
// it, so that what the rest of the process does at the same time does not matter.
var edits = []edit{
	// Each bubble has a stream.
	{"synctest.go", `	id      uint64 // unique id
`, `	id      uint64 // unique id
	chance  uint64 // state of chance

	untilYield int64 // bytes that are allocated until a goroutine is preempted
`},
	{"synctest.go", `var bubbleGen atomic.Uint64 // bubble ID counter
`, `var bubbleGen atomic.Uint64 // bubble ID counter

// outside is the stream of all goroutines that are in no bubble.
var outside synctestBubble

// random is the next number of the stream, by splitmix64.
//
//go:nosplit
func (bubble *synctestBubble) random() uint64 {
	bubble.chance += 0x9e3779b97f4a7c15
	x := bubble.chance
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// currentBubble is that of the goroutine that runs, or on whose behalf the system
// stack is used; nil: of none.
//
//go:nosplit
func currentBubble() *synctestBubble {
	gp := getg()
	if gp.bubble == nil && gp == gp.m.g0 && gp.m.curg != nil {
		gp = gp.m.curg
	}
	return gp.bubble
}

// choose is a number of [0, n).
func choose(n uint32) uint32 {
	if bubble := currentBubble(); bubble != nil {
		return uint32(bubble.random()>>32) % n
	}
	return uint32(outside.random()>>32) % n
}

// yieldEvery is how many bytes goroutines of a bubble allocate until one of them
// is preempted, on average.
const yieldEvery = 256 << 10
`},
	// What is random for a program: maps, hashes, math/rand/v2. What is drawn when
	// there is no bubble yet comes from one stream too, whichever thread asks.
	{"rand.go", `	globalRand.state.Init(*seed)
`, `	*seed = [32]byte{1}
	globalRand.state.Init(*seed)
`},
	{"rand.go", `	mp := getg().m
	c := &mp.chacha8
	for {
`, `	if bubble := currentBubble(); bubble != nil {
		return bubble.random()
	}
	return outside.random()
	mp := getg().m
	c := &mp.chacha8
	for {
`},
	{"rand.go", `	mp.cheaprand = rand()
`, `	mp.cheaprand = bootstrapRand()
`},
	// Which of a select's cases that are ready is taken.
	{"select.go", `		j := cheaprandn(uint32(norder + 1))
`, `		j := choose(uint32(norder + 1))
`},
	// Which of several timers of the same instant comes first.
	{"time.go", `			t.rand = cheaprand()
`, `			t.rand = uint32(getg().bubble.random() >> 32)
`},
	// When the results of type assertions and type switches are remembered, for which
	// memory is allocated.
	{"iface.go", `	if cheaprand()&1023 != 0 {
		// Only bother updating the cache ~1 in 1000 times.
		return tab
`, `	if choose(1<<31)&1023 != 0 {
		// Only bother updating the cache ~1 in 1000 times.
		return tab
`},
	{"iface.go", `	if cheaprand()&1023 != 0 {
		// Only bother updating the cache ~1 in 1000 times.
		// This ensures`, `	if choose(1<<31)&1023 != 0 {
		// Only bother updating the cache ~1 in 1000 times.
		// This ensures`},
	{"iface.go", `	if cheaprand()&uint32(oldC.Mask) != 0 {
		// As cache gets larger, choose to update it less often
		// so we can amortize the cost of building a new cache.
`, `	if choose(1<<31)&uint32(oldC.Mask) != 0 {
		// As cache gets larger, choose to update it less often
		// so we can amortize the cost of building a new cache.
`},
	{"iface.go", `	if cheaprand()&uint32(oldC.Mask) != 0 {
		// As cache gets larger, choose to update it less often
		// so we can amortize the cost of building a new cache
`, `	if choose(1<<31)&uint32(oldC.Mask) != 0 {
		// As cache gets larger, choose to update it less often
		// so we can amortize the cost of building a new cache
`},
	// A mutex turns fair after a time by the wall clock.
	{"sema.go", `func internal_sync_nanotime() int64 {
`, `func internal_sync_nanotime() int64 {
	if bubble := currentBubble(); bubble != nil {
		return bubble.now
	}
`},
	// Who waits for a mutex is idle, as who waits for a channel is: whoever holds it
	// may wait for the bubble's time to pass. No mutex is held outside for long.
	{"runtime2.go", `	waitReasonSyncCondWait:          true,
`, `	waitReasonSyncCondWait:          true,
	waitReasonSyncMutexLock:         true,
	waitReasonSyncRWMutexRLock:      true,
	waitReasonSyncRWMutexLock:       true,
`},
	// What packages remember of the time when they began, against which those reckon
	// that have their own clock: the same in each process.
	{"time.go", `		return sec, nsec, 0
	}
	return time_now()
`, `		return sec, nsec, 0
	}
	if begins() {
		sec, nsec, _ = time_now()
		return sec, nsec, 1
	}
	return time_now()
`},
	{"time.go", `		return gp.bubble.now
	}
	return nanotime()
}

//go:linkname time_runtimeIsBubbled time.runtimeIsBubbled
`, `		return gp.bubble.now
	}
	if begins() {
		return 1
	}
	return nanotime()
}

// begins reports whether packages' variables are initialized still.
func begins() bool {
	c := *(**hchan)(unsafe.Pointer(&main_init_done))
	return c == nil || c.closed == 0
}

//go:linkname time_runtimeIsBubbled time.runtimeIsBubbled
`},
	// A goroutine is preempted after a time slice by the wall clock. What is left of
	// that is the end of one that hangs, so that a test's timeout comes through: after
	// so many looks, of at most 10 ms each, that saw it run. The clock would say so of
	// any goroutine after the process was stopped for a while.
	{"proc.go", `			pd.schedwhen = now
		} else if pd.schedwhen+forcePreemptNS <= now {
`, `			pd.schedwhen = 0
		} else if pd.schedwhen++; pd.schedwhen >= 6000 {
`},
	// While packages' variables are initialized, the first goroutine is not bound to a
	// thread. It would hand the processor to another one whenever it waits, and back,
	// and whether the other is asleep by then, or a third is made for which memory is
	// allocated, depends on the clock: all that is allocated from then on would lie
	// elsewhere.
	{"proc.go", `	// to preserve the lock.
	lockOSThread()
`, `	// to preserve the lock.
`},
	{"proc.go", `	needUnlock := true
	defer func() {
		if needUnlock {
			unlockOSThread()
		}
	}()

	gcenable()
`, `	gcenable()
`},
	{"proc.go", `	close(main_init_done)

	needUnlock = false
	unlockOSThread()
`, `	close(main_init_done)
`},
	// Nobody wakes by the clock to give memory back to the operating system: that is
	// done when some is allocated, if at all.
	{"mgcscavenge.go", `func (s *scavengerState) wake() {
`, `func (s *scavengerState) wake() {
	return
`},
	// Nor does a short call of the system hand the processor to another thread, for
	// which memory would be allocated.
	{"proc.go", `!sysretake && int64(pd.syscalltick) != syst {
`, `!sysretake {
`},
	// Instead it is preempted where chance has it: after so many bytes were allocated
	// by the bubble's goroutines, wherever that is.
	{"malloc.go", `	if size == 0 {
		return unsafe.Pointer(&zerobase)
	}

	if sizeSpecializedMallocEnabled && heapBitsInSpan(size) {
`, `	if size == 0 {
		return unsafe.Pointer(&zerobase)
	}

	if gp := getg(); gp.bubble != nil {
		if gp.bubble.untilYield -= int64(size); gp.bubble.untilYield < 0 {
			gp.bubble.untilYield = int64(gp.bubble.random() % (2 * yieldEvery))
			gp.preempt = true
			gp.stackguard0 = stackPreempt
		}
	}

	if sizeSpecializedMallocEnabled && heapBitsInSpan(size) {
`},
	// Which of those that may run runs next: they wait in one queue, in order, but for
	// those that chance has wait for a turn although they were woken just now. In the
	// queue of all processors they would have one by what else the process has to do.
	{"runtime2.go", "	runq     [256]guintptr\n", "	runq     [1024]guintptr\n"},
	{"proc.go", "batch *[256]guintptr", "batch *[1024]guintptr"},
	{"proc.go", `		// so it can keep running immediately after the STW.
		runqput(pp, gp, true)
	} else {
`, `		// so it can keep running immediately after the STW.
		runqput(pp, gp, true)
	} else if gp.bubble != nil {
		runqput(pp, gp, false)
	} else {
`},
	{"proc.go", `	if randomizeScheduler && next && randn(2) == 0 {
		next = false
	}
`, `	if bubble := currentBubble(); next && gp.bubble != nil && gp.bubble == bubble && bubble.random()%4 == 0 {
		next = false
	}
`},
}

// write writes the overlay of the runtime in src into dir.
func write(src, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	texts := map[string]string{}
	var errs []error
	for _, e := range edits {
		text, ok := texts[e.file]
		if !ok {
			data, err := os.ReadFile(filepath.Join(src, e.file))
			if err != nil {
				return err
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			errs = append(errs, fmt.Errorf("%s has %d times, not once, what is to be changed:\n%s", filepath.Join(src, e.file), n, e.old))
		}
		texts[e.file] = strings.Replace(text, e.old, e.now, 1)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, text := range texts {
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return err
		}
		overlay.Replace[filepath.Join(src, name)] = to
	}
	data, err := json.MarshalIndent(overlay, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o644)
}
