package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/api"
)

// What is still to come of a policy at a path is what relayouts have not done that
// touch it.
func TestUnfinishedRelayouts(t *testing.T) {
	now := time.Now()
	j := func(id uint64, path, state string) api.Job {
		out := api.Job{ID: id, Args: []string{"main", path}, State: state}
		if state == "done" || state == "failed" || state == "cancelled" {
			out.Ended = &now
		}
		return out
	}
	jobs := []api.Job{ // the newest first
		j(9, "/a/b", "running"),
		j(8, "/ab", "paused"),
		j(7, "/a", "failed"),
		j(6, "/a/b/c", "cancelled"), // 7 did not, but was to
		j(5, "/x", "done"),
		j(4, "/x", "failed"),
		j(3, "/y", "cancelled"),
		j(2, "/x/y", "failed"),
		j(1, "/", "done"),
	}
	for path, want := range map[string][]uint64{
		"/":        {9, 8, 7, 3},
		"/a":       {9, 7},
		"/a/b/c/d": {9, 7},
		"/a/c":     {7},
		"/ab":      {8},
		"/x":       nil,
		"/x/y":     nil,
		"/y/z":     {3},
		"/z":       nil,
	} {
		var got []uint64
		for _, l := range unfinished(jobs, path) {
			got = append(got, l.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v are left to do, want %v", path, got, want)
		}
	}
}
