package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	flagSeed  = flag.Uint64("seed", 0, "the only seed to live through; 0: those there is time for")
	flagSteps = flag.Int("steps", 0, "steps of each life; 0: as many as there is time for")
	flagStory = flag.Bool("story", false, "print what happened, of lives that end well too")
	flagCut   = flag.Bool("shrink", true, "look for fewer steps after which a life that ends badly still does")
)

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
			t.Errorf("%v\n\nWhat went before:\n%s\n\nrepeat with\n\tgo test ./test/chaos -run '^TestChaos$' -seed %d -steps %d -story", err, tail(trace, 40), seed, fewer)
		})
	}
}

func tail(list []string, n int) string { return strings.Join(list[max(0, len(list)-n):], "\n") }

// live is one life of a number of steps.
func live(t *testing.T, seed uint64, steps int) (trace []string, err error) {
	synctest.Test(t, func(t *testing.T) { trace, err = lifetime(t.Context(), seed, steps) })
	return trace, err
}

func lifetime(ctx context.Context, seed uint64, steps int) ([]string, error) {
	w, err := newWorld(ctx, seed)
	if err != nil {
		return nil, err
	}
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
