package crash

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	flagSeed = flag.Uint64("seed", 0, "seed of the first history")
	flagRuns = flag.Int("histories", 0, "number of histories; 0: as many as there is time for")
)

// long reports whether there is time.
func long() bool { return os.Getenv("STRAKE_LONG") != "" }

// pointsEach is how many clones are taken of one history.
const pointsEach = 10

// TestPowerCut cuts the power at calls of the file system, chosen at random,
// under everything that the store does, and checks what is left. The order in
// which goroutines run is not the seed's: a failure may need several runs of
// its seed to show again.
func TestPowerCut(t *testing.T) {
	runs := 15
	if long() {
		runs = 220 // 2200 points
	}
	if *flagRuns > 0 {
		runs = *flagRuns
	}
	total := 0
	for seed := *flagSeed; seed < *flagSeed+uint64(runs); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			deadline(t, 5*time.Minute)
			h, err := play(t.Context(), seed, pointsEach, nil)
			if err != nil {
				t.Errorf("before any crash: %v\n%s", err, repeat(seed))
			}
			if h == nil {
				return
			}
			for i := range h.points {
				p := &h.points[i]
				total++
				if err := h.judge(t.Context(), p); err != nil {
					t.Errorf("crash %d, at %s of %s: %v\n%s", p.n, p.at.Op, p.at.Name, err, repeat(seed))
				}
				p.disk = nil
			}
		})
	}
	t.Logf("%d crash points", total)
}

func repeat(seed uint64) string {
	return fmt.Sprintf("\nrepeat with\n\tgo test ./test/crash -run '^TestPowerCut$' -seed %d -histories 1 -count 20 -failfast", seed)
}
