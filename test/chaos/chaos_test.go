package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
)

var (
	flagSeed  = flag.Uint64("seed", 0, "the only seed to live through; 0: those there is time for")
	flagSteps = flag.Int("steps", 0, "steps of each life; 0: as many as there is time for")
	flagStory = flag.Bool("story", false, "print what happened, of lives that end well too")
	flagCalls = flag.String("calls", "", "a file that gets a line of each call of the last life")
	flagCut   = flag.Bool("shrink", true, "look for fewer steps after which a life that ends badly still does")
)

// steady is set, by the linker, in a binary in whose runtime a life repeats.
var steady string

// extent is how many lives there is time for, and of how many steps.
func extent(t *testing.T) (seeds uint64, steps int) {
	seeds, steps = 6, 60
	if os.Getenv("STRAKE_LONG") != "" {
		seeds, steps = uint64(number(t, "STRAKE_CHAOS_SEEDS", 500)), number(t, "STRAKE_CHAOS_STEPS", 200)
	}
	if *flagSteps != 0 {
		steps = *flagSteps
	}
	return seeds, steps
}

// number is what the environment says, if it does.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number of 1 or more", name, text)
	}
	return n
}

// TestChaos lives through lives.
func TestChaos(t *testing.T) {
	to, steps := extent(t)
	from := uint64(1)
	if *flagSeed != 0 {
		from, to = *flagSeed, *flagSeed
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			trace, err := live(t, seed, steps)
			if *flagStory {
				t.Log("\n" + strings.Join(trace, "\n"))
			}
			if err == nil {
				return
			}
			fewer := steps
			if *flagCut {
				fewer = shrink(t, seed, steps)
			}
			t.Errorf("%v\n\nWhat went before:\n%s\n\n%s", err, tail(trace, 40), again(seed, steps, fewer))
		})
	}
}

// again says how a life comes back.
func again(seed uint64, steps, fewer int) string {
	exact := fmt.Sprintf("STRAKE_CHAOS_STEPS=%d tools/chaos %d %d", steps, seed, seed)
	if steady != "" {
		return fmt.Sprintf("It repeats, call by call, with\n\t%s", exact)
	}
	return fmt.Sprintf(`In this binary goroutines run in another order each time. It comes back, maybe after some attempts, with
	GOMAXPROCS=1 go test ./test/chaos -run '^TestChaos$' -seed %d -steps %d -count 20 -failfast
In one order, the same each time, this seed is lived with
	%s`, seed, fewer, exact)
}

func tail(list []string, n int) string { return strings.Join(list[max(0, len(list)-n):], "\n") }

// live is one life of a number of steps.
func live(t *testing.T, seed uint64, steps int) (trace []string, err error) {
	all, end := steadied(t)
	defer end()
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		stir(seed)
		trace, err = lifetime(t.Context(), seed, steps, all)
	})
	if *flagCalls != "" {
		n, sum := all.so() // also of lines for which there was no room
		if err := os.WriteFile(*flagCalls, fmt.Appendf(all.lines(), "%d calls, %016x\n", n, sum), 0o600); err != nil {
			t.Error(err)
		}
	}
	return trace, err
}

// stir has chance begin elsewhere with each seed, so that select, maps and the order
// of goroutines go another way, not what the world does only.
func stir(seed uint64) {
	for range seed % 1000 * 1000 {
		rand.Uint64()
	}
}

// room is how many bytes of lines of calls are kept: more than there are in a life
// of 200 steps.
const room = 1 << 30

// steadied prepares the process for a life that repeats, in a binary for that, until
// end: garbage is collected only when the world says so, or when otherwise memory
// would run out.
func steadied(t *testing.T) (all *calls, end func()) {
	if steady == "" {
		if *flagCalls == "" {
			return newCalls(nil), func() {}
		}
		return newCalls(make([]byte, 0, room)), func() {}
	}
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Fatalf("a life repeats with GOMAXPROCS=1, not %d", n)
	}
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(4<<30)
	return newCalls(make([]byte, 0, room)), func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

func lifetime(ctx context.Context, seed uint64, steps int, all *calls) ([]string, error) {
	w, err := newWorld(ctx, seed, steady != "", all)
	if err != nil {
		return nil, err
	}
	w.collects = steady != ""
	if err := w.begin(); err != nil {
		return w.trace, errors.Join(err, w.s.Close())
	}
	for range steps {
		if err = w.next(); err != nil {
			err = fmt.Errorf("step %d: %w", w.steps, err)
			break
		}
	}
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		w.explain(err)
	}
	if e := w.end(); err == nil {
		err = e
	}
	return w.trace, err
}

// shrink finds fewer steps after which the life still ends badly.
func shrink(t *testing.T, seed uint64, steps int) int {
	for cut := steps / 2; cut > 0; cut /= 2 {
		for steps > cut {
			if _, err := live(t, seed, steps-cut); err == nil {
				break
			}
			steps -= cut
		}
	}
	return steps
}
