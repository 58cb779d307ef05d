package chaos

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestRepeats lives some lives twice, built and run as a campaign does, and compares
// each call of the file system, the drives and the buckets, and when it was by the
// bubble's clock: each life ends well and goes the same way twice.
func TestRepeats(t *testing.T) {
	if os.Getenv("STRAKE_LONG") == "" {
		t.Skip("builds everything anew, with another runtime; STRAKE_LONG=1 runs it")
	}
	ctx, end := context.WithTimeout(t.Context(), 30*time.Minute)
	defer end()
	c := exec.CommandContext(ctx, "../../tools/chaos", "1", "8", t.TempDir())
	c.Env = append(os.Environ(), "CHAOS_TWICE=1", "CHAOS_JOBS=1", "STRAKE_CHAOS_STEPS=30")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
}
