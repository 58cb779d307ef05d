package fsapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

func TestKindOfIsTheOutermost(t *testing.T) {
	inner := Errorf(IO, "read: %w", fs.ErrClosed)
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{Corrupt, Corrupt},
		{inner, IO},
		{fmt.Errorf("while: %w", inner), IO},
		{Wrap(NoSpace, inner, "write"), NoSpace},
		{errors.Join(errors.New("x"), Errorf(Busy, "y")), Busy},
		{errors.Join(errors.New("x"), Quota), Quota},
		{fmt.Errorf("wait: %w", context.Canceled), Interrupted},
		{context.DeadlineExceeded, TimedOut},
		{errors.New("plain"), Other},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("KindOf(%v) = %v, want %v", c.err, got, c.want)
		}
		if c.want != Other && c.want != Interrupted && c.want != TimedOut && !errors.Is(c.err, c.want) {
			t.Errorf("errors.Is(%v, %v) is false", c.err, c.want)
		}
	}
	if !errors.Is(Wrap(NoSpace, inner, "write"), fs.ErrClosed) || !errors.Is(Wrap(NoSpace, inner, "write"), IO) {
		t.Error("a wrapped cause is hidden from errors.Is")
	}
	if Wrap(IO, nil, "nothing") != nil {
		t.Error("Wrap made an error of nil")
	}
}

// A cause is printed once, however often it is wrapped.
func TestErrorTextHasTheCauseOnce(t *testing.T) {
	err := Wrap(NoSpace, Errorf(IO, "read blob: %w", errors.New("disk fell off")), "pack")
	if got, want := err.Error(), "pack: read blob: disk fell off"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestEveryKindHasItsOwnText(t *testing.T) {
	seen := map[string]Kind{}
	for k := range Kind(KindCount) {
		text := k.Error()
		if other, ok := seen[text]; ok || text == "" || strings.HasPrefix(text, "error kind") {
			t.Errorf("kind %d: text %q, also of kind %d", k, text, other)
		}
		seen[text] = k
	}
}

func TestIDsReadBackWhatTheyWrote(t *testing.T) {
	c, s := ChunkID{1, 2, 255}, SegmentID{9, 15: 1}
	if got, err := ParseChunkID(c.String()); err != nil || got != c {
		t.Errorf("chunk id %v: %v, %v", c, got, err)
	}
	if got, err := ParseSegmentID(s.String()); err != nil || got != s || !got.IsJournal() {
		t.Errorf("segment id %v: %v, %v", s, got, err)
	}
	for _, bad := range []string{"", "xy", "00", strings.Repeat("0", 63)} {
		if _, err := ParseChunkID(bad); !errors.Is(err, Invalid) {
			t.Errorf("chunk id %q: %v, want invalid", bad, err)
		}
		if _, err := ParseSegmentID(bad); !errors.Is(err, Invalid) {
			t.Errorf("segment id %q: %v, want invalid", bad, err)
		}
	}
	for _, c := range []Cipher{CipherNone, CipherAES256GCM, CipherXChaCha20} {
		if got, err := ParseCipher(c.String()); err != nil || got != c {
			t.Errorf("cipher %v: %v, %v", c, got, err)
		}
	}
}
