package job

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/fsapi"
)

func full() Job {
	return Job{
		ID: 77, Kind: "scrub", Args: []string{"deep", ""}, State: Paused, Cursor: []byte{0, 1, 255},
		Progress: Progress{Done: 1, Total: 2, DoneBytes: -3, TotalBytes: 1 << 60},
		Created:  time.UnixMilli(0), Started: time.UnixMilli(1), Updated: time.UnixMilli(-5), Err: "e", Note: "n",
	}
}

func TestRecord(t *testing.T) {
	j := full()
	b := encodeJob(&j)
	got, err := parseJob(b)
	if err != nil || !cmp.Equal(got, j) {
		t.Fatalf("%v: %s", err, cmp.Diff(got, j))
	}
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			b[i] ^= bit
			if _, err := parseJob(b); !errors.Is(err, fsapi.Corrupt) && !errors.Is(err, fsapi.NotSupported) {
				t.Errorf("byte %d flipped: %v", i, err)
			}
			b[i] ^= bit
		}
		if _, err := parseJob(b[:i]); !errors.Is(err, fsapi.Corrupt) {
			t.Errorf("%d of %d bytes: %v", i, len(b), err)
		}
	}
	if _, err := parseJob(append(b, 0)); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("a byte more: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	j := full()
	f.Add(encodeJob(&j))
	f.Add(encodeJob(&Job{ID: 1, State: Done}))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := parseJob(b)
		if err != nil {
			return
		}
		again, err := parseJob(encodeJob(&j))
		if err != nil || !cmp.Equal(j, again) {
			t.Fatalf("%v: %s", err, cmp.Diff(j, again))
		}
	})
}
