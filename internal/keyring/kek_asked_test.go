package keyring

import (
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
)

// TestAsked: a person is asked again while the password is wrong, at most three
// times, and not after it was right.
func TestAsked(t *testing.T) {
	fsys := osfs.NewMem(osfs.MemOptions{})
	k, err := Create(fsys, "/keyring", []byte("right"), Params{Passes: 1, MemoryKiB: 8, Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	data := k.Bytes()
	asks := 0
	answers := func(texts ...string) KEK {
		asks = 0
		return Asked(func() ([]byte, error) {
			if asks++; asks > len(texts) {
				return nil, errors.New("nobody is there any more")
			}
			return []byte(texts[asks-1]), nil
		})
	}
	kek := answers("wrong", "right")
	for range 2 {
		if _, err := ParseWith(t.Context(), data, kek); err != nil {
			t.Fatal(err)
		}
	}
	if asks != 2 {
		t.Errorf("asked %d times, want 2", asks)
	}
	if _, err := ParseWith(t.Context(), data, answers("a", "b", "c", "right")); !errors.Is(err, fsapi.Unauthorized) || asks != 3 {
		t.Errorf("after %d wrong passwords: %v", asks, err)
	}
	if _, err := ParseWith(t.Context(), data, answers()); err == nil {
		t.Error("opened without a password")
	}
	if err := k.Wrap(t.Context(), answers("right")); err == nil {
		t.Error("wrapped with a password that was asked for")
	}
}
