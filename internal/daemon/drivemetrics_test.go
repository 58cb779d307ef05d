package daemon

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/strakefs/strake/internal/api"
)

// Each drive has its own figures: state, calls with what they took, capacity.
func TestDriveMetrics(t *testing.T) {
	n, _, root := driveRig(t)
	ctx := t.Context()
	if _, err := n.addDrive(ctx, api.DriveAdd{Name: "two", Path: filepath.Join(root, "two"), Tier: "cold"}); err != nil {
		t.Fatal(err)
	}
	d, err := n.drives.set.Drive(n.drives.byName("two"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.Create(ctx, "seg/00/x", 3)
	if err == nil {
		if _, err = w.Write([]byte("abc")); err == nil {
			err = w.Commit(ctx)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	text := string(n.statsText())
	for _, want := range []string{
		`drive_state\{drive="main",state="online"\} 1`,
		`drive_state\{drive="two",state="online"\} 1`,
		`drive_calls_total\{call="write",drive="two"\} 1`,
		`drive_call_errors_total\{call="write",drive="two"\} 0`,
		`drive_call_bytes_total\{call="write",drive="two"\} 3`,
		`drive_call_latency_seconds\{call="commit",drive="two"\} 0\.\d*[1-9]`,
		`drive_available_bytes\{drive="main"\} [1-9]`,
	} {
		if !regexp.MustCompile(`(?m)^` + want).MatchString(text) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	s, err := n.showDrive(ctx, api.Named{Name: "two"})
	if err != nil || s.Latency["commit"] <= 0 {
		t.Errorf("what calls of the drive took is %v, %v", s.Latency, err)
	}
}
