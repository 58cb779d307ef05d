package drive_test

import (
	"path"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/drive"
)

// FuzzCheckName looks for a name that is accepted and leads out of a drive's
// directory or into its private one.
func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a", "seg/ab/0123", "a/../b", "/a", "a//b", ".strake/drive", "a/.b", "a\x00", strings.Repeat("x", 201), "1/2/3/4/5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if drive.CheckName(name) != nil {
			return
		}
		if path.Clean(name) != name || path.IsAbs(name) || len(name) > drive.MaxName || strings.Count(name, "/") >= drive.MaxParts {
			t.Errorf("%q is accepted", name)
		}
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part[0] == '.' {
				t.Errorf("%q is accepted", name)
			}
		}
	})
}
